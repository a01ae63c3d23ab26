"""Tiny pretraining runs, in this process or as the program that a job starts."""

import os
import subprocess
import sys
from pathlib import Path

import torch
import warm
from conftest import ROOT

from corrbench.datasets.synthetic import write_videos
from corrbench.datasets.videos import Index, Reader, build_index
from corrbench.pretraining.loop import Run
from corrbench.pretraining.processes import Processes
from corrbench.pretraining.recipe import Recipe
from corrbench.rows import Rows

TINY = ROOT / "tests/data/rows"
RECIPE_ROWS = Rows([ROOT / "config", TINY], "recipes", "recipe")
RECIPES = ("crw", "vfs-r18", "fc", "mast", "liir-a", "liir-e")


def make_frames(folder: Path) -> Path:
    """Six short videos as frame folders with an index."""
    write_videos(folder / "videos", videos=6, frames=20, height=64, width=80)
    index, skipped = build_index(folder / "videos", "*.mp4", "videos", out=folder / "frames")
    assert not skipped
    index.write(folder / "frames/index.csv")
    return folder / "frames"


def command(recipe, frames, out, *more, python=sys.executable):
    """The program for the recipe `tiny-<recipe>` of tests/data/rows."""
    return [python, "-m", "scripts.pretrain", "--recipe", f"tiny-{recipe}", "--rows", str(TINY), "--data", str(frames / "index.csv"),
            "--root", str(frames), "--out", str(out), "--device", "cpu", "--threads", "1", *map(str, more)]  # fmt: skip


def pretrain(recipe, frames, out, *more, check=True):
    """Run it to its end."""
    done = subprocess.run(
        command(recipe, frames, out, *more, python=warm.python()),
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def run_here(recipe, frames, out, *, world=1, **changes):
    """A run of `tiny-<recipe>` in this process, about to begin or to go on."""
    settings = {**Recipe.from_row(RECIPE_ROWS.get(f"tiny-{recipe}", "test"), "smoke").settings(), **changes}
    out.mkdir(parents=True, exist_ok=True)
    reader = Reader(frames, Index.read(frames / "index.csv"), "frames")
    made = Recipe.from_settings(settings)
    run = Run(made, 0, reader, out, Processes(0, world, torch.device("cpu")), identity={"recipe": made.settings()})
    run.start(None)
    return run


def same_state(a: Path, b: Path) -> bool:
    """Equal bit for bit: model and optimizer of two runs."""
    one, two = (torch.load(path, weights_only=True) for path in (a, b))
    flat = lambda state: [v for _, v in sorted(_flatten(state).items())]  # noqa: E731
    return one["step"] == two["step"] and all(
        torch.equal(x, y) if torch.is_tensor(x) else x == y
        for x, y in zip(
            flat({k: one[k] for k in ("model", "optimizer")}),
            flat({k: two[k] for k in ("model", "optimizer")}),
            strict=True,
        )
    )


def _flatten(value, place=""):
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in _flatten(inner, f"{place}.{key}").items()}
    if isinstance(value, list):
        return {k: v for i, inner in enumerate(value) for k, v in _flatten(inner, f"{place}.{i}").items()}
    return {place: value}
