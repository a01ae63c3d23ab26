"""Files of boxes and times, one per target, in got10k's form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corrbench.errors import Refusal

Boxes = NDArray[np.float64]
"""``[F, 4]``: x, y, w, h in pixels, 1-based."""


def write_boxes(path: Path, boxes: Boxes) -> None:
    """``x,y,w,h`` per line with three decimals, as the toolkit writes them."""
    np.savetxt(path, boxes, fmt="%.3f", delimiter=",")


def read_boxes(path: Path) -> Boxes:
    """Boxes that `write_boxes` (or another tracker) wrote. Raises Refusal for a file that holds no boxes."""
    try:
        boxes = np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise Refusal(f"{path}: {error}", expected="lines x,y,w,h", do="track the sequence again") from error
    if boxes.shape[1:] != (4,):
        raise Refusal(f"{path}: {boxes.shape[1]} columns", expected="4: x,y,w,h", do="track the sequence again")
    return boxes


def write_times(path: Path, seconds: NDArray[np.float64]) -> None:
    """Seconds per frame, one per line, as the toolkit writes them."""
    np.savetxt(path, seconds, fmt="%.8f")
