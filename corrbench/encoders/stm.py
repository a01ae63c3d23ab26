"""The improved STM of MiVOS: memory and query encoders, key and value heads, decoder (hkchengrex/Mask-Propagation model/).

Names of modules are those of the released files, so the canonical weights keep their keys. Batch norm always uses its
running statistics, in training too; its weight and bias learn. Sizes are for inputs padded to a multiple of 16.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from corrbench.encoders.preprocess import Preprocess

PREPROCESS = Preprocess()
KEY, VALUE, STRIDE = 128, 512, 16
"""Channels of keys and values; pixels of a memory cell."""


class Query(NamedTuple):
    """What a frame asks the memory, and what the decoder needs of it."""

    key: Tensor
    """``[B, 128, h, w]``, h = H/16."""
    value: Tensor
    """``[B, 512, h, w]``"""
    f8: Tensor
    """``[B, 512, 2h, 2w]``"""
    f4: Tensor
    """``[B, 256, 4h, 4w]``"""


class MaskEncoder(nn.Module):
    """ResNet-50 up to layer3 on image and masks; all convolutions have a bias. ``[B, 4 or 5, H, W]`` -> ``[B, 1024, h, w]``."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        net = ResNet(Bottleneck, [3, 4, 6, 3])
        self.conv1 = nn.Conv2d(planes, 64, 7, stride=2, padding=3)
        nn.init.zeros_(self.conv1.bias)  # type: ignore[arg-type]
        self.bn1, self.relu, self.maxpool = net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3 = net.layer1, net.layer2, net.layer3
        for stage in (self.layer1, self.layer2, self.layer3):
            for module in stage.modules():
                if isinstance(module, nn.Conv2d):
                    module.bias = nn.Parameter(torch.zeros(module.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer3(self.layer2(self.layer1(x)))


class ImageEncoder(nn.Module):
    """torchvision's ResNet-50 up to layer3; layer1 is called res2. ``[B, 3, H, W]`` -> maps of strides 16, 8, 4."""

    def __init__(self) -> None:
        super().__init__()
        net = ResNet(Bottleneck, [3, 4, 6, 3])
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.res2, self.layer2, self.layer3 = net.layer1, net.layer2, net.layer3

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        f4 = self.res2(self.maxpool(self.relu(self.bn1(self.conv1(images)))))
        f8 = self.layer2(f4)
        return self.layer3(f8), f8, f4


class KeyValue(nn.Module):
    """Two 3x3 convolutions without activation: ``[B, 1024, h, w]`` -> keys ``[B, 128, h, w]``, values ``[B, 512, h, w]``."""

    def __init__(self) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(1024, KEY, 3, padding=1)
        self.val_proj = nn.Conv2d(1024, VALUE, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.key_proj(x), self.val_proj(x)


class Residual(nn.Module):
    """``skip(x) + conv(relu(conv(relu(x))))`` without batch norm; the skip is a 3x3 convolution where widths differ."""

    def __init__(self, wide: int, out: int) -> None:
        super().__init__()
        self.downsample = nn.Conv2d(wide, out, 3, padding=1) if wide != out else None
        self.conv1 = nn.Conv2d(wide, out, 3, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv2(torch.relu(self.conv1(torch.relu(x))))
        return (x if self.downsample is None else self.downsample(x)) + inner


class Up(nn.Module):
    """Twice the size, joined with a finer map of the query encoder (of one frame, shared by all objects)."""

    def __init__(self, skip: int, up: int, out: int) -> None:
        super().__init__()
        self.skip_conv1 = nn.Conv2d(skip, up, 3, padding=1)
        self.skip_conv2 = Residual(up, up)
        self.out_conv = Residual(up, out)

    def forward(self, skip: Tensor, up: Tensor) -> Tensor:
        finer = self.skip_conv2(self.skip_conv1(skip))
        return self.out_conv(
            finer + nn.functional.interpolate(up, scale_factor=2.0, mode="bilinear", align_corners=False)
        )


class Decoder(nn.Module):
    """``[B, 1024, h, w]`` (value read, value of the query) and the finer maps to logits ``[B, 1, H, W]``."""

    def __init__(self) -> None:
        super().__init__()
        self.compress = Residual(1024, 512)
        self.up_16_8 = Up(512, 512, 256)
        self.up_8_4 = Up(256, 256, 256)
        self.pred = nn.Conv2d(256, 1, 3, padding=1)

    def forward(self, x: Tensor, f8: Tensor, f4: Tensor) -> Tensor:
        x = self.up_8_4(f4, self.up_16_8(f8, self.compress(x)))
        return nn.functional.interpolate(
            self.pred(torch.relu(x)), scale_factor=4.0, mode="bilinear", align_corners=False
        )


class STM(nn.Module):
    """The network; `planes` of the mask encoder are 5 (image, object, other objects) or 4 in training on single objects."""

    stride = STRIDE
    preprocess = PREPROCESS

    def __init__(self, planes: int = 5) -> None:
        super().__init__()
        self.mask_rgb_encoder = MaskEncoder(planes)
        self.rgb_encoder = ImageEncoder()
        self.kv_m_f16, self.kv_q_f16 = KeyValue(), KeyValue()
        self.decoder = Decoder()
        self.train()  # a new module would normalize by its batch until somebody asks for a mode

    @property
    def planes(self) -> int:
        """Input channels of the mask encoder."""
        return self.mask_rgb_encoder.conv1.in_channels

    def memorize(self, image: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Image ``[1 or k, 3, H, W]`` and soft masks ``[k, 1, H, W]`` of k objects of one frame.

        Keys ``[k, 128, h, w]`` and values ``[k, 512, h, w]``. Each object sees the plain sum of the other masks, not clamped.
        """
        return self.memorize_with(image, masks, masks.sum(0, keepdim=True) - masks)

    def memorize_with(self, image: Tensor, masks: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """As `memorize`, with the masks of the other objects ``[k, 1, H, W]`` given (training has two objects per sample)."""
        planes = [image.expand(len(masks), -1, -1, -1), masks, others][: 2 if self.planes == 4 else 3]
        return self.kv_m_f16(self.mask_rgb_encoder(torch.cat(planes, 1)))

    def query(self, image: Tensor) -> Query:
        """Image ``[B, 3, H, W]``."""
        f16, f8, f4 = self.rgb_encoder(image)
        key, value = self.kv_q_f16(f16)
        return Query(key, value, f8, f4)

    def decode(self, read: Tensor, query: Query) -> Tensor:
        """Values read ``[k, 512, h, w]`` and the query of one frame (or of each) to logits ``[k, 1, H, W]``."""
        k = len(read)
        joined = torch.cat([read, query.value.expand(k, -1, -1, -1)], 1)
        return self.decoder(joined, query.f8, query.f4)

    def load_weights(self, state_dict: dict[str, Tensor], extra: dict[str, Tensor]) -> None:
        """Load canonical weights strictly; `extra` is empty."""
        self.load_state_dict(state_dict, strict=True)

    def train(self, mode: bool = True) -> STM:
        """Batch norm stays in eval mode always; there is nothing else that training changes."""
        return super().train(False)


def random_stm(seed: int) -> dict[str, Tensor]:
    """A seeded, untrained network as a state dict."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return STM().state_dict()


def widen(state: dict[str, Tensor], planes: int, generator: torch.Generator) -> dict[str, Tensor]:
    """A state dict whose mask encoder has fewer input channels, for `planes` of them: the new ones are orthogonal, not zero.

    Mask-Propagation model/mod_resnet.py, util/ (its comment says zeros; the code does not do that).
    """
    name = "mask_rgb_encoder.conv1.weight"
    old = state[name]
    if old.shape[1] == planes:
        return state
    extra = torch.empty(old.shape[0], planes - old.shape[1], *old.shape[2:])
    nn.init.orthogonal_(extra, generator=generator)
    return {**state, name: torch.cat([old, extra.to(old)], 1)}
