"""Tiny tracks, weights and probe runs."""

import os
import subprocess
import sys
from pathlib import Path

import warm
from conftest import ROOT

from corrbench.datasets.got10k import build_track_index
from corrbench.datasets.synthetic_tracks import write_got10k
from corrbench.pretraining.recipe import Recipe
from corrbench.rows import Rows
from corrbench.tracking.protocol import Probe
from corrbench.weights.canonical import save_weights
from corrbench.weights.convert import random_weights

TINY = ROOT / "tests/data/rows"
FOLDERS = [ROOT / "config", TINY]


def make_tracks(folder: Path) -> Path:
    """Six short tracks in GOT-10k's layout with their index."""
    write_got10k(folder, videos=6, frames=8, height=120, width=160)
    build_track_index(folder).write(folder / "index.csv")
    return folder


def make_weights(path: Path, seed: int = 0) -> Path:
    """A random ResNet-18 in the canonical format."""
    save_weights(path, random_weights({"arch": "resnet18"}, method="random-r18", seed=seed))
    return path


def tiny_probe(name: str = "tiny-siamfc") -> Probe:
    """The probe row of the tests."""
    row = Rows(FOLDERS, "probes", "probe").get(name, "test")
    return Probe.from_row(row, Rows(FOLDERS, "recipes", "recipe"))


def tiny_recipe() -> Recipe:
    """Its recipe."""
    recipe = tiny_probe().recipe
    assert recipe is not None
    return recipe


def command(tracks: Path, weights: Path, out: Path, *more, python=sys.executable) -> list[str]:
    """The program that trains the tiny probe."""
    return [python, "-m", "scripts.pretrain", "--recipe", "tiny-probe", "--rows", str(TINY), "--tier", "smoke", "--data", str(tracks / "index.csv"),
            "--root", str(tracks), "--init", str(weights), "--out", str(out), "--device", "cpu", "--threads", "1", *map(str, more)]  # fmt: skip


def train(tracks: Path, weights: Path, out: Path, *more) -> Path:
    """Run it to its end; returns the checkpoint."""
    done = subprocess.run(
        command(tracks, weights, out, *more, python=warm.python()),
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "checkpoint.pth"
