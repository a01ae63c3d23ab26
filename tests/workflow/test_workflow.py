"""The real Snakemake on tiny data: the whole DAG once, then what a change makes stale."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch
import warm
import yaml
from conftest import ROOT
from flow import CONFIG, ROWS, WARM, planned, snakemake, write

from corrbench.encoders.resnet import random_resnet
from corrbench.files import SEAL, write_record
from corrbench.report.table import COLUMNS, read_table
from scripts.plan import lines, parse_jobs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One complete run."""
    folder = tmp_path_factory.mktemp("workflow")
    write(folder)
    snakemake(folder, cores=2)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the complete run, to change. Times are kept; the metadata travels with it."""
    copy = tmp_path / "run"
    shutil.copytree(finished, copy, symlinks=True)
    return copy


def test_everything_is_there(finished):
    table = read_table(finished / "results/table.csv")
    assert list(table.columns) == list(COLUMNS)
    assert list(table["entry"]) == [
        "identity.none.identity",
        "random-r18.random.warm",
        "random-r18.random.dino",
        "random-r18.random.warm",
    ]
    assert set(table["benchmark"]) == {"tiny-val", "tiny-server"}
    scored = table[table["benchmark"] == "tiny-val"]
    assert scored["J&F"].between(0, 100).all() and table[table["benchmark"] == "tiny-server"]["J&F"].isna().all()
    assert scored.iloc[0]["published"] == 50 and scored.iloc[0]["verdict"] in ("close", "differs", "reproduced")
    assert scored["fps"].isna().tolist() == [True, False, False]  # identity has neither network nor engine
    assert scored["fps"].iloc[1:].gt(0).all() and scored["weights_sha256"].notna().sum() == 2
    for name in ("table.md", "report.html", "plots/tiny-val/leaderboard.png", "plots/tiny-val/cost.svg", "paper/tiny-val.md",
                 "tiny-val/identity.none.identity/overlay.png", "tiny-val/random-r18.random.dino/masks/three/00004.png",
                 "tiny-server/random-r18.random.warm/submission.zip", "weights/random-r18/random/report.json"):  # fmt: skip
        assert (finished / "results" / name).stat().st_size > 0, name
    paper = (finished / "results/paper/davis2017-val.md").read_text()
    assert "not run" in paper and "67.61" in paper
    page = (finished / "results/report.html").read_text()
    assert "random-r18.random.dino" in page and "http" not in page.replace("http-equiv", "")


def explain(folder, *arguments):
    command = [warm.python(), "-m", "scripts.explain", *arguments, "--results", str(folder / "results")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_row_explains_itself_and_can_be_made_again(finished, tmp_path):
    done = explain(finished, "random-r18.random.warm", "--benchmark", "tiny-val")
    assert done.returncode == 0, done.stderr
    table = read_table(finished / "results/table.csv").set_index(["benchmark", "entry"])
    row = table.loc["tiny-val", "random-r18.random.warm"]
    for text in (f"J&F-Mean {row['J&F']:.2f}", row["weights_sha256"], row["protocol_hash"], row["data_fingerprint"],
                 "temperature: 0.07", "propagate: code", "torch 2", "seed: 0"):  # fmt: skip
        assert text in done.stdout
    lines = done.stdout.splitlines()
    text = lines[lines.index("To make it again, write this as again.yaml") + 1 : lines.index("and run")]
    again = yaml.safe_load("\n".join(text))
    shutil.copytree(finished / "rows", tmp_path / "rows")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(again))
    snakemake(tmp_path, "--", "results/again/table.csv")
    made = read_table(tmp_path / "results/again/table.csv").iloc[0]
    for column in ("J&F", "J-decay", "weights_sha256", "protocol_hash", "data_fingerprint", "code_version"):
        assert made[column] == row[column]
    assert "was measured on tiny-val, tiny-server" in explain(finished, "random-r18.random.warm").stderr
    assert "did you mean 'random-r18.random.warm'" in explain(finished, "random-r18.random.wram").stderr


def test_every_row_has_its_provenance(finished):
    rows = json.loads((finished / "results/provenance.json").read_text())["rows"]
    table = read_table(finished / "results/table.csv")
    assert [r["entry"] for r in rows] == list(table["entry"])
    for row in rows:
        assert row["data"]["inputs_fingerprint"] and row["protocol"]["hash"] and row["stages"]["propagate"]["code"]
        assert {"torch", "numpy"} <= set(row["stages"]["propagate"]["libraries"]) and row["stages"]["propagate"][
            "device"
        ]


def test_the_report_of_snakemake_needs_no_network(run):
    """Built in an empty network namespace where that is allowed."""
    snakemake(run, "--report", "report.zip")
    inside = subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0
    if inside:
        os.remove(run / "report.zip")
        command = ["unshare", "--net", sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile",
                   "config.yaml", "--report", "report.zip"]  # fmt: skip
        done = subprocess.run(
            command, cwd=run, capture_output=True, text=True, env={**os.environ, "CORRBENCH_GPUS": ""}
        )
        assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(run / "report.zip") as archive:
        text = b"".join(archive.read(n) for n in archive.namelist() if n.endswith((".html", ".js"))).decode()
    assert "scripts.explain" in text and "A diamond is the published number" in text


def test_two_lists_for_two_protocols(finished):
    text = (finished / "results/table.md").read_text()
    assert text.count("## tiny-val, protocol") == 3


def test_a_second_run_has_nothing_to_do(finished):
    assert planned(finished) == {}


def plan(folder):
    """The plan in words, without Snakemake's records."""
    shutil.rmtree(folder / ".snakemake", ignore_errors=True)
    done = snakemake(folder, "--dry-run")
    return "\n".join(lines(parse_jobs(done.stdout + done.stderr)))


def listing(folder):
    return sorted(p.relative_to(folder).as_posix() for p in (folder / "results").rglob("*"))


def test_lost_records_do_not_hide_a_stale_row(run):
    """Without .snakemake nothing triggers in Snakemake itself; the results' own records say what does not belong, and it is made again."""
    before = listing(run)
    assert plan(run).startswith("Nothing to do")
    write(run, warm={**WARM, "selection": {"temperature": 0.05}})
    words = plan(run)
    assert (
        "propagate (2): propagation.json: settings of propagate: protocol.selection.temperature: 0.07 -> 0.05" in words
    )
    assert "you forced it" not in words and listing(run) == before, "a dry run writes nothing"
    old = read_table(run / "results/table.csv")
    snakemake(run)
    new = read_table(run / "results/table.csv")
    changed = new["protocol"] == "warm"
    assert (new["protocol_hash"] != old["protocol_hash"]).equals(changed)
    rules = [r["protocol"] for r in json.loads((run / "results/provenance.json").read_text())["rows"]]
    assert [r["settings"]["selection"]["temperature"] for r in rules if r["name"] == "warm"] == [0.05, 0.05]
    assert plan(run).startswith("Nothing to do")


def test_tables_of_other_entries_are_made_again(run):
    """Another config, or another clone, on the same results folder."""
    write(run, {**CONFIG, "runs": CONFIG["runs"][:1]})
    words = plan(run)
    assert "table (1): table.csv: rows of other entries" in words and "propagate" not in words


def test_a_refused_table_leaves_the_earlier_one(run):
    """Whatever Snakemake does with the outputs of a job that fails."""
    kept = {name: (run / "results" / name).read_bytes() for name in ("table.csv", "table.md", "provenance.json")}
    (run / "rows/targets").mkdir()
    (run / "rows/targets/odd.yaml").write_text("benchmark: tiny-val\nrows: 3\n")
    failed = snakemake(run, "--", "results/table.csv", check=False)
    assert failed.returncode != 0 and "odd.yaml" in (run / "results/logs/table.log").read_text()
    assert {name: (run / "results" / name).read_bytes() for name in kept} == kept


def test_masks_of_another_propagation_are_not_scored(run):
    """The program by itself; in the workflow such masks are made again."""
    folder = run / "results/tiny-val/random-r18.random.warm"
    record = {k: v for k, v in json.loads((folder / "masks/record.json").read_text()).items() if k != SEAL}
    write_record(folder / "masks/record.json", {**record, "propagation": "0"})
    arguments = ["--data", run / "results/tiny-val/data/annotations.json", "--root", run / "results/data/tiny-val",
                 "--masks", folder / "masks", "--propagation", folder / "propagation.json", "--out", run / "scores"]  # fmt: skip
    command = [sys.executable, "-m", "scripts.evaluate", *map(str, arguments)]
    failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert failed.returncode == 1 and "masks of another propagation" in failed.stderr
    assert "postprocess (1): record.json: masks of another propagation" in plan(run)


def test_the_table_does_not_wait_for_a_submission(run):
    """Masks for a server are in no row; they may be made again while the table is written."""
    path = run / "results/tiny-server/random-r18.random.warm/masks/record.json"
    record = {k: v for k, v in json.loads(path.read_text()).items() if k != SEAL}
    write_record(path, {**record, "propagation": "0"})
    assert "postprocess (1): record.json: masks of another propagation" in plan(run)
    snakemake(run, "--forcerun", "results/table.csv", "--", "results/table.csv")


def test_how_ids_are_read_is_part_of_the_settings(run):
    """The same files scored as one object: propagation starts over, nothing is kept from before."""
    rows = run / "rows/benchmarks"
    rows.mkdir()
    text = (ROWS / "benchmarks/tiny-val.yaml").read_text()
    shutil.copytree(
        ROWS,
        run / "shared-rows",
        ignore=lambda d, names: [n for n in names if n == "tiny-val.yaml" and "benchmarks" in d],
    )
    (rows / "tiny-val.yaml").write_text(
        text.replace("multi-object", "single-object").replace("objects: 4", "objects: 2")
    )
    write(run, {**CONFIG, "rows": [str(run / "shared-rows"), "rows"]})
    snakemake(run, "--", "results/tiny-val/random-r18.random.warm/propagation.json")
    log = (run / "results/logs/propagate/tiny-val/random-r18.random.warm.log").read_text()
    assert "all kept" not in log and "frames/s" in log


def test_a_failed_entry_leaves_earlier_results(run):
    labels = run / "results/tiny-val/random-r18.random.warm/labels/one.npz"
    labels.write_bytes(b"damaged")
    before = (run / "results/tiny-val/random-r18.random.dino/scores/scores.json").read_bytes()
    target = "results/tiny-val/random-r18.random.warm/masks/record.json"
    failed = snakemake(run, "--force", target, check=False)
    assert failed.returncode != 0
    assert "not a readable score file" in failed.stdout + failed.stderr
    assert (run / "results/tiny-val/random-r18.random.dino/scores/scores.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "gpu"}, "one of auto, cpu, cuda"),
        (
            {"runs": [{"methods": ["random-18"], "weights": ["random"], "benchmarks": ["tiny-val"]}]},
            "did you mean 'random-r18'",
        ),
        (
            {"runs": [{"methods": ["crw-r18"], "weights": ["released"], "benchmarks": ["davis2017-val"]}]},
            "needs data.davis2017",
        ),
    ],
)
def test_a_bad_config_stops_before_any_job(tmp_path, change, message):
    write(tmp_path, {**CONFIG, **change})
    failed = snakemake(tmp_path, "-n", check=False)
    assert failed.returncode != 0
    text = failed.stdout + failed.stderr
    assert "refused:" in text and message in text and "Traceback" not in text


def test_the_paper_benchmark_plans(tmp_path):
    """`snakemake results/table.csv` in a fresh checkout: every method of the paper, from download to table."""
    done = subprocess.run(
        [warm.python(), "-m", "snakemake", "-n", "--cores", "1", "--directory", str(tmp_path), "--snakefile", str(ROOT / "Snakefile"), "results/table.csv"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(
        line.split() for line in done.stdout.splitlines() if len(line.split()) == 2 and line.split()[1].isdigit()
    )
    assert int(counts["propagate"]) == 23 and int(counts["segment"]) == 10 and int(counts["track"]) == 3
    assert int(counts["download"]) == int(counts["convert"]) == 18 and int(counts["archive"]) == 98 + 3
    said = done.stdout + done.stderr
    for rows in ("CRW 1 run", "VFS 4 run", "SFC 7 run", "LIIR 4 run", "MiVOS 10 run, 4 wait"):
        assert rows in said.partition("\n")[0], said[:2000]
    assert "GOT-10k train, 68 GB" in said and "YouTube-VOS 2018 val" in said and "data: {got10k: /path}" in said


def test_the_plan_takes_targets_behind_two_dashes(tmp_path):
    """As the hint for `--configfile FILE TARGET` says."""
    write(tmp_path, CONFIG)
    done = subprocess.run(
        [warm.python(), "-m", "scripts.plan", "--directory", str(tmp_path), "--configfile", str(tmp_path / "config.yaml"),
         "--", "results/table.csv"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "jobs would run" in done.stdout, done.stdout + done.stderr
    wrong = subprocess.run([*done.args[:-1], "results/tabel.csv"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 1 and "refused: no rule makes results/tabel.csv" in wrong.stderr


def test_the_plan_names_what_a_person_must_place(tmp_path):
    def plan():
        done = subprocess.run(
            [warm.python(), "-m", "scripts.plan", "--directory", str(tmp_path), "--configfile", str(tmp_path / "config.yaml")],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    own = {"base": "mast", "released": {"family": "mast", "addresses": [], "hash": None, "license": "none"}}
    (tmp_path / "rows/methods").mkdir(parents=True)
    files = [f"results/downloads/{name}/{name}.pt" for name in ("first", "second")]
    for name in ("first", "second"):
        row = {**own, "name": name, "released": {**own["released"], "file": f"{name}.pt"}}
        (tmp_path / "rows/methods" / f"{name}.yaml").write_text(yaml.safe_dump(row))
    run = {"methods": ["first", "second"], "weights": ["released"], "protocols": ["mast"], "benchmarks": ["tiny-val"]}
    write(tmp_path, {**CONFIG, "runs": [run]})
    assert plan().partition("Place by hand first")[2].split()[-2:] == files
    (tmp_path / files[0]).parent.mkdir(parents=True)
    (tmp_path / files[0]).write_bytes(b"placed")
    left = plan().partition("Place by hand first")[2].split()
    assert files[0] not in left and files[1] in left
    write(tmp_path, {**CONFIG, "missing": "skip", "runs": [run]})
    said = plan()
    assert "Place by hand" not in said and "the released file of second" in said and f"place it as {files[1]}" in said
    assert "propagate (1)" in said and "first.released.mast" in said


def test_profiles_have_disjoint_keys():
    """profiles/default is merged over every other profile, so a shared key would silently win."""
    default = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())
    default = {key for key in default if not key.startswith("__")}  # those are for the reader of each file alone
    for other in [ROOT / "profiles/local/config.yaml", *ROOT.glob("slurm/config.yaml")]:
        assert not set(default) & set(yaml.safe_load(other.read_text())), other


def test_no_result_is_tracked():
    tracked = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert tracked in ([], ["results/README.md"])


def test_the_slurm_profile_plans_with_gpus(tmp_path):
    done = subprocess.run(
        [warm.python(), "-m", "snakemake", "--profile", "slurm", "-n", "--directory", str(tmp_path), "results/table.csv"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("gpu=1") == 36, "propagation and tracking ask for a GPU, nothing else does"


def test_parts_go_where_the_gpus_are(tmp_path):
    write(tmp_path, {**CONFIG, "device": "cuda", "shards": {"tiny-val": 2}})
    done = subprocess.run(
        [warm.python(), "-m", "snakemake", "--profile", "slurm", "-n", "--directory", str(tmp_path),
         "--configfile", str(tmp_path / "config.yaml"), "--", "results/table.csv"],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "CORRBENCH_SLURM_GPU_PARTITION": "gpus"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = [line for line in done.stdout.splitlines() if "gpu=1" in line]
    assert len(jobs) > 4 and all("slurm_partition=gpus" in line for line in jobs)


def test_a_replaced_checkpoint_is_converted_again(run, tmp_path):
    """Whatever Snakemake believes: the file that lies there now is not the one that was converted."""
    torch.save({"state_dict": random_resnet("resnet18", 3)}, run / "mine.pth")
    runs = [{"methods": ["random-r18"], "weights": ["mine"], "protocols": ["warm"], "benchmarks": ["tiny-val"]}]
    write(run, {**CONFIG, "runs": runs, "files": {"mine": {"path": "mine.pth"}}})
    snakemake(run, "--", "results/table.csv")
    torch.save({"state_dict": random_resnet("resnet18", 4)}, run / "mine.pth")
    assert "convert (1): report.json: converted from another file than mine.pth" in plan(run)


def test_score_program_plans_a_users_checkpoint(tiny_davis, tmp_path):
    import torch

    from corrbench.encoders.resnet import random_resnet

    torch.save({"state_dict": random_resnet("resnet18", 3)}, tmp_path / "mine.pth")
    arguments = ["--method", "vfs-r18", "--checkpoint", tmp_path / "mine.pth", "--benchmark", "tiny-val", "--data", tiny_davis.root,
                 "--rows", ROWS, "--results", tmp_path / "out", "--dry-run"]  # fmt: skip
    done = subprocess.run(
        [warm.python(), "-m", "scripts.score", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "vfs-r18.mine" in done.stdout + done.stderr and not (tmp_path / "out").exists(), "a dry run writes nothing"
    wrong = subprocess.run(
        [warm.python(), "-m", "scripts.score", *map(str, arguments[2:]), "--method", "vfs-r81"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 1 and "did you mean 'vfs-r18'" in wrong.stderr


def score(*arguments):
    command = [warm.python(), "-m", "scripts.score", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_folder_of_checkpoints_is_a_curve(tmp_path):
    """In the order of the numbers in their names; a call with one of them more adds its row."""
    from corrbench.datasets.synthetic import write_davis
    from corrbench.encoders.resnet import random_resnet

    root, folder = tmp_path / "DAVIS", tmp_path / "run"
    write_davis(root, ["three", "one"], split="val", frames=5, height=48, width=80, seed=0)
    folder.mkdir()
    for epoch in (2, 10):
        torch.save({"state_dict": random_resnet("resnet18", epoch)}, folder / f"epoch_{epoch}.pth")
    (folder / "log.txt").write_text("loss")
    more = ["--method", "vfs-r18", "--protocol", "crw", "--benchmark", "tiny-val", "--data", root, "--rows", ROWS,
            "--results", tmp_path / "out", "--device", "cpu"]  # fmt: skip
    done = score("--checkpoint", folder, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    table = read_table(tmp_path / "out/table.csv")
    assert table["weights"].tolist() == ["none", "random", "epoch-2", "epoch-10"] and table["J&F"].notna().all()
    assert f"curve: {tmp_path / 'out/checkpoints.png'}" in done.stdout and (tmp_path / "out/checkpoints.png").stat().st_size > 5000  # fmt: skip
    (tmp_path / "other").mkdir()
    for arguments, said in (
        (["--checkpoint", tmp_path / "other"], "a folder of checkpoints"),
        (["--checkpoint", folder, "--name", "mine"], "--name mine for 2 checkpoints"),
        (["--checkpoint", folder / "epoch_2.pth", tmp_path / "other/epoch_2.pth"], "both would be called epoch-2"),
    ):
        (tmp_path / "other/epoch_2.pth").unlink(missing_ok=True)
        if "other/epoch" in str(arguments):
            (tmp_path / "other/epoch_2.pth").write_bytes((folder / "epoch_2.pth").read_bytes())
        refused = score(*arguments, *more)
        assert refused.returncode == 1 and said in refused.stderr, refused.stderr
