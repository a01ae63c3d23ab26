"""From tracks to table rows through the probe, and what a change makes stale there."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import warm
import yaml
from conftest import ROOT
from flow import checkout_copy, planned_after, snakemake, write

from corrbench.report.table import read_table

ID = "random-r18.random.tiny-siamfc"
RUNS = [
    {"methods": ["identity"], "weights": ["none"], "benchmarks": ["tiny-otb"]},
    {"methods": ["random-r18"], "weights": ["random"], "protocols": ["tiny-siamfc"], "benchmarks": ["tiny-otb"]},
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    project = checkout_copy(folder / "project")
    row = yaml.safe_load((project / "config/datasets/synthetic-tracks.yaml").read_text())
    row["videos"]["generate"] |= {"videos": 4, "frames": 6, "height": 96, "width": 128}
    (project / "config/datasets/synthetic-tracks.yaml").write_text(yaml.safe_dump(row))
    config = {"device": "cpu", "rows": ["project/tests/data/rows", "rows"], "runs": RUNS, "pretraining": {"workers": 0}}
    write(folder, config)
    snakemake(folder, checkout=project)
    return folder


def test_rows_and_files(finished):
    results = finished / "results"
    table = read_table(results / "table.csv").set_index("entry")
    assert list(table.index) == ["identity.none.stay", ID]
    assert table[["precision", "success"]].notna().all(axis=None) and table["J&F"].isna().all()
    assert table.loc[ID, "fps"] > 0 and np.isnan(table.loc["identity.none.stay", "fps"])
    page, markdown = (results / "report.html").read_text(), (results / "table.md").read_text()
    assert "plots/tiny-otb/curves.png" in page and "tiny-otb, protocol stay" in markdown and "success" in markdown
    for name in (
        "boxes/drift.txt",
        "boxes/times/drift_time.txt",
        "scores/performance.json",
        "scores/per_sequence.csv",
        "overlay.png",
        "curves.png",
    ):
        assert (results / "tiny-otb" / ID / name).is_file(), name
    assert (results / "plots/tiny-otb/toolkit/OTB2015" / ID / "meet.txt").is_file()
    row = json.loads((results / "provenance.json").read_text())["rows"][1]
    assert row["probe"]["recipe"]["name"] == "tiny-probe" and set(row["stages"]) == {"track", "evaluate"}


TRACK = {"track": 1, "evaluate_boxes": 1, "overlays_boxes": 1, "table": 1, "plots_boxes": 1, "report": 1}
SCORE = {"evaluate_boxes": 2, "overlays_boxes": 2, "table": 1, "plots_boxes": 1, "report": 1}
CHANGES = [
    ("learning rate of the probe", "tests/data/rows/recipes/tiny-probe.yaml", "batch: 2", "batch: 2\noptimizer: {lr: 0.01}", {"probe": 1, **TRACK}),
    ("seed of the probe", "tests/data/rows/probes/tiny-siamfc.yaml", "tier: smoke", "tier: smoke\nseed: 1", {"probe": 1, **TRACK}),
    ("a figure of the tracker", "tests/data/rows/probes/tiny-siamfc.yaml", "tier: smoke", "tier: smoke\ntracker: {window: 0.2}", TRACK),
    ("a comment in the tracker", "corrbench/tracking/siamfc.py", "# y, x", "# row, column", {}),
    ("the code of the tracker", "corrbench/tracking/siamfc.py", "+ 1e-16", "+ 1e-15", {"track": 2, **SCORE}),
    ("the code of the metric", "corrbench/metrics/otb.py", "arange(0, 51)", "arange(0, 52)", SCORE),
    ("the code of label propagation", "corrbench/propagation/softmax.py", "def ", "X = 1\n\n\ndef ", {}),
    ("the code of a pretraining method", "corrbench/pretraining/crw.py", "EPS = 1e-20", "EPS = 1e-19", {}),
]  # fmt: skip


@pytest.mark.parametrize(("change", "file", "old", "new", "expected"), CHANGES, ids=[c[0] for c in CHANGES])
def test_what_a_change_makes_stale(finished, tmp_path, change, file, old, new, expected):
    assert planned_after(finished, file, old, new, tmp_path) == expected


def test_boxes_changed_by_hand_are_not_scored(finished, tmp_path):
    folder, data = finished / "results/tiny-otb/identity.none.stay", finished / "results/tiny-otb/data/annotations.json"
    shutil.copytree(folder / "boxes", tmp_path / "boxes")
    command = [warm.python(), "-m", "scripts.evaluate_boxes", "--data", data, "--root", finished / "results/data/tiny-otb", "--tracking", folder / "tracking.json",
               "--boxes", tmp_path / "boxes", "--out", tmp_path / "scores"]  # fmt: skip
    command = list(map(str, command))
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    path = tmp_path / "boxes/drift.txt"
    path.write_text(path.read_text().replace("0", "1", 1))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "changed since it was tracked" in done.stderr


def test_otb_is_fetched_sequence_by_sequence_and_what_is_gated_says_how(finished):
    def planned(data, method, benchmark):
        config = yaml.safe_load((finished / "config.yaml").read_text()) | {"data": {data: "download"}}
        weights = "none" if method == "identity" else "random"
        config["runs"] = [{"methods": [method], "weights": [weights], "benchmarks": [benchmark]}]
        (finished / "other.yaml").write_text(yaml.safe_dump(config))
        done = snakemake(
            finished, "-n", "--configfile", finished / "other.yaml", check=False, checkout=finished / "project"
        )
        return done.stdout + done.stderr

    said = planned("otb100", "identity", "otb100")
    assert len(re.findall(r"(?m)^rule archive:|^localrule archive:", said)) == 98, said[-2000:]
    said = planned("youtube-vos-val", "random-stm", "ytvos2019-val")
    assert "no archive of YouTube-VOS 2019 val, all frames can be fetched" in said and "youtube-vos.org" in said


def test_wrong_mixtures_are_refused_while_planning(finished):
    def said(**run):
        config = yaml.safe_load((finished / "config.yaml").read_text())
        config["runs"] = [{"methods": ["random-r18"], "weights": ["random"], "benchmarks": ["tiny-otb"], **run}]
        (finished / "other.yaml").write_text(yaml.safe_dump(config))
        done = snakemake(
            finished, "-n", "--configfile", finished / "other.yaml", check=False, checkout=finished / "project"
        )
        assert done.returncode
        return done.stdout + done.stderr

    assert "no row 'crw' in probes" in said(protocols=["crw"])
    assert "probe siamfc-r50 (for resnet50) with random-r18" in said(protocols=["siamfc-r50"])
    assert "one network" in said(methods=["random-fusion"])
    assert "hold no layer of a tracker" in said(
        methods=["vfs-r18"], weights=["released"], protocols=["siamfc-r18-released"]
    )
    assert "hold no layer of a tracker" in said(protocols=["siamfc-r18-released"])
    assert "stay on a benchmark of boxes" in said(protocols=["stay"])
    assert "training needs data.got10k" in said(protocols=["siamfc-r18"])
