"""MAST: a color channel is dropped and copied from an earlier frame (zlai0/MAST main.py, models/mast.py).

Where this departs: every epoch has as many pairs as the first one (the reference's lists differ by about 1 %). MAST's
number is not expected from it: with PyTorch later than 1.1 users of the reference could not reproduce it (MAST issues 6, 18).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from corrbench.encoders.resnet_hr import ResNetHR
from corrbench.pretraining import reconstruction as rec
from corrbench.pretraining.drawing import attention_picture
from corrbench.pretraining.method import Method
from corrbench.pretraining.watching import Picture


@dataclass(frozen=True)
class Options:
    """Figures of the method; the defaults are the released script's."""

    image: int = 256
    radius: int = 6
    """Of the window, in cells at stride 4."""
    pairs: int | None = None
    """Pairs per epoch; None: as many as the videos give."""


class Model(Method):
    """The stride-4 network and the reconstruction."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.network = ResNetHR(position_map=False)

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        inputs, colors = rec.drop_channel(batch["frames"].flatten(0, 1), rec.draw_channel(generator))
        inputs, colors = inputs.unflatten(0, (-1, 2)), colors.unflatten(0, (-1, 2))
        reference = self.network(inputs[:, 0]).float()  # each its own batch for batch norm
        target = self.network(inputs[:, 1]).float()
        with torch.autocast(inputs.device.type, enabled=False):  # raw dot products overflow half precision
            weights = rec.local_correlation(target, reference, self.options.radius).softmax(1)
            copied = rec.copy_colors(weights, colors[:, 0, :, ::4, ::4])
            return {"loss": rec.color_loss(copied, colors[:, 1])}

    def picture(self, batch: dict[str, Tensor]) -> Picture:
        """Reconstruction of the b channel of a pair, and the attention of three places."""
        frames = batch["frames"][0]
        inputs, _ = rec.drop_channel(frames, 2)
        reference, target = (self.network(inputs[i : i + 1]).float() for i in (0, 1))
        weights = rec.local_correlation(target, reference, self.options.radius).softmax(1)
        return attention_picture(frames, weights[0], 2)

    def checkpoint(self) -> dict[str, Any]:
        """As the reference's ``checkpoint_epoch_<e>.pt``."""
        state = {}
        for key, value in self.network.state_dict().items():
            name = re.sub(r"^conv1\.", "conv1.0.", key)
            name = re.sub(r"^bn1\.", "conv1.1.", name)
            for i, part in enumerate(("conv1", "bn1", "", "conv2", "bn2")):
                if part:
                    name = re.sub(rf"^(layer\d\.\d)\.{part}\.", rf"\1.left.{i}.", name)
            name = name.replace(".downsample.", ".shortcut.")
            state[name if name.startswith("post_convolution") else f"feature_extraction.{name}"] = value
        return {"state_dict": state, "epoch": 0}


class Source(rec.Pairs):
    """Pairs of frames."""

    def __init__(self, options: Options) -> None:
        super().__init__(options.image, options.pairs)
