"""From an encoder row of ``config/methods/`` to its network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from corrbench.encoders.resnet import ResNet, random_resnet
from corrbench.encoders.resnet_hr import ResNetHR, random_resnet_hr
from corrbench.encoders.stm import STM, random_stm


def build(encoder: Mapping[str, Any]) -> ResNet | ResNetHR | STM:
    """The untrained network of one encoder row; `arch` is resnet18, resnet50, resnet18_hr or stm (see its own file).

    The module maps ``[B, 3, H, W]`` to ``[B, C, h, w]``, has the attributes `stride` and `preprocess` and the method `load_weights`.
    """
    if encoder["arch"] == "stm":
        return STM()
    if encoder["arch"] == "resnet18_hr":
        return ResNetHR(position_map=encoder["position_map"])
    strides = tuple(encoder["strides"])
    return ResNet(
        encoder["arch"],
        layer=encoder["layer"],
        strides=strides,
        padding=encoder["padding"],
        block=encoder.get("block"),
        color=encoder["color"],
    )


def random_tensors(encoder: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Seeded, untrained tensors under canonical names: state dict and extra."""
    if encoder["arch"] == "resnet18_hr":
        return random_resnet_hr(seed, position_map=encoder["position_map"])
    if encoder["arch"] == "stm":
        return random_stm(seed), {}
    return random_resnet(encoder["arch"], seed), {}
