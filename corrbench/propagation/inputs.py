"""From a decoded image to an encoder's input: size, color space, normalization."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from corrbench.encoders.preprocess import Preprocess
from corrbench.propagation.decode import Sizes
from corrbench.propagation.protocol import Image

DINO_STD = (0.228, 0.224, 0.225)
"""DINO's eval_video_segmentation.py has 0.228 in the first place."""


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


def prepare(image: NDArray[np.uint8], sizes: Sizes, rule: Image, preprocess: Preprocess) -> Tensor:
    """One image ``[H, W, 3]`` uint8 BGR to the encoder's input ``[3, H', W']`` float32.

    `preprocess` is the network's; a protocol may ask for DINO's standard deviation. Resizing happens on uint8 (VFS, DINO),
    padding after normalization (LIIR).
    """
    if not sizes.padded and sizes.network != sizes.image:
        image = cv2.resize(image, sizes.network[::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    if rule.normalization == "dino" and preprocess.color == "rgb":
        preprocess = replace(preprocess, std=DINO_STD)
    pixels = preprocess(image.astype(np.float32) / 255.0)
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    if sizes.padded:
        bottom, right = sizes.network[0] - sizes.image[0], sizes.network[1] - sizes.image[1]
        tensor = torch.nn.functional.pad(tensor, (0, right, 0, bottom))
    return tensor
