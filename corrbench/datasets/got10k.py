"""GOT-10k's training part as it lies on disk, and its index: which frames may be drawn, with their boxes.

``train/list.txt`` names the sequences; each is a folder with ``00000001.jpg``, ..., ``groundtruth.txt`` (x,y,w,h per line),
``cover.label`` (0..8 per line) and ``meta_info.ini``. The index is read once and kept as one file, because the text files
of 9,335 sequences would otherwise be parsed again for every pair. Source: got10k/datasets/got10k.py, and the filter of VFS
projects/siamfc-pytorch/siamfc/datasets.py.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corrbench.datasets.index import read_table, write_table, wrong_table
from corrbench.datasets.video_reader import IMAGES
from corrbench.errors import Refusal, few
from corrbench.files import digest
from corrbench.images import check_ending, decode_image
from corrbench.parallel import parallel_map
from corrbench.progress import Progress
from corrbench.reading import list_files, read_bytes, read_text, what_lies_in

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
        """Write a table ``video,frame,x,y,w,h`` and its record. A sequence without usable frames has one row with frame -1."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for i, name in enumerate(self.names):
            part = slice(self.starts[i], self.starts[i + 1])
            rows = zip(self.frames[part].tolist(), self.boxes[part].tolist(), strict=True)
            writer.writerows([name, frame, *box] for frame, box in rows)
            if self.starts[i] == self.starts[i + 1]:
                writer.writerow([name, -1, 0, 0, 0, 0])
        write_table(path, text.getvalue())

    @classmethod
    def read(cls, path: Path) -> TrackIndex:
        """Read a table that `write` made. Raises Refusal by name for one that is altered, cut, empty or no such table."""
        text = read_table(path)
        try:
            table = pd.read_csv(
                io.StringIO(text), dtype={"video": str}, float_precision="round_trip", keep_default_na=False
            )
            missing = [name for name in COLUMNS if name not in table]
            if missing or not len(table):
                raise ValueError(f"no column {few(missing)}" if missing else "no row")
            counted, boxes = table["frame"].to_numpy(np.float64), table[list(COLUMNS[2:])].to_numpy(np.float32)
            frames = counted.astype(np.int64)
            if not np.array_equal(frames, counted):
                raise ValueError("a frame that is no whole number")
        except (ValueError, TypeError, OverflowError, pd.errors.ParserError) as error:
            said = " ".join(str(error).split())[:160]
            raise wrong_table(path, f"no table of tracks ({said})", f"the columns {', '.join(COLUMNS)}") from error
        video = table["video"].to_numpy(str)
        names = tuple(dict.fromkeys(video.tolist()))
        turns = np.append(True, video[1:] != video[:-1])
        ordered = np.diff(frames)[~turns[1:]] > 0
        sized = np.isfinite(boxes).all(1) & ((boxes[:, 2:] > 0).all(1) | (frames == -1))
        if turns.sum() != len(names) or not ordered.all():
            raise wrong_table(
                path, "a sequence or a frame stands in two places", "sequences one after another, by frame"
            )
        if (frames < -1).any() or not sized.all() or any(_is_no_name(name) for name in names):
            row = next(i for i, name in enumerate(video) if frames[i] < -1 or not sized[i] or _is_no_name(str(name)))
            raise wrong_table(path, f"line {row + 2}: {', '.join(map(str, table.iloc[row]))}", "a box of a frame")
        used = frames >= 0
        counts = dict(zip(*np.unique(video[used], return_counts=True), strict=True))
        starts = np.cumsum([0, *(int(counts.get(n, 0)) for n in names)]).astype(np.int64)
        return cls(names, starts, frames[used].astype(np.int32), boxes[used])


def _is_no_name(name: str) -> bool:
    """True for what is no plain name of a folder."""
    return name in ("", ".", "..") or "/" in name or "\0" in name


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
    """An image ``[H, W, 3]`` uint8 RGB, by OpenCV in training and in tracking. Raises Refusal when it is missing, cut or
    cannot be read."""
    try:
        data = read_bytes(path)
    except Refusal as refusal:
        reason = str(refusal).splitlines()[0].partition(": ")[2]
        raise Refusal(
            f"{path}: missing or not a readable image ({reason})",
            expected="a JPEG image",
            do="unpack the sequence again",
        ) from refusal
    check_ending(path, data)
    return cv2.cvtColor(decode_image(path, data), cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def build_track_index(root: Path, workers: int = 1, *, count: int | None = None) -> TrackIndex:
    """Read and check every sequence of ``train/list.txt``; there must be `count`, where that is known.

    Raises Refusal that names all that are not as they should be.
    """
    listing = root / "train" / "list.txt"
    if not listing.is_file():
        raise Refusal(
            f"{listing}: missing", expected="GOT-10k's list of training sequences", do="correct the data root"
        )
    names = read_text(listing).split()
    twice = [name for name, count in Counter(names).items() if count > 1]
    if no_names := [name for name in names if _is_no_name(name)] or twice or ([] if names else ["nothing"]):
        raise Refusal(
            f"{listing}: lists {few([repr(name) for name in no_names])}" + (" twice" if no_names is twice else ""),
            expected="names of folders beside it, each once",
            do="put the list of GOT-10k back",
        )
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
    try:
        images = [p.name for p in list_files(folder, IMAGES)]
        boxes, cover = _numbers(folder / "groundtruth.txt"), _numbers(folder / "cover.label")
        if boxes.shape != (len(images), 4) or cover.size != len(images):
            return f"{folder.name}: {len(images)} images, {len(boxes)} boxes, {cover.size} cover values"
        if images != [f"{i + 1:08d}.jpg" for i in range(len(images))]:
            return f"{folder.name}: {what_lies_in(folder)}; expected are 00000001.jpg, 00000002.jpg, ..."
        first = read_rgb(folder / images[0])
    except Refusal as refusal:
        return f"{folder.name}: {str(refusal).splitlines()[0]}"
    with np.errstate(over="ignore"):
        kept, cover = boxes.astype(np.float32), cover.reshape(-1)
    if len(wrong := np.flatnonzero(~(np.isfinite(kept).all(1) & np.isfinite(cover)))):
        return f"{folder.name}: line {wrong[0] + 1} of groundtruth.txt or cover.label is not finite"
    keep = usable_frames(kept, cover, width=first.shape[1], height=first.shape[0])
    return np.flatnonzero(keep).astype(np.int32), kept[keep]


def _numbers(path: Path) -> NDArray[np.float64]:
    """``[lines, values]`` of a text of numbers with commas."""
    if not path.exists():
        raise Refusal(f"{path.name} not found", expected="numbers with commas", do="unpack the sequence again")
    try:
        return np.loadtxt(io.StringIO(read_text(path)), delimiter=",", ndmin=2)
    except ValueError as error:
        raise Refusal(f"{path}: {error}", expected="numbers with commas", do="unpack the sequence again") from error


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
