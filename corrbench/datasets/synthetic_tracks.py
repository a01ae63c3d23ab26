"""Tiny tracking data made of moving textures, in the layouts of OTB-100 and GOT-10k: for the demo and for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corrbench.datasets.boxes import Boxes
from corrbench.datasets.synthetic import Frame, sequence_frames
from corrbench.images import write_image
from corrbench.progress import Progress


def track_frames(seed: int, *, frames: int, height: int, width: int, objects: int) -> tuple[list[Frame], Boxes]:
    """Images ``[H, W, 3]`` BGR and the 1-based boxes ``[F, 4]`` of the first object; its last box where it is hidden."""
    images: list[Frame] = []
    boxes: list[list[float]] = []
    for image, ids in sequence_frames(seed, frames=frames, height=height, width=width, objects=objects):
        images.append(image)
        boxes.append(_box(ids, boxes))
    return images, np.array(boxes, np.float64)


def _box(ids: NDArray[np.uint8], earlier: list[list[float]]) -> list[float]:
    rows, columns = np.flatnonzero((ids == 1).any(1)), np.flatnonzero((ids == 1).any(0))
    if not len(rows):
        return earlier[-1]
    return [columns[0] + 1, rows[0] + 1, columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]


def write_otb(root: Path, names: list[str], *, frames: int, height: int, width: int, seed: int = 0) -> None:
    """Write one folder for each name; annotations delimited by commas, tabs and spaces in turn, as in OTB-100."""
    with Progress("synthetic", len(names), unit="sequence") as bar:
        for i, name in enumerate(names):
            images, boxes = track_frames(500 + seed + i, frames=frames, height=height, width=width, objects=1 + i % 2)
            (root / name / "img").mkdir(parents=True, exist_ok=True)
            for t, image in enumerate(images):
                write_image(root / name / "img" / f"{t + 1:04d}.jpg", image)
            mark = ",\t "[i % 3]
            lines = [mark.join(f"{v:.0f}" for v in box) for box in boxes]
            (root / name / "groundtruth_rect.txt").write_text("\n".join(lines) + "\n")
            bar.advance(note=name)


def write_got10k(root: Path, *, videos: int, frames: int, height: int, width: int, seed: int = 0) -> None:
    """Write ``train/GOT-10k_Train_000001``, ... and ``train/list.txt``."""
    names = [f"GOT-10k_Train_{i + 1:06d}" for i in range(videos)]
    with Progress("synthetic", videos, unit="sequence") as bar:
        for i, name in enumerate(names):
            folder = root / "train" / name
            folder.mkdir(parents=True, exist_ok=True)
            images, boxes = track_frames(2000 + seed + i, frames=frames, height=height, width=width, objects=1 + i % 3)
            for t, image in enumerate(images):
                write_image(folder / f"{t + 1:08d}.jpg", image)
            (folder / "groundtruth.txt").write_text("".join(",".join(f"{v:.4f}" for v in b) + "\n" for b in boxes))
            for label, value in (("cover", 8), ("absence", 0), ("cut_by_image", 0)):
                (folder / f"{label}.label").write_text(f"{value}\n" * frames)
            (folder / "meta_info.ini").write_text(
                f"[METAINFO]\nurl: none\nobject_class: texture\nresolution: ({width}, {height})\n"
            )
            bar.advance(note=name)
    # the list last: what is listed is complete
    (root / "train" / "list.txt").write_text("\n".join(names) + "\n")
