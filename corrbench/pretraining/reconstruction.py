"""What MAST and LIIR share: pairs of Lab frames, local correlation, and reconstruction of a dropped color channel."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from corrbench.datasets.videos import Index, Reader
from corrbench.pretraining import augment

SCALE = 20.0
"""Colors are multiplied by it before the smooth L1 loss (MAST models/mast.py)."""
GAPS, SHARES = (2, 5, 8), (0.4, 0.4, 0.2)
"""Frame gap of a video in an epoch and its probabilities (MAST functional/feeder/dataset)."""


def offsets(radius: int) -> list[tuple[int, int]]:
    """(dy, dx) of a window, row-major."""
    side = range(-radius, radius + 1)
    return [(dy, dx) for dy in side for dx in side]


def local_correlation(target: Tensor, reference: Tensor, radius: int) -> Tensor:
    """Dot products with the reference around the same place: ``[B, C, h, w]`` twice to ``[B, P^2, h, w]``.

    Outside the image the product is 0 and takes part in whatever follows.
    """
    height, width = target.shape[2:]
    padded = nn.functional.pad(reference, [radius] * 4)
    rows = [
        (target * padded[:, :, radius + dy : radius + dy + height, radius + dx : radius + dx + width]).sum(1)
        for dy, dx in offsets(radius)
    ]
    return torch.stack(rows, 1)


def copy_colors(weights: Tensor, colors: Tensor) -> Tensor:
    """Weighted mean of the reference's colors around each place: ``[B, P^2, h, w]``, ``[B, 1, h, w]`` to ``[B, 1, h, w]``."""
    side = round(weights.shape[1] ** 0.5)
    around = nn.functional.unfold(colors, side, padding=side // 2).view(len(colors), side * side, *colors.shape[2:])
    return (weights * around).sum(1, keepdim=True)


def color_loss(reconstructed: Tensor, colors: Tensor) -> Tensor:
    """Smooth L1 at full size: ``[B, 1, h, w]`` against ``[B, 1, H, W]``."""
    full = nn.functional.interpolate(reconstructed, colors.shape[2:], mode="bilinear", align_corners=False)
    return nn.functional.smooth_l1_loss(full * SCALE, colors * SCALE)


def drop_channel(images: Tensor, channel: int) -> tuple[Tensor, Tensor]:
    """Inputs without one chroma channel (1: a, 2: b), times 1.5, and that channel ``[B, 1, H, W]``. L is never dropped."""
    kept = images.clone()
    kept[:, channel] = 0
    return kept * 1.5, images[:, channel : channel + 1]


def draw_channel(generator: torch.Generator) -> int:
    """1 or 2, one draw for all images of a process in a step."""
    return 1 + int(torch.randint(2, (), generator=generator, device=generator.device))


class Pairs:
    """Two frames of a video, a random gap apart: reference and target."""

    def __init__(self, image: int, pairs: int | None) -> None:
        self.image, self.pairs = image, pairs

    def epoch(self, index: Index, rng: Generator) -> NDArray[np.int64]:
        """Rows (video, reference, target): videos in random order, disjoint pairs, shuffled; cut to `pairs`."""
        rows = []
        for i in rng.permutation(len(index.videos)):
            gap = int(rng.choice(GAPS, p=SHARES))
            numbers = range(0, index.videos[i].frames, gap)
            rows += [(i, a, b) for a, b in zip(numbers[::2], numbers[1::2], strict=False)]
        found = np.array(rows[: self.pairs], np.int64).reshape(-1, 3)
        return found[rng.permutation(len(found))]

    def load(self, reader: Reader, sample: NDArray[np.int64], rng: Generator) -> dict[str, Tensor]:
        """frames ``[2, 3, S, S]`` float32 Lab, and the number of the video."""
        frames = reader.read(int(sample[0]), [int(sample[1]), int(sample[2])])
        lab = [torch.from_numpy(augment.to_lab(frame, self.image)) for frame in frames]
        return {"frames": torch.stack(lab), "video": torch.tensor(int(sample[0]))}
