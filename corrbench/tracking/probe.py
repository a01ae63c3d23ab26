"""The linear probe: a frozen backbone and one trained layer, learned from pairs of GOT-10k (VFS projects/siamfc-pytorch).

Runs in the loop of pretraining, as a method whose start is a canonical weights file.

Where this departs: every pair draws from its own stream of random numbers; the reference's workers draw from unseeded or
shared numpy states. `pairs_per_sequence` other than 1 trains longer than the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from corrbench.datasets.got10k import TrackIndex, TrackReader, epoch_pairs
from corrbench.encoders.dilated import CHANNELS, DilatedResNet, DilatedResNetHR, tracking_backbone
from corrbench.errors import Refusal
from corrbench.pretraining.method import Method
from corrbench.tracking.crops import Image, center_of, crop, crop_sides
from corrbench.tracking.head import Head, focal_loss, response_labels
from corrbench.tracking.inputs import normalize

INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_LANCZOS4)


@dataclass(frozen=True)
class Options:
    """Figures of the probe."""

    arch: str = "resnet18"
    """resnet18, resnet50, or resnet18_hr (MAST, LIIR)."""
    layer: str = "layer4"
    """The backbone's last stage."""
    position_map: bool = False
    """LIIR's, for resnet18_hr."""
    padding: str = "zeros"
    """What the backbone pads with; the workflow gives the method's (`reflect` for CRW)."""
    channels: int = 512
    """Of the trained layer; those of the backbone."""
    scale: float = 1e-3
    """Factor on the response: 1e-3 for ResNet-18, 1e-5 for ResNet-50."""
    exemplar: int = 120
    """Pixels."""
    instance: int = 255
    """Pixels of a crop that is read; the search crop is 16 smaller after augmentation."""
    context: float = 0.5
    stretch: float = 0.05
    """Largest change of scale."""
    radius: float = 16
    """Pixels around the center that count as the target."""
    stride: int = 8
    gamma: float = 2
    """Of the focal loss."""
    pairs_per_sequence: int = 1
    """Per epoch."""

    def __post_init__(self) -> None:
        if self.padding not in ("zeros", "reflect") or (self.padding == "reflect" and self.arch == "resnet18_hr"):
            raise Refusal(
                f"padding: {self.padding} for {self.arch}",
                expected="zeros, or reflect for resnet18 and resnet50",
                do="correct the recipe",
            )
        known = CHANNELS.get(self.arch, {}).get(self.layer)
        if known != self.channels:
            raise Refusal(
                f"channels: {self.channels} for {self.layer} of {self.arch}",
                expected=f"{known} channels" if known else f"one of {', '.join(CHANNELS)} and a layer of it",
                do="correct the recipe: ResNet-50 needs channels 2048 and scale 1e-5",
            )


def open_reader(root: Path, index: Path) -> TrackReader:
    """The data of a run: frames below GOT-10k's root, indexed by scripts/frames.py."""
    return TrackReader(root, TrackIndex.read(index))


class Source:
    """Pairs of crops around one target."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def epoch(self, index: TrackIndex, rng: Generator) -> NDArray[np.int64]:
        """``[n, 3]``: sequence, earlier frame, later frame."""
        return epoch_pairs(index, rng, per_sequence=self.options.pairs_per_sequence)

    def load(self, reader: TrackReader, sample: NDArray[np.int64], rng: Generator) -> dict[str, Tensor]:
        """`z` ``[3, 120, 120]`` and `x` ``[3, 239, 239]``, uint8 RGB."""
        sequence, first, second = (int(v) for v in sample)
        out = {}
        for name, number in (("z", first), ("x", second)):
            patch = self._read(reader, sequence, number, rng)
            patch = augment(patch, rng, stretch=self.options.stretch)
            if name == "z":
                patch = center_crop(patch, self.options.exemplar)
            out[name] = torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1)))
        return out

    def _read(self, reader: TrackReader, sequence: int, number: int, rng: Generator) -> Image:
        o = self.options
        box = reader.index.box(sequence, number)
        _, side = crop_sides(*map(float, box[2:]), exemplar=o.exemplar, instance=o.instance, context=o.context)
        how = INTERPOLATIONS[int(rng.integers(len(INTERPOLATIONS)))]
        return crop(reader.read(sequence, number), center_of(box), side, o.instance, how)


def augment(patch: Image, rng: Generator, *, stretch: float) -> Image:
    """Random stretch, the center 8 smaller, a random crop 8 smaller again: ``[s, s, 3]`` -> ``[s - 16, s - 16, 3]``.

    The target moves by up to 4 px while labels stay centerd (VFS siamfc/transforms.py).
    """
    size = len(patch)
    new = round(size * (1 + float(rng.uniform(-stretch, stretch))))
    how = INTERPOLATIONS[int(rng.integers(len(INTERPOLATIONS)))]
    stretched = cv2.resize(patch, (new, new), interpolation=how).astype(np.uint8, copy=False)
    center = center_crop(stretched, size - 8)
    out = size - 16
    top, left = (int(rng.integers(0, side - out + 1)) for side in center.shape[:2])
    return center[top : top + out, left : left + out]


def center_crop(patch: Image, out: int) -> Image:
    """The center ``[out, out, 3]``; a smaller patch is padded with its mean color first."""
    offset = round((len(patch) - out) / 2)
    if offset < 0:
        mean = patch.mean(axis=(0, 1)).tolist()
        patch = cv2.copyMakeBorder(
            patch, -offset, -offset, -offset, -offset, cv2.BORDER_CONSTANT, value=mean
        ).astype(np.uint8, copy=False)  # fmt: skip
        offset = 0
    return patch[offset : offset + out, offset : offset + out]


class Model(Method):
    """Frozen backbone and `Head`."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.backbone = backbone_of(options)
        self.head = Head(options.channels, options.scale)
        self.weights_sha256: Tensor
        self.register_buffer("weights_sha256", torch.zeros(64, dtype=torch.uint8))  # travels with the saved state

    def train(self, mode: bool = True) -> Model:
        """The backbone stays in eval mode: its batch norm keeps the statistics of pretraining."""
        super().train(mode)
        self.backbone.eval()
        return self

    def load_init(self, raw: Mapping[str, Any]) -> None:
        """Take the backbone from a canonical weights file. Raises Refusal for weights of another network."""
        load_backbone(self.backbone, raw, self.options)
        self.weights_sha256.copy_(torch.tensor(list(raw["meta"]["sha256"].encode()), dtype=torch.uint8))

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        if not self.weights_sha256.any():
            raise Refusal(
                "the probe has no backbone",
                expected="a canonical weights file",
                do="give --init weights.pt (random ones too)",
            )
        with torch.no_grad():
            z, x = (self.backbone(normalize(batch[name], self.backbone.preprocess)) for name in ("z", "x"))
        responses = self.head(z, x)
        o = self.options
        labels = response_labels(responses.shape[-1], radius=o.radius, stride=o.stride).to(responses.device)
        loss = focal_loss(responses, labels, gamma=o.gamma)
        mean = responses.detach().mean(0)
        on, off = ((mean * here).sum() / here.sum() for here in (labels == 1, labels == 0))
        return {"loss": loss, "on_target": on, "off_target": off}

    def checkpoint(self) -> dict[str, Any]:
        """The trained layer under the released files' keys, and the hash of the weights that it belongs to."""
        return {
            "state_dict": {f"head.{k}": v.cpu() for k, v in self.head.state_dict().items()},
            "weights_sha256": bytes(self.weights_sha256.tolist()).decode(),
        }


def backbone_of(options: Options) -> DilatedResNet | DilatedResNetHR:
    """The untrained backbone of a probe."""
    return tracking_backbone(options.arch, options.layer, position_map=options.position_map, padding=options.padding)


def load_backbone(backbone: Any, raw: Mapping[str, Any], options: Options) -> None:
    """Canonical weights (``{state_dict, extra, meta}``) into a tracking backbone. Raises Refusal when they do not fit."""
    arch = raw["meta"]["arch"]
    if arch != options.arch:
        raise Refusal(
            f"weights of a {arch}", expected=f"weights of a {options.arch}, as the probe's recipe says",
            do="use the probe of that network",
        )  # fmt: skip
    try:
        backbone.load_weights(raw["state_dict"], raw["extra"])
    except RuntimeError as error:
        raise Refusal(
            f"weights that do not fill {options.arch} up to {options.layer}: {str(error).splitlines()[-1].strip()}",
            expected="every tensor up to that layer",
            do="a file that was stripped of layer4 can be probed up to layer3: siamfc-r18-layer3",
        ) from error
