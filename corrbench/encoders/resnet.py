"""torchvision ResNet-18/50 with the surgery that the correspondence papers apply at test time."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

from corrbench.encoders.preprocess import Preprocess
from corrbench.errors import Refusal

BASE_STRIDES = (1, 2, 2, 2)
"""Strides of layer1..layer4 in torchvision's networks; the stem and the max-pool give 4 before them."""


class ResNet(nn.Module):
    """torchvision ResNet-18/50 up to one layer, as dense features.

    Input ``[B, 3, H, W]`` normalized RGB; output ``[B, C, ceil(H/s), ceil(W/s)]`` after the layer's last ReLU. With
    strides (1, 2, 1, 1) layer3 has stride 8 and 256 (R18) or 1024 (R50) channels. Strides change without dilation,
    as CRW (code/utils/__init__.py), SFC (code/models/encoder.py) and VFS (sim_siam configs) do.
    """

    def __init__(
        self,
        arch: str,
        *,
        layer: str = "layer3",
        strides: tuple[int, int, int, int] = (1, 2, 1, 1),
        padding: str = "zeros",
        block: int | None = None,
        color: str = "rgb",
    ) -> None:
        """`block`: features are the output of this block of the layer, counted from 0; None: of its last one."""
        super().__init__()
        self.preprocess = Preprocess.of_color(color)
        net = getattr(torchvision.models, arch)(weights=None)
        depth = int(layer.removeprefix("layer"))
        self.stem = nn.Sequential()
        self.stem.conv1, self.stem.bn1, self.stem.relu = net.conv1, net.bn1, net.relu
        self.maxpool = net.maxpool
        self.layers = nn.Sequential()
        for i in range(1, depth + 1):
            stage = getattr(net, f"layer{i}")
            set_stride(stage, BASE_STRIDES[i - 1], strides[i - 1])
            if i == depth and block is not None:
                if block >= len(stage):
                    raise Refusal(
                        f"block {block} of {layer} of a {arch}",
                        expected=f"a number from 0 to {len(stage) - 1}",
                        do="correct `block:` of the encoder",
                    )
                stage = stage[: block + 1]
            self.layers.add_module(f"layer{i}", stage)
        set_padding(self, padding)
        self.stride = 4
        for stride in strides[:depth]:
            self.stride *= stride

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(self.maxpool(self.stem(images)))

    def load_weights(self, state_dict: dict[str, Tensor], extra: dict[str, Tensor]) -> None:
        """Load canonical (torchvision-named) weights strictly; tensors of unused deeper layers and blocks are left out."""
        own = {}
        used = {name: len(stage) for name, stage in self.layers.named_children()}  # type: ignore[arg-type]
        for key, value in state_dict.items():
            stage, rest = key.split(".", 1)
            if stage in ("conv1", "bn1"):
                own[f"stem.{key}"] = value
            elif int(rest.split(".", 1)[0]) < used.get(stage, 0):
                own[f"layers.{key}"] = value
        self.load_state_dict(own, strict=True)


def set_stride(stage: nn.Module, base: int, stride: int) -> None:
    """Give every convolution of a stage that has stride `base` the stride `stride`, shortcuts included."""
    if base == stride:
        return
    for module in stage.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (base, base):
            module.stride = (stride, stride)


def set_padding(net: nn.Module, padding: str) -> None:
    """Pad every convolution of a network by `zeros` or by `reflect`, as CRW trains and is measured."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and any(p > 0 for p in module.padding):  # type: ignore[operator]
            module.padding_mode = padding  # type: ignore[assignment]


def random_resnet(arch: str, seed: int) -> dict[str, Tensor]:
    """A seeded, untrained torchvision network without its classifier, as a state dict."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = getattr(torchvision.models, arch)(weights=None)
    return {k: v for k, v in net.state_dict().items() if not k.startswith("fc.")}
