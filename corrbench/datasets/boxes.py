"""Files of boxes and times, one per target, in got10k's form."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corrbench.errors import Refusal
from corrbench.reading import read_text

Boxes = NDArray[np.float64]
"""``[F, 4]``: x, y, w, h in pixels, 1-based."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|[+-]?(nan|inf(inity)?)$", re.IGNORECASE)


def write_boxes(path: Path, boxes: Boxes) -> None:
    """``x,y,w,h`` per line with three decimals, as the toolkit writes them."""
    np.savetxt(path, boxes, fmt="%.3f", delimiter=",")


def read_numbers(path: Path, columns: int, expected: str) -> NDArray[np.float64]:
    """Lines of `columns` numbers ``[F, columns]``; commas, tabs or spaces between them, empty lines passed over.

    Raises Refusal for a file that is no UTF-8 text and, by its number, for a line of anything else.
    """
    return parse_numbers(path, read_text(path), columns, expected)


def parse_numbers(path: Path, text: str, columns: int, expected: str) -> NDArray[np.float64]:
    """What `read_numbers` reads, of the text of a file; `path` is for the message."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        # between two commas stands a number, or the line is broken
        parts = line.strip().removesuffix(",").split(",")
        words = [word for part in parts for word in part.split() or [""]]
        if not line.strip():
            continue
        if len(words) != columns or not all(map(_NUMBER.match, words)):
            raise Refusal(
                f"{path}: line {number} is {line.strip()[:80]!r}",
                expected=f"{expected}, with commas, tabs or spaces between them",
                do="correct the file, or unpack it again",
            )
        rows.append([float(w) for w in words])
    return np.array(rows, np.float64).reshape(-1, columns)


def read_boxes(path: Path) -> Boxes:
    """Boxes that `write_boxes` or another tracker wrote; a box that is not a number counts as a failure of the tracker.

    Raises Refusal for a file that holds no boxes.
    """
    boxes = read_numbers(path, 4, "four numbers x y w h")
    if not len(boxes):
        raise Refusal(f"{path}: no boxes", expected="a line x,y,w,h for every frame", do="track the sequence again")
    return boxes


def write_times(path: Path, seconds: NDArray[np.float64]) -> None:
    """Seconds per frame, one per line, as the toolkit writes them."""
    np.savetxt(path, seconds, fmt="%.8f")


def read_times(path: Path, frames: int) -> NDArray[np.float64]:
    """Seconds per frame ``[F]``. Raises Refusal when they are not `frames` finite numbers."""
    seconds = read_numbers(path, 1, "a number of seconds")[:, 0]
    if len(seconds) != frames or not np.isfinite(seconds).all():
        raise Refusal(
            f"{path}: {len(seconds)} times",
            expected=f"{frames} finite numbers, one for each frame",
            do="track the sequence again, or remove the file: the speed is then left out",
        )
    return seconds
