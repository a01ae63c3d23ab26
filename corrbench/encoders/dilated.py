"""Backbones as a SiamFC tracker uses them: stride 8, the strides of the last stages replaced by dilation, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from corrbench.encoders.preprocess import Preprocess
from corrbench.encoders.resnet import BASE_STRIDES, set_padding, set_stride
from corrbench.encoders.resnet_hr import ResNetHR

STRIDES, DILATIONS = (1, 2, 1, 1), (1, 1, 2, 4)
"""Of layer1..layer4 (VFS projects/siamfc-pytorch/siamfc/default_config_base.py)."""
CHANNELS = {
    "resnet18": {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512},
    "resnet50": {"layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048},
    "resnet18_hr": {"layer4": 256},
}


class DilatedResNet(nn.Module):
    """torchvision ResNet-18/50 up to `layer` with stride 8: ``[B, 3, H, W]`` -> ``[B, C, ceil(H/8), ceil(W/8)]``.

    Batch norm always uses its running statistics and nothing learns. layer4 is VFS's choice (512 or 2048 channels); a
    file that was stripped of layer4 can be probed up to layer3.
    """

    preprocess = Preprocess()

    def __init__(self, arch: str, layer: str, padding: str = "zeros") -> None:
        super().__init__()
        net = getattr(torchvision.models, arch)(weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layers = [f"layer{i}" for i in range(1, int(layer[-1]) + 1)]
        for i, name in enumerate(self.layers):
            stage = getattr(net, name)
            set_stride(stage, BASE_STRIDES[i], STRIDES[i])
            dilate(stage, DILATIONS[i])
            self.add_module(name, stage)
        set_padding(self, padding)
        self.channels = CHANNELS[arch][layer]
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for name in self.layers:
            x = getattr(self, name)(x)
        return x

    def load_weights(self, state_dict: Mapping[str, Tensor], extra: Mapping[str, Tensor]) -> None:
        """Load canonical weights strictly; deeper layers than the last used one are left out."""
        unused = tuple(f"layer{i}." for i in range(len(self.layers) + 1, 5))
        self.load_state_dict({k: v for k, v in state_dict.items() if not k.startswith(unused)}, strict=True)


class DilatedResNetHR(ResNetHR):
    """The stride-4 network of MAST and LIIR with stride 8: layer3 halves once more. ``[B, 3, H, W]`` Lab -> ``[B, 256, ., .]``.

    No paper probes these networks; this is the closest form to VFS's probe that keeps its map sizes (15 and 32 cells).
    """

    stride = 8
    channels = CHANNELS["resnet18_hr"]["layer4"]

    def __init__(self, *, position_map: bool) -> None:
        super().__init__(position_map=position_map)
        first = cast(BasicBlock, self.layer3[0])
        first.conv1.stride = (2, 2)
        set_stride(cast(nn.Module, first.downsample), 1, 2)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk(images)


def dilate(stage: nn.Sequential, dilation: int) -> None:
    """Dilate a stage as mmaction's ResNet does: the first block by half of it.

    In a Bottleneck the 3x3 convolution, in a BasicBlock only the first of its two (torchvision refuses dilation there).
    """
    for i, block in enumerate(stage):
        own = dilation if i else max(dilation // 2, 1)
        conv: nn.Conv2d = block.conv2 if isinstance(block, Bottleneck) else block.conv1  # type: ignore[assignment]
        conv.dilation = conv.padding = (own, own)
        conv._reversed_padding_repeated_twice = [own] * 4  # what torch pads with when it does not pad with zeros


def tracking_backbone(
    arch: str, layer: str, *, position_map: bool = False, padding: str = "zeros"
) -> DilatedResNet | DilatedResNetHR:
    """The untrained backbone for `arch` (resnet18, resnet50, resnet18_hr) up to `layer`; `padding` is not resnet18_hr's."""
    return DilatedResNetHR(position_map=position_map) if arch == "resnet18_hr" else DilatedResNet(arch, layer, padding)
