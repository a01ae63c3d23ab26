"""How an image must be prepared for a network: its color space and normalization. Every network has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Color = Literal["rgb", "lab", "luminance"]
RGB_MEAN, RGB_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's: the test normalization of every RGB encoder of the papers (CRW code/data/vos.py)."""
LAB_MEAN, LAB_STD = (50.0, 0.0, 0.0), (50.0, 127.0, 127.0)
"""MAST functional/feeder/dataset/DavisLoaderLab.py, for Lab made from float BGR (L 0..100, a and b about -127..127)."""
LUMINANCE = (128.0, 128.0, 128.0)
"""Mean and scale of the 8-bit L channel, three times, for UVC's network in CRW's harness (CRW code/data/vos.py)."""


@dataclass(frozen=True)
class Preprocess:
    """Color space, mean and standard deviation of a network's input, on 0..1 for RGB."""

    color: Color = "rgb"
    """`luminance`: the 8-bit L channel three times, on 0..255."""
    mean: tuple[float, float, float] = RGB_MEAN
    std: tuple[float, float, float] = RGB_STD

    @classmethod
    def of_color(cls, color: str) -> Preprocess:
        """The normalization of the papers' networks in a color space."""
        known = {
            "rgb": cls(),
            "lab": cls("lab", LAB_MEAN, LAB_STD),
            "luminance": cls("luminance", LUMINANCE, LUMINANCE),
        }
        return known[color]

    def __call__(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """BGR ``[H, W, 3]`` float32 in 0..1 to the network's input ``[H, W, 3]`` float32."""
        if self.color == "lab":
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2LAB)
        elif self.color == "luminance":
            bgr = (pixels * np.float32(255)).astype(
                np.uint8
            )  # as CRW's loader: the product may fall below a whole number
            pixels = cv2.cvtColor(bgr, cv2.COLOR_BGR2LAB)[:, :, :1].repeat(3, axis=2).astype(np.float32)
        else:
            pixels = pixels[:, :, ::-1]
        return np.asarray((pixels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32), np.float32)

    @property
    def on_255(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of RGB on 0..255, as trackers write them: (123.675, 116.28, 103.53)."""
        return tuple(round(255 * m, 6) for m in self.mean), tuple(round(255 * s, 6) for s in self.std)
