"""Training networks: the whole ResNet under torchvision's names, and batch norm over processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from corrbench.encoders.resnet import BASE_STRIDES, set_padding, set_stride


class Trunk(nn.Module):
    """torchvision ResNet without pooling and classifier: ``[B, 3, H, W]`` to layer4's map.

    Unlike the test-time encoder it keeps layer4. Convolutions start as Kaiming normal, fan-out;
    with `zero_last` the last batch norm of every block starts at gamma 0.
    """

    def __init__(
        self,
        arch: str,
        *,
        strides: tuple[int, ...] = BASE_STRIDES,
        padding: str = "zeros",
        zero_last: bool = False,
    ) -> None:
        super().__init__()
        net = getattr(torchvision.models, arch)(weights=None, zero_init_residual=zero_last)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        for i in range(4):
            stage = getattr(net, f"layer{i + 1}")
            set_stride(stage, BASE_STRIDES[i], strides[i])
            setattr(self, f"layer{i + 1}", stage)
        self.channels: int = net.fc.in_features  # type: ignore[assignment]
        set_padding(self, padding)

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))  # type: ignore[operator]


@contextmanager
def kept_statistics(net: nn.Module) -> Iterator[None]:
    """Batch norm computes with the batch, as in training, and leaves its running statistics alone."""
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm | JointBatchNorm)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


class JointBatchNorm(nn.Module):
    """Batch norm with the statistics of all processes, for devices without torch's SyncBatchNorm (CPU, gloo).

    Wraps an ordinary batch norm and keeps its tensors under its names. Batches of all processes must be equally large.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.momentum = norm.weight, norm.bias, norm.eps, norm.momentum
        self.track_running_stats = True
        self.register_buffer("running_mean", norm.running_mean)
        self.register_buffer("running_var", norm.running_var)
        self.register_buffer("num_batches_tracked", norm.num_batches_tracked)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        axes = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        world = dist.get_world_size()
        count = x.numel() // x.shape[1] * world
        mean = _sum_over_processes(x.sum(axes)) / count
        centerd = x - mean.view(shape)
        var = _sum_over_processes((centerd * centerd).sum(axes)) / count
        if self.track_running_stats:
            with torch.no_grad():
                assert self.momentum is not None
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var * count / (count - 1), self.momentum)
        return centerd * (torch.rsqrt(var + self.eps) * self.weight).view(shape) + self.bias.view(shape)


def _sum_over_processes(x: Tensor) -> Tensor:
    import torch.distributed.nn.functional as differentiable

    return differentiable.all_reduce(x)


def join_batchnorm(net: nn.Module, device: torch.device) -> nn.Module:
    """Replace every batch norm by one over all processes; keys of the state dict stay the same."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for name, child in net.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(net, name, JointBatchNorm(child))
        else:
            join_batchnorm(child, device)
    return net


def mean_variance_floor(z: Tensor) -> Tensor:
    """Mean over channels of the standard deviation of the unit vectors ``[B, d]``: near ``1/sqrt(d)``; 0 is a collapse."""
    return nn.functional.normalize(z.detach().float(), dim=1).std(0).mean()
