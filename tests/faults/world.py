"""A tiny results folder with everything that the stages write, made once by the programs themselves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from corrbench.config import Config
from tests.faults.children import Ended, Stop, run
from tests.faults.snapshot import Snapshot, snapshot
from tests.faults.stages import BOXES, SCORE_STAGES, STAGES, TRAINING_STAGES, VIDEO

ROWS: Mapping[str, Mapping[str, Any]] = {
    f"benchmarks/{VIDEO}": {
        "name": VIDEO, "title": "tiny video", "dataset": "davis", "year": 2017, "split": "val", "resolution": "480p",
        "data": "davis2017", "scoring": "multi-object", "frames": 10, "objects": 4, "sequences": ["three", "one"],
        "generate": {"frames": 5, "height": 48, "width": 64, "seed": 7},
    },
    f"benchmarks/{BOXES}": {
        "name": BOXES, "title": "tiny boxes", "dataset": "otb", "data": "otb100", "scoring": "boxes",
        "sequences": ["drift", "meet"], "generate": {"frames": 5, "height": 48, "width": 64, "seed": 5},
    },
    "datasets/fault-videos": {
        "name": "fault-videos", "title": "tiny videos", "layout": [{"files": "*.mp4", "what": "videos"}],
        "videos": {"kind": "videos", "files": "*.mp4", "short_side": 48,
                   "generate": {"videos": 3, "frames": 12, "height": 48, "width": 64}},
    },
    "methods/fault-crw": {"base": "crw-r18", "name": "fault-crw", "recipe": "fault-crw"},
    "recipes/fault-crw": {
        "base": "crw", "name": "fault-crw", "data": "fault-videos",
        "tiers": {"smoke": {"steps": 2, "batch": 2, "options": {"image": 48, "patch": 24, "stride": 12, "bn_clips": 1, "clip": 3}}},
    },
}  # fmt: skip
"""The rows of the world, by the names of their files."""
CONFIG: Mapping[str, Any] = {
    "results": "results",
    "device": "cpu",
    "rows": ["rows"],
    "data": {"davis2017": "data/davis", "otb100": "data/otb"},
    "runs": [
        {"methods": ["identity"], "weights": ["none"], "benchmarks": [VIDEO, BOXES]},
        {"methods": ["random-r18"], "weights": ["random", "random1"], "protocols": ["crw"], "benchmarks": [VIDEO]},
    ],
}


LARGE = 1 << 20
"""Files from this size on are linked into a copy of the world, not copied."""


@dataclass
class World:
    """The clean results. Every path in it is relative to its folder."""

    folder: Path
    config: Config
    seconds: dict[str, float] = field(default_factory=dict)
    """What each stage took."""

    clean: Snapshot = field(default_factory=dict)

    def clone(self, folder: Path) -> None:
        """A copy of the world in a folder that is replaced."""
        shutil.rmtree(folder, ignore_errors=True)
        left_out = shutil.ignore_patterns(".versions")
        shutil.copytree(self.folder, folder, copy_function=_place, symlinks=True, ignore=left_out)

    def run(self, folder: Path, stage: str, stop: Stop | None = None) -> Ended:
        """Run a stage in a copy; `stop` as in `children.run`."""
        program, arguments = STAGES[stage]
        return run(folder, program, lambda: arguments(self.config), stop=stop)

    def run_stages(self, folder: Path, stages: Sequence[str]) -> tuple[str, Ended, float]:
        """Run stages until one does not succeed: its name, how it ended, and the CPU time of all."""
        cpu = 0.0
        for name in stages:
            ended = self.run(folder, name)
            cpu += ended.cpu
            if ended.status:
                break
        return name, ended, cpu

    def make(self, stages: Iterable[str]) -> None:
        """Run stages here. Raises RuntimeError for one that fails: then nothing can be learned from damage."""
        for name in stages:
            ended = self.run(self.folder, name)
            if ended.status:
                raise RuntimeError(f"the clean world cannot be made: {name} ended with {ended.status}\n{ended.err}")
            self.seconds[name] = ended.seconds


def make_world(folder: Path, *, training: bool) -> World:
    """Make the data and all results in an empty folder; with `training` a pretraining run and its frames as well."""
    for name, row in ROWS.items():
        path = folder / "rows" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(dict(row), sort_keys=False))
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(CONFIG), sort_keys=False))
    make_data(folder)
    here = Path.cwd()
    os.chdir(folder)  # the config's paths are relative, so that one config serves every copy
    try:
        config = Config.read("config.yaml")
        config.check_data()
    finally:
        os.chdir(here)
    world = World(folder, config)
    world.make([*SCORE_STAGES, *(TRAINING_STAGES if training else ())])
    world.clean = snapshot(folder)
    return world


def make_data(folder: Path) -> None:
    """Write the two data sets and the videos of training."""
    for name, out in ((VIDEO, "data/davis"), (BOXES, "data/otb")):
        _made(folder, "synthetic", ["--benchmark", name, "--rows", "rows", "--out", out])
    _made(folder, "synthetic", ["--videos", "fault-videos", "--rows", "rows", "--out", "data/videos"])
    _made(folder, "frames", ["--data", "fault-videos", "--rows", "rows", "--root", "data/videos", "--out", "results/frames", "--workers", 1])  # fmt: skip


def _made(folder: Path, program: str, arguments: list[object]) -> None:
    ended = run(folder, program, lambda: arguments)
    if ended.status:
        raise RuntimeError(f"the clean world cannot be made: {program} ended with {ended.status}\n{ended.err}")


def _place(source: str, target: str) -> None:
    if Path(source).stat().st_size >= LARGE:
        Path(target).hardlink_to(source)
    else:
        shutil.copy2(source, target)


def remove(folder: Path, patterns: Sequence[str]) -> None:
    """Remove files and folders below a folder."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            remove_any(path)


def remove_any(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
