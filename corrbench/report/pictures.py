"""What the strips of masks and of boxes share."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH = 420
"""Pixels of one picture in a strip."""
Picture = NDArray[np.uint8]


def caption(picture: Picture, text: str) -> None:
    """Write white text with a black rim into the upper left corner."""
    for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(picture, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, width, cv2.LINE_AA)
