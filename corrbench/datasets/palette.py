"""The DAVIS palette, and masks as palette PNGs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# rows 0..21 of the palette that the DAVIS annotations and the reference codes use; row 9 has 191 where PASCAL has 192
_FIRST = (
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128),
    (64, 0, 0), (191, 0, 0), (64, 128, 0), (191, 128, 0), (64, 0, 128), (191, 0, 128), (64, 128, 128),
    (191, 128, 128), (0, 64, 0), (128, 64, 0), (0, 191, 0), (128, 191, 0), (0, 64, 128), (128, 64, 128),
)  # fmt: skip
PALETTE: NDArray[np.uint8] = np.array([*_FIRST, *((i, i, i) for i in range(22, 256))], np.uint8)
"""``[256, 3]`` RGB; rows 22..255 are gray."""


def save_mask(path: Path, ids: NDArray[np.uint8]) -> None:
    """Write ``[H, W]`` object ids as an 8-bit palette PNG."""
    image = Image.fromarray(ids)
    image.putpalette(PALETTE.flatten().tolist())
    image.save(path)
