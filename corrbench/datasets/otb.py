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

from corrbench.datasets.boxes import parse_numbers
from corrbench.datasets.davis import IMAGES, known_of
from corrbench.errors import Refusal, nearest
from corrbench.images import NOTHING_KNOWN, Known, Pixels, read_image, read_known
from corrbench.reading import decode_text, is_litter, list_files, read_text, what_lies_in

FAR = 1e6
"""Pixels beyond which a coordinate is no place in or near a picture."""


@dataclass(frozen=True)
class Track:
    """One target: the frames in order and its box in each."""

    name: str
    images: tuple[Path, ...]
    boxes: NDArray[np.float64]
    """``[F, 4]``: x, y, w, h in pixels, 1-based."""
    known: Known = NOTHING_KNOWN

    def image(self, t: int) -> Pixels:
        """Frame t, ``[H, W, 3]`` uint8 BGR. Raises Refusal as `read_image`."""
        return read_image(self.images[t], self.known)


@dataclass(frozen=True)
class Otb:
    """Targets of OTB-100, or of a set in its layout, below `root`."""

    root: Path
    sequences: tuple[str, ...]
    ranges: Mapping[str, Sequence[int]]
    """First and last image of the targets that use a part of them, counted from 1 in the sorted list."""
    lengths: Mapping[str, int]
    """Frames of each target; a target that is not listed may have any number."""
    known: Known = NOTHING_KNOWN
    """What the doctor recorded; a file that differs is refused when it is read."""

    def track(self, name: str) -> Track:
        """One target. Raises Refusal for a missing folder, images and boxes that do not agree, and an unreadable annotation."""
        annotation = self.annotation(name)
        folder = annotation.parent / "img"
        images = list_files(folder, IMAGES)
        first, last = self.ranges.get(name, (1, len(images)))
        if len(images) < last:
            raise Refusal(
                f"{name}: {len(images)} images in {folder}: {what_lies_in(folder)}",
                expected=f"at least {last}: the target uses images {first} to {last}",
                do="unpack the sequence again",
            )
        images, boxes = images[first - 1 : last], read_truth(annotation, self.known)
        self.known.check_names(folder, [p.name for p in images], "inputs")
        wanted = self.lengths.get(name, len(images))
        if len(boxes) != wanted or len(images) != wanted:
            raise Refusal(
                f"{name}: {len(boxes)} boxes in {annotation.name}, {len(images)} images",
                expected=f"{wanted} of each",
                do="unpack the sequence again; a shortened copy is another benchmark and needs a row of its own (`lengths:`)",
            )
        return Track(name, tuple(images), boxes, self.known)

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
        every = sorted(p for p in path.glob("groundtruth_rect*.txt") if not is_litter(p.name))
        filled = [p for p in every if read_text(p).strip()]
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


def read_truth(path: Path, known: Known = NOTHING_KNOWN) -> NDArray[np.float64]:
    """Boxes ``[F, 4]`` of an annotation file; commas, tabs or spaces between the numbers.

    Raises Refusal for anything else, and for boxes that are no boxes of a picture: not finite, or beyond a million pixels.
    """
    boxes = parse_numbers(path, decode_text(path, read_known(path, known)[0]), 4, "four numbers x y w h")
    wild = np.flatnonzero(~(np.abs(boxes) <= FAR).all(axis=1))  # a comparison with nan is False
    if len(wild):
        raise Refusal(
            f"{path}: box {wild[0] + 1} is {boxes[wild[0]].tolist()}",
            expected="finite numbers of pixels: such a truth would count as the tracker's failure",
            do="unpack the sequence again",
        )
    return boxes


def open_otb(
    root: Path, row: Mapping[str, Any], sequences: Sequence[str], record: Mapping[str, Any] | None = None
) -> Otb:
    """The data of a benchmark row with ``dataset: otb`` below `root`; with the doctor's `record`, the files that it saw."""
    known = known_of(root, record)
    return Otb(Path(root), tuple(sequences), row.get("ranges", {}), row.get("lengths", {}), known)


def present_targets(root: Path, names: Sequence[str]) -> list[str]:
    """Those of `names` whose folder is below `root`."""
    return [n for n in names if (root / re.sub(r"\.\d+$", "", n)).is_dir()]
