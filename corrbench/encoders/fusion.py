"""SFC's late fusion of a fine-grained and a semantic encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def fuse(fine: Tensor, semantic: Tensor, weight: float) -> Tensor:
    """Join ``[B, C1, h, w]`` and ``[B, C2, h, w]`` to ``[B, C1 + C2, h, w]``, each normalized over channels first.

    ``L2(concat(weight * L2(fine), L2(semantic)))``, so a cosine of the result is the mean of the two cosines weighted
    by ``weight^2`` and 1. Source: SFC code/test_vos.py.
    """
    normalize = nn.functional.normalize
    return normalize(torch.cat((weight * normalize(fine, dim=1), normalize(semantic, dim=1)), 1), dim=1)


class Fusion(nn.Module):
    """Two encoders with one grid, fused; see `fuse`."""

    def __init__(self, fine: nn.Module, semantic: nn.Module, *, weight: float) -> None:
        super().__init__()
        if fine.stride != semantic.stride:
            raise ValueError(f"encoders of strides {fine.stride} and {semantic.stride} cannot be fused")
        self.fine, self.semantic, self.weight = fine, semantic, weight
        if fine.preprocess != semantic.preprocess:
            raise ValueError(f"encoders of {fine.preprocess} and {semantic.preprocess} cannot be fused")
        self.stride, self.preprocess = fine.stride, fine.preprocess

    def forward(self, images: Tensor) -> Tensor:
        return fuse(self.fine(images), self.semantic(images), self.weight)
