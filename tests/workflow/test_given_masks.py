"""Masks that others made, as rows of the table: fetched, named by path, packed for a server, stale when they change."""

import functools
import hashlib
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from flow import CONFIG, planned, snakemake, write

from corrbench.config import Config
from corrbench.errors import Refusal
from corrbench.report.table import read_table
from corrbench.report.targets import check_published


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_masks_of_others_are_rows_like_any_other(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    write(tmp_path, {**CONFIG, "runs": [{"methods": ["identity"], "weights": ["none"], "benchmarks": ["tiny-val"]}]})
    snakemake(tmp_path, "--", "results/table.csv", cores=2)
    made = tmp_path / "results/tiny-val/identity.none.identity/masks"
    shutil.make_archive(str(site / "theirs"), "zip", made)
    shutil.copytree(made, tmp_path / "mine")
    address = f"http://127.0.0.1:{httpd.server_port}/theirs.zip"
    row = {"name": "theirs", "method": "Theirs", "backbone": "R50", "benchmark": "tiny-val", "published": "tiny-identity", "file": "theirs.zip", "addresses": [address]}  # fmt: skip
    (tmp_path / "rows/masks").mkdir(parents=True)
    (tmp_path / "rows/masks/theirs.yaml").write_text(yaml.safe_dump(row))
    masks = ["theirs", {"name": "mine", "path": "mine", "benchmark": "tiny-val"}, {"name": "sent", "path": "mine", "benchmark": "tiny-server"},
             {"name": "later", "file": "set/later", "benchmark": "tiny-val", "instructions": "ask for it"}]  # fmt: skip
    config = {**CONFIG, "missing": "skip", "runs": CONFIG["runs"][:1], "masks": masks}
    write(tmp_path, config)

    snakemake(tmp_path, cores=2)
    results = tmp_path / "results"
    table = read_table(results / "table.csv").set_index("entry")
    copied = table.loc["identity.none.identity"]
    for name in ("theirs", "mine"):
        given = table.loc[f"{name}.masks.given"]
        assert given["J&F"] == copied["J&F"] and given["F-decay"] == copied["F-decay"]
        assert given["device"] != given["device"] and given["torch"] != given["torch"], "nobody knows"
    assert (
        table.loc["theirs.masks.given", "published"] == 50.0 and table.loc["theirs.masks.given", "method"] == "Theirs"
    )
    assert table.loc["mine.masks.given", "published"] != table.loc["mine.masks.given", "published"]
    assert (results / "tiny-server/sent.masks.given/submission.zip").is_file()
    assert "later.masks.given | tiny-val | masks that others made, set" in (results / "table.md").read_text()
    assert "theirs.masks.given" in (results / "paper/tiny-val.md").read_text()
    assert not planned(tmp_path)

    shutil.copytree(tmp_path / "mine", tmp_path / "elsewhere")  # a copy makes nothing stale
    write(tmp_path, {**config, "masks": [masks[0], {**masks[1], "path": "elsewhere"}, *masks[2:]]})
    assert set(planned(tmp_path)) <= {"table", "report", "plots"}
    write(tmp_path, config)
    shutil.copy(tmp_path / "mine/one/00002.png", tmp_path / "mine/three/00003.png")
    assert planned(tmp_path)["import_masks"] == ["tiny-server/sent.masks.given", "tiny-val/mine.masks.given"]
    again = tmp_path / "results/again.yaml"
    again.write_text(yaml.safe_dump({"rows": config["rows"], "masks": [masks[1]], "device": "cpu"}))
    snakemake(tmp_path, "-n", "--configfile", again)
    httpd.shutdown()


def test_refusals_of_given_masks(tmp_path):
    base = {"name": "mine", "path": "nowhere", "benchmark": "davis2017-val"}
    there = {"data": {"davis2017": "download"}}
    with pytest.raises(Refusal, match=r"masks mine: nothing at /.*nowhere"):
        Config({**there, "masks": [base]}).check_data()
    with pytest.raises(Refusal, match="nothing to measure"):
        Config({**there, "runs": []})
    with pytest.raises(Refusal, match="a benchmark of boxes"):
        Config({**there, "masks": [{**base, "benchmark": "otb100"}]})
    with pytest.raises(Refusal, match="two entries with the id"):
        Config({**there, "masks": [base, base]})
    with pytest.raises(Refusal, match="liir-full"):
        Config({**there, "masks": ["liir-fall"]})
    with pytest.raises(Refusal, match="expected"):
        Config({**there, "masks": [{"name": "mine", "benchmark": "davis2017-val"}]})
    for inside in ("../x", "/x"):
        with pytest.raises(Refusal, match="inside"):
            Config({**there, "masks": [{**base, "inside": inside}]})
    fetched = [{"name": n, "benchmark": "davis2017-val", "file": "a.zip", "addresses": [f"http://x/{n}"]} for n in ("a", "b")]  # fmt: skip
    with pytest.raises(Refusal, match="one archive for one name"):
        Config({**there, "masks": fetched})
    with pytest.raises(Refusal, match=r"no row 'liir-fall'(.|\n)*liir-full"):
        check_published(Config({**there, "masks": [{**base, "published": "liir-fall"}]}))
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/home.yaml").write_text("name: home\npath: ~/masks\nbenchmark: davis2017-val\n")
    (entry,) = Config({**there, "rows": [str(tmp_path)], "masks": ["home"]}).entries
    assert entry.given.path(tmp_path).is_absolute()


def test_masks_behind_links_and_the_published_hash(tmp_path):
    """A folder of linked sequences is as stale as any; an archive is the published one, or nothing is read."""
    write(tmp_path, {**CONFIG, "runs": [{"methods": ["identity"], "weights": ["none"], "benchmarks": ["tiny-val"]}]})
    snakemake(tmp_path, "--", "results/table.csv", cores=2)
    made = tmp_path / "results/tiny-val/identity.none.identity/masks"
    shutil.copytree(made, tmp_path / "disk")
    (tmp_path / "linked").mkdir()
    for name in ("one", "three"):
        (tmp_path / "linked" / name).symlink_to(tmp_path / "disk" / name)
    shutil.make_archive(str(tmp_path / "packed"), "zip", made)
    sha = hashlib.sha256((tmp_path / "packed.zip").read_bytes()).hexdigest()
    rows = [{"name": "linked", "path": "linked", "benchmark": "tiny-val"},
            {"name": "packed", "path": "packed.zip", "benchmark": "tiny-val", "hash": {"algorithm": "sha256", "value": sha}}]  # fmt: skip
    write(tmp_path, {**CONFIG, "runs": [], "masks": rows})
    snakemake(tmp_path, "--", "results/table.csv", cores=2)
    assert set(read_table(tmp_path / "results/table.csv")["weights"]) == {"masks"}
    shutil.copy(tmp_path / "disk/one/00002.png", tmp_path / "disk/three/00002.png")
    assert planned(tmp_path, "--", "results/table.csv")["import_masks"] == ["tiny-val/linked.masks.given"]
    shutil.copy(made / "three/00002.png", tmp_path / "disk/three/00002.png")
    rows[1]["hash"] = {"algorithm": "sha256", "value": "0" * 64}
    write(tmp_path, {**CONFIG, "runs": [], "masks": rows})
    refused = snakemake(tmp_path, "--", "results/table.csv", check=False)
    log = (tmp_path / "results/logs/import_masks/tiny-val/packed.masks.given.log").read_text()
    assert refused.returncode and "published is 0000" in log
