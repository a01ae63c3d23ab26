"""staleness.yaml, row by row: a finished run, one change, and exactly the jobs that Snakemake would run again."""

import os
import shutil

import cv2
import pytest
import torch
import yaml
from conftest import ROOT
from flow import WARM, checkout_copy, planned, snakemake, write

from corrbench.datasets.synthetic import write_davis
from corrbench.encoders.resnet import random_resnet

TABLE = yaml.safe_load((ROOT / "tests/workflow/staleness.yaml").read_text())
RUNS = [
    {"methods": ["identity"], "weights": ["none"], "benchmarks": ["tiny-val"]},
    {"methods": ["random-r18"], "weights": ["random"], "protocols": ["warm"], "benchmarks": ["tiny-val", "tiny-server"]},
    {"methods": ["vfs-r18"], "weights": ["mine"], "protocols": ["dino"], "benchmarks": ["tiny-disk"]},
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A copy of the project (to edit) and one complete run of it."""
    folder = tmp_path_factory.mktemp("staleness")
    project = checkout_copy(folder / "project")
    write_davis(folder / "disk", ["three", "one"], split="val", frames=5, height=48, width=80, seed=1)
    torch.save({"state_dict": random_resnet("resnet18", 3)}, folder / "mine.pth")
    disk = yaml.safe_load((project / "tests/data/rows/benchmarks/tiny-val.yaml").read_text())
    disk |= {"name": "tiny-disk", "data": "davis2017"}
    del disk["generate"]
    (folder / "rows/benchmarks").mkdir(parents=True)
    (folder / "rows/benchmarks/tiny-disk.yaml").write_text(yaml.safe_dump(disk))
    config = {
        "device": "cpu", "rows": ["project/tests/data/rows", "rows"], "runs": RUNS, "data": {"davis2017": "disk"},
        "files": {"mine": {"path": "mine.pth"}},
    }  # fmt: skip
    write(folder, config, WARM)
    snakemake(folder, checkout=project)
    return folder


def change(folder, action, file=None, old=None, new=None):
    """Apply a row's change."""
    path = folder / file if file else None
    if action == "replace":
        text = path.read_text()
        assert old in text, f"{path} has no {old!r}"
        path.write_text(text.replace(old, new, 1))
    elif action == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(new)
    elif action == "touch":
        for each in sorted(folder.glob(file)):
            each.touch()
    elif action == "copy":  # the same bytes in a new file
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    elif action == "checkpoint":
        torch.save({"state_dict": random_resnet("resnet18", 4)}, path)
    elif action == "pixel":
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), 255 - image if image.ndim == 3 else image[::-1])
    elif action == "move":
        path.rename(folder / new)
        (folder / "config.yaml").write_text((folder / "config.yaml").read_text().replace(f": {file}\n", f": {new}\n"))
    else:
        raise ValueError(action)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["change"])
def test_what_a_change_makes_stale(finished, row, tmp_path):
    saved = tmp_path / "saved"
    shutil.copytree(finished, saved, symlinks=True)
    try:
        for step in row["steps"]:
            change(finished, **step)
        jobs = planned(finished, checkout=finished / "project")
        print(f"\n{row['change']}: " + ("; ".join(f"{r} {' '.join(n)}".strip() for r, n in jobs.items()) or "nothing"))
        assert jobs == {rule: sorted(names) for rule, names in row["reruns"].items()}
    finally:
        shutil.rmtree(finished)
        os.rename(saved, finished)


def test_the_page_shows_this_table():
    page = (ROOT / "docs/staleness.md").read_text()
    for row in TABLE:
        stages = ", ".join(f"{rule} {len(names)}" for rule, names in row["reruns"].items()) or "nothing"
        assert f"| {row['change']} | {stages} |" in page
