"""FC, SFC's fine-grained network (Alxead/SFC code/models/fine_grained.py, train.py, utils/transform_coord.py).

Where this departs: crops narrower than two pixels are drawn again (the reference's lower bound 0 for the area can
give crops without a size).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from corrbench.datasets.videos import Index, Reader
from corrbench.encoders.resnet import BASE_STRIDES
from corrbench.errors import Refusal
from corrbench.pretraining import augment
from corrbench.pretraining.method import Method
from corrbench.pretraining.networks import Trunk


@dataclass(frozen=True)
class Options:
    """Figures of the method; the defaults are the paper's."""

    arch: str = "resnet18"
    """resnet18 or resnet50."""
    image: int = 256
    frames_per_video: int = 80
    crop: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest share of the frame's area that a crop has."""
    dense: tuple[str, ...] = ("layer3", "layer4")
    """Stages whose strides are removed."""
    momentum: float = 0.99
    """Of the target network at the first step; rises to 1 along a cosine."""
    radius: float = 0.5
    """Two cells are a positive pair when their centers are closer than this share of the larger cell's diagonal."""
    hidden: int = 2048
    """Width of the projector's hidden layer."""
    predictor_hidden: int | None = None
    """Width of the predictor's hidden layer; None: that of the projector."""
    channels: int = 256

    def __post_init__(self) -> None:
        if len(self.crop) != 2 or not 0 <= self.crop[0] <= self.crop[1] <= 1:
            raise Refusal(
                f"crop: {list(self.crop)}", expected="two shares of the area, from 0 to 1", do="correct the option"
            )
        if unknown := set(self.dense) - {"layer2", "layer3", "layer4"}:
            raise Refusal(
                f"dense: {', '.join(sorted(unknown))}", expected="layer2, layer3 or layer4", do="correct the option"
            )

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of layer1 .. layer4."""
        return tuple(1 if f"layer{i + 1}" in self.dense else stride for i, stride in enumerate(BASE_STRIDES))


def positives(u: Tensor, v: Tensor, cells: int, radius: float) -> Tensor:
    """Which cells of two crops show the same place. u, v: boxes ``[B, 4]`` (x0, y0, x1, y1), each axis in 0..1.

    Returns ``[B, cells^2, cells^2]`` of 0 and 1. The axes are normalized each on its own, so distances are those of a
    square picture (kept from the reference).
    """
    (cu, du), (cv, dv) = _cells(u, cells), _cells(v, cells)
    distance = torch.cdist(cu, cv, compute_mode="donot_use_mm_for_euclid_dist")
    return (distance / torch.maximum(du, dv)[:, None, None] < radius).float()


def _cells(box: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Centers ``[B, cells^2, 2]``, row-major, and the diagonal of a cell ``[B]``."""
    side = (box[:, 2:] - box[:, :2]) / cells  # [B, 2]
    steps = torch.arange(cells, device=box.device) + 0.5
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    grid = torch.stack([x.flatten(), y.flatten()], 1)
    return box[:, None, :2] + grid * side[:, None], side.norm(dim=1)


def pixel_loss(q: Tensor, k: Tensor, positive: Tensor) -> Tensor:
    """-2 x mean cosine over the positive pairs of each image. q, k: unit maps ``[B, C, n]``; positive ``[B, n, n]``.

    Images without overlap count as 0; in -2..2.
    """
    cosine = torch.einsum("bcn,bcm->bnm", q, k)
    return -2 * ((cosine * positive).sum((1, 2)) / (positive.sum((1, 2)) + 1e-6)).mean()


def target_momentum(step: int, total: int, first: float) -> float:
    """1 - (1 - first) (cos(pi k / K) + 1) / 2."""
    return 1 - (1 - first) * (math.cos(math.pi * step / total) + 1) / 2


class Mlp(nn.Module):
    """1x1 convolutions with a hidden batch norm."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.linear1 = nn.Conv2d(inputs, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.linear2 = nn.Conv2d(hidden, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(torch.relu(self.bn1(self.linear1(x))))


class Model(Method):
    """Online network with a predictor, and its slow copy."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.online_encoder = Trunk(options.arch, strides=options.strides, zero_last=True)
        self.online_projector = Mlp(self.online_encoder.channels, options.hidden, options.channels)
        self.predictor = Mlp(options.channels, options.predictor_hidden or options.hidden, options.channels)
        self.target_encoder = copy.deepcopy(self.online_encoder).requires_grad_(False)
        self.target_projector = copy.deepcopy(self.online_projector).requires_grad_(False)

    @torch.no_grad()
    def before_step(self, step: int, total: int) -> None:
        """Move the target: before its forward pass, parameters only; its batch norm keeps its own statistics."""
        m = target_momentum(step, total, self.options.momentum)
        pairs = ((self.online_encoder, self.target_encoder), (self.online_projector, self.target_projector))
        for online, target in pairs:
            for p, slow in zip(online.parameters(), target.parameters(), strict=True):
                slow.mul_(m).add_(p, alpha=1 - m)

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        views = [augment.normalize(batch["views"][:, i], augment.CIFAR_MEAN, augment.CIFAR_STD) for i in (0, 1)]
        queries = [_unit(self.predictor(self.online_projector(self.online_encoder(v)))) for v in views]
        with torch.no_grad():
            keys = [_unit(self.target_projector(self.target_encoder(v))) for v in views]
        cells = math.isqrt(queries[0].shape[2])
        with torch.autocast(views[0].device.type, enabled=False):
            positive = positives(batch["boxes"][:, 0], batch["boxes"][:, 1], cells, self.options.radius)
            loss = pixel_loss(queries[0], keys[1], positive)
            loss = loss + pixel_loss(queries[1], keys[0], positive.transpose(1, 2))
        return {"loss": loss, "positives": positive.sum((1, 2)).mean()}

    def load_init(self, raw: Mapping[str, Any]) -> None:
        """Start from another recipe's checkpoint, or from the weights of a whole network; the target starts as a copy.

        The heads start anew where there are none.
        """
        if "meta" in raw:
            if raw["meta"]["arch"] != self.options.arch:
                raise Refusal(
                    f"weights of a {raw['meta']['arch']}",
                    expected=f"weights of a {self.options.arch}",
                    do="correct `start:` of the recipe",
                )
            self.online_encoder.load_state_dict(raw["state_dict"], strict=True)
        else:
            state = {k: v for k, v in raw["model"].items() if not k.startswith("target_")}
            for name in ("online_encoder", "online_projector", "predictor"):
                part = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
                getattr(self, name).load_state_dict(part, strict=True)
        self.target_encoder.load_state_dict(self.online_encoder.state_dict())
        self.target_projector.load_state_dict(self.online_projector.state_dict())

    def checkpoint(self) -> dict[str, Any]:
        """As the reference's ``pretrained_fc.pth``."""
        return {"model": self.state_dict()}


def _unit(maps: Tensor) -> Tensor:
    return nn.functional.normalize(maps.float().flatten(2), dim=1)


class Source:
    """Two crops of one frame."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def epoch(self, index: Index, rng: Generator) -> NDArray[np.int64]:
        """Rows (video, frame): at most `frames_per_video` random frames of every video, shuffled."""
        rows = []
        for i, video in enumerate(index.videos):
            rows += [(i, n) for n in rng.permutation(video.frames)[: self.options.frames_per_video]]
        found = np.array(rows, np.int64)
        return found[rng.permutation(len(found))]

    def load(self, reader: Reader, sample: NDArray[np.int64], rng: Generator) -> dict[str, Tensor]:
        """views ``[2, 3, S, S]`` uint8 and boxes ``[2, 4]`` in shares of (width - 1, height - 1)."""
        image = augment.to_pil(reader.read(int(sample[0]), [int(sample[1])])[0])
        across, down = max(image.width - 1, 1), max(image.height - 1, 1)
        views, boxes = [], []
        for _ in range(2):
            x, y, w, h = augment.random_box(
                rng, image.width, image.height, self.options.crop, (3 / 4, 4 / 3), smallest=2
            )
            views.append(augment.as_tensor(augment.crop_pil(image, (x, y, w, h), self.options.image)))
            boxes.append([x / across, y / down, (x + w - 1) / across, (y + h - 1) / down])
        return {"views": torch.stack(views), "boxes": torch.tensor(boxes)}
