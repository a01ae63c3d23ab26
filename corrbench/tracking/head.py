"""The one trained layer: a 1x1 convolution for the exemplar, another for the search region, and their cross-correlation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def cross_correlate(kernels: Tensor, search: Tensor) -> Tensor:
    """Valid cross-correlation: kernels ``[N, C, k, k]``, search ``[N * m, C, s, s]`` -> ``[N * m, s - k + 1, s - k + 1]``.

    The m consecutive search maps of an exemplar share its kernel. Summed over channels and positions, nothing normalized.
    """
    n, c, k, _ = kernels.shape
    many, size = len(search) // n, search.shape[2]
    # every kernel cell times every search cell in one matrix product (10 times faster than a convolution with kernels
    # this large), then the sum over those pairs of cells that lie at the same offset
    pairs = torch.einsum("ncp,nmcq->nmpq", kernels.flatten(2), search.reshape(n, many, c, size * size))
    pairs = pairs.reshape(n * many, k, k, size, size).contiguous()
    item, row, column, down, right = pairs.stride()
    out = size - k + 1
    return pairs.as_strided((n * many, k, k, out, out), (item, row + down, column + right, down, right)).sum((1, 2))


class Head(nn.Module):
    """VFS siamfc/heads.py: two 1x1 convolutions with bias that share nothing, then the scaled cross-correlation.

    Keys are those of released checkpoints: ``z_convs.0.{weight,bias}``, ``x_convs.0.{weight,bias}``.
    """

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.z_convs = nn.ModuleList([nn.Conv2d(channels, channels, 1)])
        self.x_convs = nn.ModuleList([nn.Conv2d(channels, channels, 1)])
        self.scale = scale

    def kernel(self, z: Tensor) -> Tensor:
        """Exemplar features ``[N, C, k, k]`` to kernels."""
        return self.z_convs[0](z)

    def respond(self, kernels: Tensor, x: Tensor) -> Tensor:
        """Kernels ``[N, C, k, k]`` and search features ``[N * m, C, s, s]`` to responses ``[N * m, r, r]``."""
        return cross_correlate(kernels, self.x_convs[0](x)) * self.scale

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.respond(self.kernel(z), x)


def response_labels(size: int, *, radius: float, stride: int) -> Tensor:
    """``[size, size]``: 1 where the city-block distance to the map's center is at most ``radius / stride`` cells, else 0.

    12 of the 256 cells of a 16x16 map for radius 16 and stride 8 (VFS siamfc/siamfc_tracker_base.py).
    """
    offset = (torch.arange(size) - (size - 1) / 2).abs()
    return ((offset[:, None] + offset[None, :]) <= radius / stride).float()


def focal_loss(responses: Tensor, labels: Tensor, *, gamma: float) -> Tensor:
    """Focal loss without alpha, divided by the mean of its weights over the whole batch; ``[B, r, r]``, ``[r, r]`` -> scalar.

    The weights carry gradients (VFS siamfc/losses.py). All responses 0 give ln 2.
    """
    positive, negative = nn.functional.logsigmoid(responses), nn.functional.logsigmoid(-responses)
    weight = labels * negative.exp() ** gamma + (1 - labels) * positive.exp() ** gamma
    cross_entropy = -(labels * positive + (1 - labels) * negative)
    return (weight * cross_entropy / weight.mean()).mean()
