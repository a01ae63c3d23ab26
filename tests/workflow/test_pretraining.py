"""From videos to table rows through pretraining, and what a change makes stale there."""

import json

import pytest
import yaml
from conftest import ROOT
from flow import checkout_copy, planned_after, snakemake, write

from corrbench.report.table import read_table

RUNS = [{"methods": ["tiny-crw", "tiny-liir"], "weights": ["smoke"], "protocols": ["warm"], "benchmarks": ["tiny-val"]}]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretraining")
    project = checkout_copy(folder / "project")
    row = yaml.safe_load((project / "config/datasets/synthetic-videos.yaml").read_text())
    row["videos"]["generate"] |= {"videos": 6, "frames": 20, "height": 64, "width": 80}
    (project / "config/datasets/synthetic-videos.yaml").write_text(yaml.safe_dump(row))
    config = {
        "device": "cpu",
        "rows": ["project/tests/data/rows", "rows"],
        "runs": RUNS,
        "pretraining": {"workers": 0, "watch": {"pictures": 2}},
    }
    write(folder, config, {"base": "crw", "name": "warm", "selection": {"temperature": 0.07}})
    snakemake(folder, checkout=project)
    return folder


def test_rows_of_pretrained_weights(finished):
    table = read_table(finished / "results/table.csv")
    assert sorted(table["entry"]) == ["tiny-crw.smoke.warm", "tiny-liir.smoke.warm"]
    assert set(table["trained_on"]) == {"synthetic-videos: 6"}
    assert set(table["tier"]) == {"smoke"} and table["J&F"].notna().all() and table["published"].isna().all()
    runs = finished / "results/pretrain"
    for name in ("tiny-crw", "tiny-liir-a", "tiny-liir-c"):
        folder = runs / name / "smoke-seed0"
        assert {p.name for p in folder.iterdir()} == {
            "checkpoint.pth",
            "curves.png",
            "last.pt",
            "log.jsonl",
            "pictures",
            "recipe.json",
        }
    rows = json.loads((finished / "results/provenance.json").read_text())["rows"]
    assert rows[1]["pretraining"][0]["recipe"]["init"] == "tiny-liir-a" and rows[1]["pretraining"][0]["init"]


AFTER = {
    "convert": 1,
    "propagate": 1,
    "postprocess": 1,
    "evaluate": 1,
    "overlays": 1,
    "table": 1,
    "plots": 1,
    "report": 1,
}
BOTH = {name: (count if name in ("table", "plots", "report") else 2 * count) for name, count in AFTER.items()}
CHANGES = [
    ("a recipe's learning rate", "tests/data/rows/recipes/tiny-crw.yaml", "name: tiny-crw", "name: tiny-crw\noptimizer: {lr: 0.001}", {"pretrain": 1, **AFTER}),
    ("what another tier says", "tests/data/rows/recipes/tiny-crw.yaml", "tiers:", "tiers:\n  short: {steps: 3}", {}),
    ("the recipe that a chain starts from", "tests/data/rows/recipes/tiny-liir-a.yaml", "steps: 6", "steps: 7", {"pretrain": 2, **AFTER}),
    ("the code of one method", "corrbench/pretraining/crw.py", "EPS = 1e-20", "EPS = 1e-19", {"pretrain": 1, **AFTER}),
    ("the code of a method that no run uses", "corrbench/pretraining/fc.py", "1e-6", "1e-7", {}),
    ("a comment in the loop", "corrbench/pretraining/loop.py", "# buffers stay", "# The buffers stay", {}),
    ("the code of the loop", "corrbench/pretraining/schedule.py", "return 1.0", "return 1.00001", {"pretrain": 3, **BOTH}),
    ("the code of the frames", "corrbench/datasets/videos.py", "cv2.INTER_AREA", "cv2.INTER_LINEAR", {"frames": 1, "pretrain": 3, **BOTH}),
]  # fmt: skip


@pytest.mark.parametrize(("change", "file", "old", "new", "expected"), CHANGES, ids=[c[0] for c in CHANGES])
def test_what_a_change_makes_stale(finished, tmp_path, change, file, old, new, expected):
    assert planned_after(finished, file, old, new, tmp_path) == expected


def test_the_page_shows_these_changes():
    page = (ROOT / "docs/staleness.md").read_text()
    for change, *_, expected in CHANGES:
        stages = ", ".join(f"{rule} {count}" for rule, count in expected.items()) or "nothing"
        assert f"| {change} | {stages} |" in page
