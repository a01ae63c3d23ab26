"""GOT-10k's training part as it lies on disk, and its index: which frames may be drawn, with their boxes.

``train/list.txt`` names the sequences; each is a folder with ``00000001.jpg``, ..., ``groundtruth.txt`` (x,y,w,h per line),
``cover.label`` (0..8 per line) and ``meta_info.ini``. The index is read once and kept as one file, because the text files
of 9,335 sequences would otherwise be parsed again for every pair. Source: got10k/datasets/got10k.py, and the filter of VFS
projects/siamfc-pytorch/siamfc/datasets.py.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corrbench.errors import Refusal, few
from corrbench.files import atomic, digest
from corrbench.parallel import parallel_map
from corrbench.progress import Progress

COLUMNS = ("video", "frame", "x", "y", "w", "h")
MIN_KEPT = 2
"""A sequence with fewer usable frames is never drawn."""


@dataclass(frozen=True)
class TrackIndex:
    """Usable frames of all sequences, one after another."""

    names: tuple[str, ...]
    """Folder names, in the order of the list."""
    starts: NDArray[np.int64]
    """``[S + 1]``: sequence i has rows ``starts[i]`` to ``starts[i + 1]`` of the next two."""
    frames: NDArray[np.int32]
    """``[N]``: number of the usable frame, from 0."""
    boxes: NDArray[np.float32]
    """``[N, 4]``: x, y, w, h in pixels."""

    @property
    def videos(self) -> tuple[str, ...]:
        """The sequences, as the training loop counts them."""
        return self.names

    @cached_property
    def fingerprint(self) -> str:
        """12 hex digits over names, usable frames and boxes."""
        return digest([list(self.names), self.starts.tolist(), self.frames.tobytes().hex(), self.boxes.tobytes().hex()])

    def kept(self, sequence: int) -> NDArray[np.int32]:
        """Numbers of the usable frames of a sequence."""
        return self.frames[self.starts[sequence] : self.starts[sequence + 1]]

    def box(self, sequence: int, frame: int) -> NDArray[np.float32]:
        """The box of a usable frame."""
        row = self.starts[sequence] + int(np.searchsorted(self.kept(sequence), frame))
        return self.boxes[row]

    def write(self, path: Path) -> None:
        """Write a table ``video,frame,x,y,w,h``, atomically. A sequence without usable frames has one row with frame -1."""
        with atomic(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for i, name in enumerate(self.names):
                part = slice(self.starts[i], self.starts[i + 1])
                rows = zip(self.frames[part].tolist(), self.boxes[part].tolist(), strict=True)
                writer.writerows([name, frame, *box] for frame, box in rows)
                if self.starts[i] == self.starts[i + 1]:
                    writer.writerow([name, -1, 0, 0, 0, 0])

    @classmethod
    def read(cls, path: Path) -> TrackIndex:
        """Read a table that `write` made."""
        table = pd.read_csv(path, dtype={"video": str}, float_precision="round_trip")
        names = tuple(dict.fromkeys(table["video"]))
        table = table[table["frame"] >= 0]
        counts = table["video"].value_counts()
        starts = np.cumsum([0, *(int(counts.get(n, 0)) for n in names)]).astype(np.int64)
        return cls(names, starts, table["frame"].to_numpy(np.int32), table[["x", "y", "w", "h"]].to_numpy(np.float32))


@dataclass(frozen=True)
class TrackReader:
    """Frames of indexed sequences."""

    root: Path
    """Root of the data set, the folder that holds ``train/``."""
    index: TrackIndex

    def read(self, sequence: int, number: int) -> NDArray[np.uint8]:
        """Frame ``[H, W, 3]`` uint8 RGB, counted from 0. Raises Refusal for an unreadable image."""
        path = self.root / "train" / self.index.names[sequence] / f"{number + 1:08d}.jpg"
        return read_rgb(path)


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """An image ``[H, W, 3]`` uint8 RGB, by OpenCV in training and in tracking. Raises Refusal when it cannot be read."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise Refusal(
            f"{path}: missing or not a readable image", expected="a JPEG image", do="unpack the sequence again"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def build_track_index(root: Path, workers: int = 1, *, count: int | None = None) -> TrackIndex:
    """Read and check every sequence of ``train/list.txt``; there must be `count`, where that is known.

    Raises Refusal that names all that are not as they should be.
    """
    listing = root / "train" / "list.txt"
    if not listing.is_file():
        raise Refusal(
            f"{listing}: missing", expected="GOT-10k's list of training sequences", do="correct the data root"
        )
    names = listing.read_text().split()
    if count is not None and len(names) != count:
        raise Refusal(
            f"{listing}: {len(names)} sequences",
            expected=f"{count}: a layer trained on fewer is another probe",
            do="unpack every archive; for a part see `A part of GOT-10k` in docs/probe.md",
        )
    kept, wrong = [], []
    with Progress("index", len(names), unit="sequence") as bar:
        for found in parallel_map(_usable, [(root / "train" / n) for n in names], workers):
            if isinstance(found, str):
                wrong.append(found)
            else:
                kept.append(found)
            bar.advance()
    if wrong:
        raise Refusal(
            f"{len(wrong)} of {len(names)} sequences are not as they should be: {few(wrong)}",
            expected="as many boxes and cover values as images",
            do="unpack them again",
        )
    starts = np.cumsum([0, *(len(frames) for frames, _ in kept)]).astype(np.int64)
    frames = np.concatenate([f for f, _ in kept]) if kept else np.zeros(0, np.int32)
    boxes = np.concatenate([b for _, b in kept]) if kept else np.zeros((0, 4), np.float32)
    index = TrackIndex(tuple(names), starts, frames, boxes)
    if not (np.diff(starts) >= MIN_KEPT).any():
        raise Refusal(
            f"{root}: no sequence with two usable frames",
            expected="targets that are visible and neither tiny nor huge",
            do="check groundtruth.txt and cover.label",
        )
    return index


def _usable(folder: Path) -> tuple[NDArray[np.int32], NDArray[np.float32]] | str:
    """Usable frames and their boxes of one sequence, or what is wrong with it."""
    images = len(list(folder.glob("*.jpg")))
    try:
        boxes = np.loadtxt(folder / "groundtruth.txt", delimiter=",", ndmin=2).astype(np.float32)
        cover = np.loadtxt(folder / "cover.label", ndmin=1)
        first = cv2.imread(str(folder / f"{1:08d}.jpg"))
    except (OSError, ValueError) as error:
        return f"{folder.name}: {error}"
    if first is None:
        return f"{folder.name}: 00000001.jpg is missing or not readable"
    if boxes.shape != (images, 4) or len(cover) != images:
        return f"{folder.name}: {images} images, {len(boxes)} boxes, {len(cover)} cover values"
    keep = usable_frames(boxes, cover, width=first.shape[1], height=first.shape[0])
    return np.flatnonzero(keep).astype(np.int32), boxes[keep]


def usable_frames(boxes: NDArray[Any], cover: NDArray[Any], *, width: int, height: int) -> NDArray[np.bool_]:
    """Frames that may be drawn: target visible, neither tiny nor huge nor very thin. ``[F, 4]`` and ``[F]`` -> ``[F]``.

    `width`, `height` of the sequence's first image. `cover` is the visible share in eighths; at its usual maximum of 8 the
    bound means 3 and more. Source: VFS siamfc/datasets.py.
    """
    w, h = boxes[:, 2], boxes[:, 3]
    keep = (w * h >= 20) & (w >= 20) & (w <= 500) & (h >= 20) & (h <= 500)
    keep &= (w / width >= 0.01) & (w / width <= 0.5) & (h / height >= 0.01) & (h / height <= 0.5)
    shape = w / np.maximum(1, h)
    keep &= (shape >= 0.25) & (shape <= 4)
    return keep & (cover > max(1.0, 0.3 * float(np.max(cover, initial=0))))


def draw_pair(index: TrackIndex, sequence: int, rng: np.random.Generator) -> tuple[int, int]:
    """Numbers of two usable frames, the earlier first, less than 100 apart; one frame twice where chance finds none.

    Exactly two usable frames are taken as they are. Source: VFS siamfc/datasets.py (up to 100 tries).
    """
    kept = index.kept(sequence)
    if len(kept) == MIN_KEPT:
        return int(kept[0]), int(kept[1])
    for _ in range(100):
        a, b = sorted(rng.choice(len(kept), 2, replace=False))
        if kept[b] - kept[a] < 100:
            return int(kept[a]), int(kept[b])
    alone = int(rng.choice(kept))
    return alone, alone


def epoch_pairs(index: TrackIndex, rng: np.random.Generator, *, per_sequence: int) -> NDArray[np.int64]:
    """One epoch ``[n, 3]`` of (sequence, earlier frame, later frame): every sequence in random order.

    A sequence without two usable frames gives its turn to another, drawn at random.
    """
    usable = np.flatnonzero(np.diff(index.starts) >= MIN_KEPT)
    turns = np.concatenate([rng.permutation(len(index.names)) for _ in range(per_sequence)])
    known = set(usable.tolist())
    chosen: Sequence[int] = [int(t) if int(t) in known else int(rng.choice(usable)) for t in turns]
    return np.array([[s, *draw_pair(index, s, rng)] for s in chosen], np.int64)
