"""Square crops around a target, as the tracker and its training see them.

Source: VFS projects/siamfc-pytorch/siamfc/{ops,image_utils,bbox_utils}.py. No half pixels anywhere: boxes are 1-based, and
sides are rounded half to even.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""``[H, W, 3]`` uint8."""


def center_of(box: NDArray[np.floating]) -> NDArray[np.float32]:
    """Center (y, x) of a 1-based box x, y, w, h, in 0-based pixels."""
    x, y, w, h = box
    return np.array([y - 1 + (h - 1) / 2, x - 1 + (w - 1) / 2], np.float32)


def crop_sides(width: float, height: float, *, exemplar: int, instance: int, context: float) -> tuple[float, float]:
    """Sides in pixels of the exemplar's square and of the search square around a target of that size.

    The exemplar's is ``sqrt((w + c)(h + c))`` with ``c = context (w + h)``; the search square has the same scale.
    """
    margin = context * (width + height)
    side = math.sqrt((width + margin) * (height + margin))
    return side, side * instance / exemplar


def crop(
    image: Image, center: NDArray[np.floating], side: float, out: int, interpolation: int = cv2.INTER_LINEAR
) -> Image:
    """The square of `side` pixels around `center` (y, x), resized to ``[out, out, 3]``.

    What lies outside is filled with the image's mean color; a square that lies outside altogether is black.
    """
    height, width = image.shape[:2]
    half = max(2.0, side) / 2
    cy, cx = float(center[0]), float(center[1])
    x0, y0, x1, y1 = (int(v) for v in np.round([cx - half, cy - half, cx + half, cy + half]))
    inside = image[max(y0, 0) : max(min(y1, height), 0), max(x0, 0) : max(min(x1, width), 0)]
    if inside.size == 0 or x1 <= x0 or y1 <= y0:
        return np.zeros((out, out, 3), np.uint8)
    # multiplied before divided, as the reference does: the other order loses a pixel where the quotient is whole
    columns = max(1, round(out * (min(x1, width) - max(x0, 0)) / (x1 - x0)))
    rows = max(1, round(out * (min(y1, height) - max(y0, 0)) / (y1 - y0)))
    left, top = int(max(0.0, -x0 * out / (x1 - x0))), int(max(0.0, -y0 * out / (y1 - y0)))
    right, bottom = out - left - columns, out - top - rows
    if right < 0 or bottom < 0:
        return np.zeros((out, out, 3), np.uint8)
    patch = cv2.resize(inside, (columns, rows), interpolation=interpolation)
    if left or top or right or bottom:
        mean = image.mean(axis=(0, 1))
        patch = cv2.copyMakeBorder(patch, top, bottom, left, right, cv2.BORDER_CONSTANT, value=mean.tolist())
    return patch.astype(np.uint8, copy=False)
