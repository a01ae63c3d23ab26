"""Augmentation of frames and masks for STM's training (Mask-Propagation dataset/{vos_dataset,static_dataset,tps}.py).

Images are PIL RGB, masks PIL gray. All draws come from a numpy generator; what must be the same for several frames is drawn
once, as a function from frame to frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

Picture = Image.Image
Pair = tuple[Picture, Picture]
FILL = (124, 116, 104)
"""ImageNet's mean color, in the corners that a rotation opens."""
BICUBIC, NEAREST = InterpolationMode.BICUBIC, InterpolationMode.NEAREST


def jitter(
    rng: Generator, *, brightness: float, contrast: float, saturation: float, hue: float = 0.0, gray: float = 0.0
) -> Callable[[Picture], Picture]:
    """Color jitter in a random order, then gray with probability `gray`."""
    change = [
        (F.adjust_brightness, float(rng.uniform(1 - brightness, 1 + brightness))),
        (F.adjust_contrast, float(rng.uniform(1 - contrast, 1 + contrast))),
        (F.adjust_saturation, float(rng.uniform(1 - saturation, 1 + saturation))),
        (F.adjust_hue, float(rng.uniform(-hue, hue))),
    ]
    order = rng.permutation(len(change))
    to_gray = bool(rng.random() < gray)

    def apply(image: Picture) -> Picture:
        for i in order:
            adjust, factor = change[i]
            if adjust is not F.adjust_hue or hue:
                image = adjust(image, factor)
        return F.rgb_to_grayscale(image, num_output_channels=3) if to_gray else image

    return apply


def affine(
    rng: Generator,
    *,
    degrees: float,
    shear: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    how: InterpolationMode = BICUBIC,
    mask_how: InterpolationMode = NEAREST,
) -> Callable[[Pair], Pair]:
    """Random rotation, x-shear and scale around the center; corners get the mean color, and 0 in the mask."""
    angle, skew = float(rng.uniform(-degrees, degrees)), float(rng.uniform(-shear, shear))
    factor = float(rng.uniform(*scale))

    def apply(pair: Pair) -> Pair:
        image, mask = pair
        move = {"angle": angle, "translate": [0, 0], "scale": factor, "shear": [skew, 0.0]}
        return (
            F.affine(image, **move, interpolation=how, fill=list(FILL)),
            F.affine(mask, **move, interpolation=mask_how, fill=0),
        )  # fmt: skip

    return apply


def flip(rng: Generator) -> Callable[[Pair], Pair]:
    """Mirror with probability one half."""
    mirror = bool(rng.random() < 0.5)
    return lambda pair: (F.hflip(pair[0]), F.hflip(pair[1])) if mirror else pair


def resized_crop(rng: Generator, size: tuple[int, int], out: int, area: tuple[float, float]) -> Callable[[Pair], Pair]:
    """Random resized crop of an image of `size` (width, height): torchvision's rule with aspects 3/4 to 4/3, 10 tries."""
    width, height = size
    for _ in range(10):
        target = width * height * float(rng.uniform(*area))
        aspect = math.exp(float(rng.uniform(math.log(3 / 4), math.log(4 / 3))))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
            break
    else:
        ratio = width / height
        w, h = (
            (width, round(width / (3 / 4)))
            if ratio < 3 / 4
            else (round(height * (4 / 3)), height)
            if ratio > 4 / 3
            else (width, height)
        )
        top, left = (height - h) // 2, (width - w) // 2

    def apply(pair: Pair) -> Pair:
        return tuple(
            F.resized_crop(p, top, left, h, w, [out, out], how) for p, how in zip(pair, (BICUBIC, NEAREST), strict=True)
        )  # type: ignore[return-value]

    return apply


def short_side(pair: Pair, out: int, *, mask_how: InterpolationMode = NEAREST) -> Pair:
    """Resize to a short side of `out`."""
    return F.resize(pair[0], [out], BICUBIC), F.resize(pair[1], [out], mask_how)


def crop(rng: Generator, pair: Pair, out: int) -> Pair:
    """A random square, padded with the mean color where the image is smaller."""
    width, height = pair[0].size
    right, bottom = max(0, out - width), max(0, out - height)
    image, mask = F.pad(pair[0], [0, 0, right, bottom], list(FILL)), F.pad(pair[1], [0, 0, right, bottom], 0)
    width, height = image.size
    top, left = int(rng.integers(0, height - out + 1)), int(rng.integers(0, width - out + 1))
    return F.crop(image, top, left, out, out), F.crop(mask, top, left, out, out)


def thin_plate_warp(image: Picture, mask: Picture, rng: Generator, *, points: int = 12, strength: float = 0.02) -> Pair:
    """A thin-plate spline through random control points, each moved by a normal draw; outside is black (dataset/tps.py).

    Points have distinct rows and columns. The grid is scaled by the width, not by the width less one: even no warp at all
    samples the last column outside.
    """
    width, height = image.size
    rows = rng.choice(height, points, replace=False) / height
    columns = rng.choice(width, points, replace=False) / width
    source = np.stack([rows, columns], 1)
    moved = source + rng.normal(0, strength, source.shape)
    field = spline(moved, source - moved)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    at = np.stack([x, y], -1)
    where = ((at + field(at)) * [width, height]).astype(np.float32)
    warped = [
        cv2.remap(np.array(p), where[..., 0], where[..., 1], how, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        for p, how in ((image, cv2.INTER_LINEAR), (mask, cv2.INTER_NEAREST))
    ]
    return Image.fromarray(warped[0]), Image.fromarray(warped[1])


def spline(
    centers: NDArray[np.float64], values: NDArray[np.float64]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """The thin-plate spline through `values` ``[n, d]`` at `centers` ``[n, 2]``, with U(r) = r^2 ln(r + 1e-6)."""
    n = len(centers)

    def kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        r = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
        return r**2 * np.log(r + 1e-6)

    affine_part = np.concatenate([np.ones((n, 1)), centers], 1)
    system = np.zeros((n + 3, n + 3))
    system[:n, :n], system[:n, n:], system[n:, :n] = kernel(centers, centers), affine_part, affine_part.T
    weights = np.linalg.solve(system, np.concatenate([values, np.zeros((3, values.shape[1]))]))

    def evaluate(at: NDArray[np.float64]) -> NDArray[np.float64]:
        flat = at.reshape(-1, 2)
        linear = np.concatenate([np.ones((len(flat), 1)), flat], 1)
        return (kernel(flat, centers) @ weights[:n] + linear @ weights[n:]).reshape(*at.shape[:-1], values.shape[1])

    return evaluate
