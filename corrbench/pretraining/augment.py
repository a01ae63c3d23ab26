"""Crops, color and normalization as the recipes have them. All draws come from a numpy generator that is passed in."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Pixels = NDArray[Any]
"""uint8."""
Box = tuple[int, int, int, int]
"""left, top, width, height in pixels."""

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
"""CRW and FC train with these and are tested with ImageNet's."""
IMAGENET_MEAN, IMAGENET_STD = (123.675 / 255, 116.28 / 255, 103.53 / 255), (58.395 / 255, 57.12 / 255, 57.375 / 255)


def random_box(
    rng: Generator,
    width: int,
    height: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
    *,
    square_fallback: bool = False,
    smallest: int = 1,
) -> Box:
    """A random resized crop's box: area share uniform, aspect log-uniform, 10 tries.

    Fallback: the center with the aspect clipped (torchvision), or with `square_fallback` the centerd square of the short
    side (mmaction). Boxes narrower than `smallest` pixels count as a failed try.
    """
    for _ in range(10):
        pixels = width * height * rng.uniform(*area)
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if smallest <= w <= width and smallest <= h <= height:
            return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
    if square_fallback:
        w = h = min(width, height)
    elif width / height < aspect[0]:
        w, h = width, round(width / aspect[0])
    elif width / height > aspect[1]:
        w, h = round(height * aspect[1]), height
    else:
        w, h = width, height
    return (width - w) // 2, (height - h) // 2, w, h


def to_pil(frame: Pixels) -> Image.Image:
    """``[H, W, 3]`` BGR to a PIL image."""
    return Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


def crop_pil(image: Image.Image, box: Box, size: int) -> Image.Image:
    """Crop and resize to ``size x size``, PIL bilinear (antialiased), as CRW's and SFC's transforms."""
    left, top, width, height = box
    return image.crop((left, top, left + width, top + height)).resize((size, size), Image.Resampling.BILINEAR)


def as_tensor(image: Image.Image | Pixels) -> Tensor:
    """RGB pixels as uint8 ``[3, H, W]``: they travel as bytes and become floats on the device."""
    return torch.from_numpy(np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)))


def normalize(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 ``[..., 3, H, W]`` to normalized float32."""
    shape = (3, 1, 1)
    center = torch.tensor(mean, device=pixels.device).view(shape)
    spread = torch.tensor(std, device=pixels.device).view(shape)
    return (pixels.float() / 255 - center) / spread


def color_jitter(
    rng: Generator, image: Pixels, *, brightness: float, contrast: float, saturation: float, hue: float
) -> Pixels:
    """RGB jitter: one order and four factors, drawn for this image (torchvision's definition on uint8 images)."""
    picture = Image.fromarray(image)
    from torchvision.transforms import functional

    steps = [
        (functional.adjust_brightness, rng.uniform(max(0, 1 - brightness), 1 + brightness)),
        (functional.adjust_contrast, rng.uniform(max(0, 1 - contrast), 1 + contrast)),
        (functional.adjust_saturation, rng.uniform(max(0, 1 - saturation), 1 + saturation)),
        (functional.adjust_hue, rng.uniform(-hue, hue)),
    ]
    for i in rng.permutation(4):
        adjust, factor = steps[i]
        picture = adjust(picture, factor)
    return np.asarray(picture)


def gray(image: Pixels) -> Pixels:
    """RGB to gray on three channels."""
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)


def to_lab(frame: Pixels, size: int) -> NDArray[np.float32]:
    """BGR ``[H, W, 3]`` to MAST's Lab ``[3, size, size]``: float, bilinear to a square, (L-50)/50, a/127, b/127."""
    pixels = cv2.resize(frame.astype(np.float32) / 255, (size, size), interpolation=cv2.INTER_LINEAR)
    lab: NDArray[Any] = cv2.cvtColor(pixels, cv2.COLOR_BGR2LAB)
    lab = (lab - np.array([50, 0, 0], np.float32)) / np.array([50, 127, 127], np.float32)
    return np.ascontiguousarray(lab.transpose(2, 0, 1))
