"""The stride-4 ResNet-18 of MAST and LIIR."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, conv1x1

from corrbench.encoders.preprocess import Preprocess


class ResNetHR(nn.Module):
    """ResNet-18 variant without max-pool: input ``[B, 3, H, W]`` Lab; output ``[B, 64, ceil(H/4), ceil(W/4)]``.

    Stages of 64, 128, 256, 256 channels with strides 1, 2, 1, 1 (layer4 has no shortcut convolution), then a 3x3
    convolution to 64 channels without normalization or ReLU. LIIR adds a learned position map, resized bicubically to
    the stem's output, after the stem's ReLU. Sources: MAST models/{mast,submodule}.py, LIIR models/resnet.py.
    """

    stride = 4
    preprocess = Preprocess.of_color("lab")

    def __init__(self, *, position_map: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(64, 64, 1)
        self.layer2 = _stage(64, 128, 2)
        self.layer3 = _stage(128, 256, 1)
        self.layer4 = _stage(256, 256, 1)
        self.post_convolution = nn.Conv2d(256, 64, 3, padding=1)
        self.pos_embed1 = nn.Parameter(torch.zeros(1, 64, 128, 128)) if position_map else None

    def forward(self, images: Tensor) -> Tensor:
        return self.post_convolution(self.trunk(images))

    def trunk(self, images: Tensor) -> Tensor:
        """layer4's map, ``[B, 256, ceil(H/4), ceil(W/4)]``."""
        x = self.relu(self.bn1(self.conv1(images)))
        if self.pos_embed1 is not None:
            size = x.shape[2:]
            x = x + nn.functional.interpolate(self.pos_embed1, size=size, mode="bicubic", align_corners=False)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def load_weights(self, state_dict: dict[str, Tensor], extra: dict[str, Tensor]) -> None:
        """Load canonical weights strictly; of `extra` the output convolution and the position map are used."""
        names = ("post_convolution.weight", "post_convolution.bias", "pos_embed1")
        own = {k: v for k, v in extra.items() if k in names}
        self.load_state_dict({**state_dict, **own}, strict=True)


def _stage(inplanes: int, planes: int, stride: int) -> nn.Sequential:
    downsample = None
    if stride != 1 or inplanes != planes:
        downsample = nn.Sequential(conv1x1(inplanes, planes, stride), nn.BatchNorm2d(planes))
    return nn.Sequential(BasicBlock(inplanes, planes, stride, downsample), BasicBlock(planes, planes))


def random_resnet_hr(seed: int, *, position_map: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Seeded, untrained canonical weights: state dict and extra."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ResNetHR(position_map=position_map)
    tensors = net.state_dict()
    extra = {k: tensors.pop(k) for k in list(tensors) if k.startswith(("post_convolution", "pos_embed1"))}
    return tensors, extra
