"""VFS, video frame-level similarity (xvjiarui/VFS configs, sim_siam_base_tracker.py, sim_siam_head.py).

Where this departs: every sample draws from its own stream of random numbers; the reference's workers share one numpy state
that restarts each epoch. Color jitter draws one order and four factors per frame.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor, nn

from corrbench.datasets.videos import Index, Reader
from corrbench.pretraining import augment
from corrbench.pretraining.method import Method
from corrbench.pretraining.networks import Trunk, mean_variance_floor


@dataclass(frozen=True)
class Options:
    """Figures of the method."""

    arch: str = "resnet18"
    frames: int = 4
    """Frames of each of the two clips."""
    intra_video: bool = True
    """Compare every frame of a clip with every frame of the other; False: only those at the same place."""
    color: bool = False
    """Color jitter, gray and blur: the "object-level" models."""
    repeat: int = 2
    """Passes over the data set in one epoch."""
    image: int = 224
    hidden: int = 128
    """Width of the predictor's hidden layer."""


def similarity_loss(p1: Tensor, z1: Tensor, p2: Tensor, z2: Tensor, *, intra_video: bool) -> Tensor:
    """Mean of 2 - 2 cos over cross-clip pairs, both ways. p, z: ``[B, T, d]``; no gradient reaches z. In 0..4, about 2 at first.

    With `intra_video` all T x T pairs, else only equal places (sim_siam_head.py, sim_loss.py).
    """
    p1, p2 = (nn.functional.normalize(p.float(), dim=2) for p in (p1, p2))
    z1, z2 = (nn.functional.normalize(z.detach().float(), dim=2) for z in (z1, z2))
    shifts = range(p1.shape[1] if intra_video else 1)
    total = p1.new_zeros(())
    for i in shifts:
        there = 2 - 2 * (p1 * z2.roll(i, 1)).sum(2)
        back = 2 - 2 * (p2.roll(i, 1) * z1).sum(2)
        total = total + (there / 2 + back / 2).mean()
    return total / len(shifts)


class Model(Method):
    """Backbone, projector, predictor."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.backbone = Trunk(options.arch, zero_last=True)
        d, h = self.backbone.channels, options.hidden
        self.img_head = nn.Module()
        self.img_head.projection_fcs = nn.Sequential(
            nn.Linear(d, d), nn.BatchNorm1d(d), nn.ReLU(inplace=True),
            nn.Linear(d, d), nn.BatchNorm1d(d), nn.ReLU(inplace=True),
            nn.Linear(d, d), nn.BatchNorm1d(d),
        )  # fmt: skip
        self.img_head.predictor_fcs = nn.Sequential(
            nn.Linear(d, h), nn.BatchNorm1d(h), nn.ReLU(inplace=True), nn.Linear(h, d)
        )

    def project(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, T, 3, H, W]`` uint8 to z and p, ``[B, T, d]``."""
        pixels = augment.normalize(clip.flatten(0, 1), augment.IMAGENET_MEAN, augment.IMAGENET_STD)
        z = self.img_head.projection_fcs(self.backbone(pixels).mean((2, 3)))  # type: ignore[operator]
        p = self.img_head.predictor_fcs(z)  # type: ignore[operator]
        return z.view(*clip.shape[:2], -1), p.view(*clip.shape[:2], -1)

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        z1, p1 = self.project(batch["clips"][:, 0])  # each clip is a batch of its own for batch norm
        z2, p2 = self.project(batch["clips"][:, 1])
        with torch.autocast(z1.device.type, enabled=False):
            loss = similarity_loss(p1, z1, p2, z2, intra_video=self.options.intra_video)
        spread = mean_variance_floor(z1.flatten(0, 1)) * z1.shape[2] ** 0.5
        return {"loss": loss, "spread": spread}  # spread: about 1; towards 0 the features collapse

    def checkpoint(self) -> dict[str, Any]:
        """As mmcv's ``epoch_<n>.pth``."""
        state = {}
        for key, value in self.state_dict().items():
            name = re.sub(r"^backbone\.(layer\d\.\d+\.)?conv(\d)\.", r"backbone.\1conv\2.conv.", key)
            name = re.sub(r"^backbone\.(layer\d\.\d+\.)?bn(\d)\.", r"backbone.\1conv\2.bn.", name)
            name = name.replace(".downsample.0.", ".downsample.conv.").replace(".downsample.1.", ".downsample.bn.")
            state[name] = value
        return {"state_dict": {**state, "iteration": torch.zeros(1)}, "meta": {}}


class Source:
    """One frame out of each of K equal segments of a video; the first half is clip 1, the second clip 2."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def epoch(self, index: Index, rng: Generator) -> NDArray[np.int64]:
        """Rows (video,): every video `repeat` times, shuffled."""
        return rng.permutation(np.repeat(np.arange(len(index.videos)), self.options.repeat))[:, None]

    def frames(self, count: int, rng: Generator) -> list[int]:
        """2T frame numbers of a video of `count` frames (DavisSampleFrames of the reference)."""
        k = 2 * self.options.frames
        each = (count + 1) // k
        if each > 0:
            found = np.arange(k) * each + rng.integers(each, size=k)
        elif count > k:
            found = np.sort(rng.integers(count + 1, size=k))
        else:
            found = np.round(np.arange(k) * (count + 1) / k).astype(np.int64)
        return [int(i) % count for i in found]

    def load(self, reader: Reader, sample: NDArray[np.int64], rng: Generator) -> dict[str, Tensor]:
        """clips ``[2, T, 3, H, W]`` uint8."""
        video = int(sample[0])
        numbers = self.frames(reader.index.videos[video].frames, rng)
        images = torch.stack([self._augment(frame, rng) for frame in reader.read(video, numbers)])
        return {"clips": images.unflatten(0, (2, -1))}

    def _augment(self, frame: NDArray[np.uint8], rng: Generator) -> Tensor:
        height, width = frame.shape[:2]
        x, y, w, h = augment.random_box(rng, width, height, (0.2, 1.0), (3 / 4, 4 / 3), square_fallback=True)
        size = (self.options.image, self.options.image)
        # OpenCV bilinear without antialiasing, as mmcv
        image = cv2.resize(frame[y : y + h, x : x + w], size, interpolation=cv2.INTER_LINEAR)[:, :, ::-1]
        if rng.random() < 0.5:
            image = image[:, ::-1]
        image = np.ascontiguousarray(image, np.uint8)
        if self.options.color:
            if rng.random() < 0.8:
                image = augment.color_jitter(rng, image, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
            if rng.random() < 0.2:
                image = augment.gray(image)
            if rng.random() < 0.5:  # next to nothing, but faithful
                radius = rng.uniform(0.1, 0.2)
                image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))
        return augment.as_tensor(image)
