"""Data sets and weights from addresses: a server on 127.0.0.1 stands for the sites, the rest is the real workflow."""

import functools
import hashlib
import json
import subprocess
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
import torch
import warm
import yaml
from conftest import ROOT
from flow import ROWS, planned, snakemake

from corrbench.datasets.synthetic import write_davis
from corrbench.encoders.resnet import random_resnet


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def site(tmp_path):
    """Serves tmp_path/site."""
    folder = tmp_path / "site"
    folder.mkdir()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


def test_from_addresses_to_the_table(tmp_path, site):
    """A DAVIS-style zip and a checkpoint are fetched, checked, unpacked, converted, scored; a second run fetches nothing."""
    folder, address = site
    write_davis(tmp_path / "DAVIS", ["three", "one"], split="val", frames=5, height=48, width=80, seed=0)
    with zipfile.ZipFile(folder / "tiny.zip", "w") as archive:
        for path in sorted((tmp_path / "DAVIS").rglob("*")):
            archive.write(path, path.relative_to(tmp_path))
    torch.save({"state_dict": random_resnet("resnet18", 3)}, folder / "mine.pth")
    sha = hashlib.sha256((folder / "mine.pth").read_bytes()).hexdigest()
    run = tmp_path / "run"
    disk = yaml.safe_load((ROWS / "benchmarks/tiny-val.yaml").read_text()) | {"name": "tiny-site", "data": "tiny"}
    del disk["generate"]
    rows = {
        "benchmarks/tiny-site": disk,
        "datasets/tiny": {
            "name": "tiny", "title": "tiny data from a site", "root": "DAVIS",
            "archives": [{"file": "tiny.zip", "addresses": [f"{address}/gone.zip", f"{address}/tiny.zip"], "splits": ["val"]}],
            "layout": [{"files": "JPEGImages/480p/*", "what": "sequences", "count": 2}],
        },
        "methods/mine": {
            "base": "vfs-r18", "name": "mine", "protocol": "crw",
            "released": {"file": "mine.pth", "addresses": [f"{address}/mine.pth"], "license": "none",
                         "hash": {"algorithm": "sha256", "value": sha, "on_mismatch": "refuse"}},
        },
    }  # fmt: skip
    for name, row in rows.items():
        (run / "rows" / name).parent.mkdir(parents=True, exist_ok=True)
        (run / "rows" / f"{name}.yaml").write_text(yaml.safe_dump(row))
    config = {
        "device": "cpu", "rows": ["rows"], "data": {"tiny": "download"},
        "runs": [{"methods": ["mine"], "weights": ["released"], "benchmarks": ["tiny-site"]}],
    }  # fmt: skip
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    snakemake(run, "--", "results/table.csv")
    table = pd.read_csv(run / "results/table.csv")
    assert table["entry"].tolist() == ["mine.released.crw"] and table["J&F"].between(0, 100).all()
    assert planned(run, "--", "results/table.csv") == {}
    log = (run / "results/logs/download/datasets/tiny/tiny.zip.log").read_text()
    assert "100" in log or log == "" or "tiny.zip" in log

    (folder / "mine.pth").write_bytes(b"altered")
    (run / "results/downloads/mine/mine.pth").unlink()
    failed = snakemake(run, "--forcerun", "download", "--", "results/table.csv", check=False)
    text = failed.stdout + failed.stderr
    assert failed.returncode == 1 and "mine.pth: sha256 is" in text and "published is" in text
    assert not (run / "results/downloads/mine/mine.pth").exists()


def test_gated_data_sets_say_what_to_do(tmp_path):
    config = {
        "data": {"got10k": "download"},
        "runs": [{"methods": ["identity"], "weights": ["none"], "benchmarks": ["tiny-got"]}],
    }
    row = yaml.safe_load((ROWS / "benchmarks/tiny-val.yaml").read_text()) | {"name": "tiny-got", "data": "got10k"}
    (tmp_path / "rows/benchmarks").mkdir(parents=True)
    (tmp_path / "rows/benchmarks/tiny-got.yaml").write_text(yaml.safe_dump(row))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**config, "rows": ["rows"]}))
    failed = snakemake(tmp_path, "-n", check=False)
    text = failed.stdout + failed.stderr
    assert failed.returncode == 1 and "can be fetched by a program" in text and "after registration" in text


def dataset(*arguments):
    command = [warm.python(), "-m", "scripts.dataset", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["otb100", "got10k", "kinetics400", "youtube-vos", "davis2016"])
def test_a_missing_data_set_is_refused_with_instructions(tmp_path, name):
    done = dataset(name, "--root", tmp_path / "nothing")
    assert done.returncode == 1 and "as it should be" in done.stderr and "what to do" in done.stderr
    row = yaml.safe_load((ROOT / f"config/datasets/{name}.yaml").read_text())
    assert row["instructions"].splitlines()[0] in done.stderr
    assert row["instructions"].splitlines()[0] in dataset(name).stdout


def test_a_placed_data_set_is_verified(tmp_path):
    for i in range(98):
        (tmp_path / f"S{i}" / "img").mkdir(parents=True)
        (tmp_path / f"S{i}" / "groundtruth_rect.txt").touch()
    done = dataset("otb100", "--root", tmp_path)
    assert (
        done.returncode == 1 and "annotation files (*/groundtruth_rect*.txt): 98, expected at least 100" in done.stderr
    )
    for i in range(2):
        (tmp_path / f"S{i}" / "groundtruth_rect.2.txt").touch()
    done = dataset("otb100", "--root", tmp_path)
    assert done.returncode == 0 and "sequences (*/img): 98, expected 98" in done.stdout
    assert json.dumps(done.stdout).count("expected") == 2
