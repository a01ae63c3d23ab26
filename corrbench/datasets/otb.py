"""OTB-100 as it lies on disk: ``<Folder>/img/*.jpg`` and ``<Folder>/groundtruth_rect*.txt``.

A folder with several annotation files that hold boxes has several targets (``Jogging.1``, ``Jogging.2``); an empty file is
no target (Human4's first). Some targets use a part of the frames; the benchmark row lists those ranges, the number of
frames of each target, and the names. Boxes are x, y, w, h in pixels, 1-based. Source: got10k/datasets/otb.py; the toolkit
itself is used by the tests only, because it downloads where a folder is missing and needs a second OpenCV.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrbench.errors import Refusal, nearest


@dataclass(frozen=True)
class Track:
    """One target: the frames in order and its box in each."""

    name: str
    images: tuple[Path, ...]
    boxes: NDArray[np.float64]
    """``[F, 4]``: x, y, w, h in pixels, 1-based."""


@dataclass(frozen=True)
class Otb:
    """Targets of OTB-100, or of a set in its layout, below `root`."""

    root: Path
    sequences: tuple[str, ...]
    ranges: Mapping[str, Sequence[int]]
    """First and last image of the targets that use a part of them, counted from 1 in the sorted list."""
    lengths: Mapping[str, int]
    """Frames of each target; a target that is not listed may have any number."""

    def track(self, name: str) -> Track:
        """One target. Raises Refusal for a missing folder, images and boxes that do not agree, and an unreadable annotation."""
        annotation = self.annotation(name)
        images = sorted((annotation.parent / "img").glob("*.jpg"))
        first, last = self.ranges.get(name, (1, len(images)))
        if len(images) < last:
            raise Refusal(
                f"{name}: {len(images)} images in {annotation.parent / 'img'}",
                expected=f"at least {last}: the target uses images {first} to {last}",
                do="unpack the sequence again",
            )
        images, boxes = images[first - 1 : last], read_truth(annotation)
        wanted = self.lengths.get(name, len(images))
        if len(boxes) != wanted or len(images) != wanted:
            raise Refusal(
                f"{name}: {len(boxes)} boxes in {annotation.name}, {len(images)} images",
                expected=f"{wanted} of each",
                do="unpack the sequence again; a shortened copy is another benchmark and needs a row of its own (`lengths:`)",
            )
        return Track(name, tuple(images), boxes)

    def annotation(self, name: str) -> Path:
        """The annotation file of a target."""
        folder, number = (found[1], int(found[2])) if (found := re.match(r"(.+)\.(\d+)$", name)) else (name, None)
        path = self.root / folder
        if not path.is_dir():
            there = self._folders
            raise Refusal(
                f"{path}: missing, or named otherwise (names count by case)",
                expected=f"the folder of {name}; {nearest(folder, there)}",
                do="unpack the sequence, or correct the data root",
            )
        every = sorted(path.glob("groundtruth_rect*.txt"))
        filled = [p for p in every if p.stat().st_size and p.read_text().strip()]
        if not filled:
            raise Refusal(
                f"{name}: {len(every)} annotation files, none with boxes ({', '.join(p.name for p in every) or 'none at all'})",
                expected="groundtruth_rect.txt with a box per line",
                do="unpack the sequence again",
            )
        if number is None and len(filled) == 1:
            return filled[0]
        if number is None or not 1 <= number <= len(filled) or len(filled) == 1:
            targets = [folder] if len(filled) == 1 else [f"{folder}.{i + 1}" for i in range(len(filled))]
            raise Refusal(f"no target {name} in {path}", expected=" or ".join(targets), do="correct the name")
        return filled[number - 1]

    @cached_property
    def _folders(self) -> list[str]:
        return sorted(p.name for p in self.root.iterdir() if p.is_dir()) if self.root.is_dir() else []


def read_truth(path: Path) -> NDArray[np.float64]:
    """Boxes ``[F, 4]`` of an annotation file; commas, tabs or spaces between the numbers. Raises Refusal for anything else."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        try:
            values = [float(w) for w in words]
        except ValueError:
            values = []
        if len(values) != 4:
            raise Refusal(
                f"{path}: line {number} is {line.strip()!r}", expected="four numbers x y w h", do="unpack it again"
            )
        rows.append(values)
    return np.array(rows, np.float64).reshape(-1, 4)


def open_otb(root: Path, row: Mapping[str, Any], sequences: Sequence[str]) -> Otb:
    """The data of a benchmark row with ``dataset: otb`` below `root`."""
    return Otb(Path(root), tuple(sequences), row.get("ranges", {}), row.get("lengths", {}))


def present_targets(root: Path, names: Sequence[str]) -> list[str]:
    """Those of `names` whose folder is below `root`."""
    return [n for n in names if (root / re.sub(r"\.\d+$", "", n)).is_dir()]
