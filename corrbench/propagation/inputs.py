"""From a decoded image to an encoder's input: size, colour space, normalization."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from corrbench.propagation.decode import Sizes
from corrbench.propagation.protocol import Image

RGB_MEAN, RGB_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet constants: the test normalization of every RGB encoder here (CRW code/data/vos.py)."""
DINO_STD = (0.228, 0.224, 0.225)
"""DINO's eval_video_segmentation.py has 0.228 in the first place."""
LAB_MEAN, LAB_STD = (50.0, 0.0, 0.0), (50.0, 127.0, 127.0)
"""MAST functional/feeder/dataset/DavisLoaderLab.py, for Lab made from float BGR (L 0..100, a and b about -127..127)."""
LUMINANCE = (128.0, 128.0, 128.0)
"""Mean and scale of the 8-bit L channel, three times, for UVC's network in CRW's harness (CRW code/data/vos.py)."""


def network_size(height: int, width: int, rule: Image) -> Sizes:
    """Sizes of a sequence whose images are ``height x width``."""
    image = (height, width)
    if rule.size == "native":
        return Sizes(image, image, padded=False)
    assert rule.pixels is not None
    if rule.size == "pad":
        up = tuple(-(-side // rule.pixels) * rule.pixels for side in image)
        return Sizes(image, (up[0], up[1]), padded=True)
    scale = rule.pixels / min(image)
    if rule.size == "short_side":  # mmcv imrescale: int(x * scale + 0.5)
        return Sizes(image, (int(height * scale + 0.5), int(width * scale + 0.5)), padded=False)
    if height <= width:  # floor64
        return Sizes(image, (rule.pixels, int(rule.pixels * width / height // 64 * 64)), padded=False)
    return Sizes(image, (int(rule.pixels * height / width // 64 * 64), rule.pixels), padded=False)


def prepare(image: NDArray[np.uint8], sizes: Sizes, rule: Image, colour: str) -> Tensor:
    """One image ``[H, W, 3]`` uint8 BGR to the encoder's input ``[3, H', W']`` float32.

    `colour` is `rgb`, `lab` or `luminance`. Resizing happens on uint8 (VFS, DINO); padding after normalization (LIIR).
    """
    if not sizes.padded and sizes.network != sizes.image:
        image = cv2.resize(image, sizes.network[::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    pixels = in_color(image.astype(np.float32) / 255.0, colour, dino=rule.normalization == "dino")
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    if sizes.padded:
        bottom, right = sizes.network[0] - sizes.image[0], sizes.network[1] - sizes.image[1]
        tensor = torch.nn.functional.pad(tensor, (0, right, 0, bottom))
    return tensor


def in_color(pixels: NDArray[Any], colour: str, *, dino: bool = False) -> NDArray[np.float32]:
    """BGR ``[H, W, 3]`` float32 in 0..1 to the network's color space, normalized."""
    if colour == "lab":
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2LAB)
        mean, std = LAB_MEAN, LAB_STD
    elif colour == "luminance":
        bgr = (pixels * np.float32(255)).astype(np.uint8)  # as CRW's loader: the product may fall below a whole number
        pixels = cv2.cvtColor(bgr, cv2.COLOR_BGR2LAB)[:, :, :1].repeat(3, axis=2).astype(np.float32)
        mean, std = LUMINANCE, LUMINANCE
    else:
        pixels = pixels[:, :, ::-1]
        mean, std = RGB_MEAN, DINO_STD if dino else RGB_STD
    return np.asarray((pixels - np.array(mean, np.float32)) / np.array(std, np.float32), np.float32)
