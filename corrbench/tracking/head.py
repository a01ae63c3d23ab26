"""The one trained layer: a 1x1 convolution for the exemplar, another for the search region, and their cross-correlation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def cross_correlate(kernels: Tensor, search: Tensor) -> Tensor:
    """Valid cross-correlation: kernels ``[N, C, k, k]``, search ``[N * m, C, s, s]`` -> ``[N * m, s - k + 1, s - k + 1]``.

    The m consecutive search maps of an exemplar share its kernel. Summed over channels and positions, nothing normalised.
    """
    n, many = len(kernels), len(search) // len(kernels)
    size = search.shape[2] - kernels.shape[2] + 1
    grouped = search.reshape(n, many, *search.shape[1:]).transpose(0, 1).reshape(many, -1, *search.shape[2:])
    response = nn.functional.conv2d(grouped, kernels, groups=n)  # [m, N, ., .]
    return response.transpose(0, 1).reshape(n * many, size, size)


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
    """``[size, size]``: 1 where the city-block distance to the map's centre is at most ``radius / stride`` cells, else 0.

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
