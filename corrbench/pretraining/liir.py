"""LIIR on MAST: position map, 1/8 reconstruction, compactness, negatives from other videos (shasha521/LIIR_pytorch).

Where this departs: one list of pairs for all processes, the same length every epoch (the reference's lists differ
between ranks and can hang); `conv_semantic_k` always starts as a copy of `conv_semantic`; `freeze_bn` holds
through every step (the released flag does nothing); the queue is not exported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from corrbench.encoders.resnet_hr import ResNetHR
from corrbench.errors import Refusal
from corrbench.pretraining import reconstruction as rec
from corrbench.pretraining.drawing import attention_picture
from corrbench.pretraining.method import Method
from corrbench.pretraining.networks import JointBatchNorm
from corrbench.pretraining.watching import Picture

SEMANTIC_RADIUS = 3
CONFIDENT = 0.5
"""L_comp looks at places whose best weight is above it."""
CHUNK = 40
"""Maps of the queue that are compared at a time."""


@dataclass(frozen=True)
class Options:
    """Figures of the method; the defaults are stage A's."""

    image: int = 256
    radius: int = 6
    pairs: int | None = 69600
    """Pairs per epoch, if the videos of the first epoch give as many; shorter lists repeat their beginning."""
    semantic: bool = False
    """Reconstruction at 1/8 too (L_sem), weight `semantic_weight`."""
    compact: bool = False
    """Compactness prior (L_comp), weight 1."""
    momentum: bool = False
    """Negatives from other videos (L_inter) in place of L_sem's softmax."""
    semantic_weight: float = 0.5
    queue: int = 960
    """Reference maps in the queue: those of 80 steps at a batch of 12."""
    key_momentum: float = 0.999
    freeze_bn: bool = False


def compactness_loss(weights: Tensor) -> Tensor:
    """Smooth L1 between the weights ``[B, P^2, h, w]`` and peaks at their two best entries, where these are confident.

    The peaks are Gaussians of half width 1/2 cell, weighted by the softmax of the two probabilities; no gradient passes
    through them. The mean is over all entries, masked ones included.
    """
    target, mask = compact_target(weights)
    return nn.functional.smooth_l1_loss(weights * mask * rec.SCALE, target * mask * rec.SCALE)


@torch.no_grad()
def compact_target(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Two peaks ``[B, P^2, h, w]`` and where they count ``[B, 1, h, w]``."""
    side = round(weights.shape[1] ** 0.5)
    place = torch.tensor(rec.offsets(side // 2), dtype=weights.dtype, device=weights.device)
    peaks = torch.exp(-4 * math.log(2) * torch.cdist(place, place) ** 2)  # [center, entry]
    values, best = weights.topk(2, dim=1)
    share = values.softmax(1)  # of the probabilities, so the larger is at most 0.731
    target = share[:, 0, ..., None] * peaks[best[:, 0]] + share[:, 1, ..., None] * peaks[best[:, 1]]  # [B, h, w, P^2]
    return target.permute(0, 3, 1, 2), (values[:, :1] > CONFIDENT).to(weights.dtype)


def inter_video_weights(target: Tensor, reference: Tensor, queue: Tensor, keep: Tensor, radius: int) -> Tensor:
    """Softmax over the own window ``[B, P^2, h, w]`` whose denominator also counts the windows of the queue's maps.

    target, reference ``[B, C, h, w]``; queue ``[M, C, h, w]``; keep ``[B, M]`` says which maps are negatives of a
    sample. Without any it is the plain softmax; with some the weights sum to less than 1.
    """
    own = rec.local_correlation(target, reference, radius)
    total = own.logsumexp(1)
    for maps, kept in zip(queue.split(CHUNK), keep.split(CHUNK, 1), strict=True):
        if kept.any():
            # computed again in the backward pass: all logits of 960 maps would take gigabytes
            total = torch.logaddexp(total, checkpoint(_window_sum, target, maps, kept, radius, use_reentrant=False))
    return torch.exp(own - total[:, None])


def _window_sum(target: Tensor, maps: Tensor, keep: Tensor, radius: int) -> Tensor:
    """log-sum-exp over the windows of some maps: ``[B, h, w]``."""
    height, width = target.shape[2:]
    padded = nn.functional.pad(maps, [radius] * 4)
    places = target.permute(2, 3, 0, 1)  # [h, w, B, C]
    logits = [
        places @ padded[:, :, radius + dy : radius + dy + height, radius + dx : radius + dx + width].permute(2, 3, 1, 0)
        for dy, dx in rec.offsets(radius)
    ]
    stacked = torch.stack(logits).masked_fill(~keep, -math.inf)  # [P^2, h, w, B, M]
    return stacked.logsumexp((0, 4)).permute(2, 0, 1)


class Model(Method):
    """The stride-4 network with its heads and the queue."""

    queue: Tensor
    queue_videos: Tensor
    queued: Tensor

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.network = ResNetHR(position_map=True)
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d) and module is not self.network.post_convolution:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for name, module in self.network.named_modules():
            if name.endswith(".bn2"):
                nn.init.zeros_(module.weight)  # type: ignore[arg-type]
        if options.semantic or options.momentum:
            self.conv_semantic = nn.Conv2d(256, 128, 3, stride=2, padding=1)
        if options.momentum:
            self.conv_semantic_k = nn.Conv2d(256, 128, 3, stride=2, padding=1).requires_grad_(False)
            self.conv_semantic_k.load_state_dict(self.conv_semantic.state_dict())
            side = options.image // 8
            self.register_buffer("queue", torch.zeros(options.queue, 128, side, side))
            self.register_buffer("queue_videos", torch.full((options.queue,), -1))
            self.register_buffer("queued", torch.zeros((), dtype=torch.long))
        self._latest: tuple[Tensor, Tensor] | None = None

    def train(self, mode: bool = True) -> Model:
        super().train(mode)
        if self.options.freeze_bn:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm | JointBatchNorm):
                    module.eval()
        return self

    @torch.no_grad()
    def before_step(self, step: int, total: int) -> None:
        """Move the key convolution."""
        if self.options.momentum:
            m = self.options.key_momentum
            for p, slow in zip(self.conv_semantic.parameters(), self.conv_semantic_k.parameters(), strict=True):
                slow.mul_(m).add_(p, alpha=1 - m)

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        o = self.options
        inputs, colors = rec.drop_channel(batch["frames"].flatten(0, 1), rec.draw_channel(generator))
        inputs, colors = inputs.unflatten(0, (-1, 2)), colors.unflatten(0, (-1, 2))
        # each its own batch for batch norm, in the reference's order, which its running statistics depend on:
        # mast_momen.py encodes the target first, mast_semantic.py (stages without the queue) the reference
        first, second = (1, 0) if o.momentum else (0, 1)
        trunks = {i: self.network.trunk(inputs[:, i]) for i in (first, second)}
        target, reference = (self.network.post_convolution(trunks[i]).float() for i in (1, 0))
        with torch.autocast(inputs.device.type, enabled=False):  # raw dot products overflow half precision
            weights = rec.local_correlation(target, reference, o.radius).softmax(1)
            copied = rec.copy_colors(weights, colors[:, 0, :, ::4, ::4])
            parts = {"pixel": rec.color_loss(copied, colors[:, 1])}
            loss = parts["pixel"]
            if o.semantic or o.momentum:
                parts["semantic"] = self._semantic(trunks[1].float(), trunks[0].float(), colors, batch["video"])
                loss = loss + o.semantic_weight * parts["semantic"]
            if o.compact:
                parts["compact"] = compactness_loss(weights)
                loss = loss + parts["compact"]
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}}

    def _semantic(self, target: Tensor, reference: Tensor, colors: Tensor, videos: Tensor) -> Tensor:
        """L_sem, or L_inter with the queue: reconstruction at 1/8. target, reference: trunk maps ``[B, 256, h, w]``."""
        target = self.conv_semantic(target)
        if self.options.momentum:
            with torch.no_grad():
                reference = self.conv_semantic_k(reference)
            self._latest = reference, videos
            keep = self.negatives(videos)
            weights = inter_video_weights(target, reference, self.queue, keep, SEMANTIC_RADIUS)
        else:
            reference = self.conv_semantic(reference)
            weights = rec.local_correlation(target, reference, SEMANTIC_RADIUS).softmax(1)
        small = nn.functional.interpolate(
            colors.flatten(0, 1), target.shape[2:], mode="bilinear", align_corners=False
        ).unflatten(0, (-1, 2))
        copied = rec.copy_colors(weights, small[:, 0])
        return nn.functional.smooth_l1_loss(copied * rec.SCALE, small[:, 1] * rec.SCALE)

    def negatives(self, videos: Tensor) -> Tensor:
        """Which maps of the queue are negatives of each sample ``[B, M]``: other videos, the same number for every sample.

        None until the queue has been filled once and a step more.
        """
        keep = self.queue_videos[None] != videos[:, None]
        if int(self.queued) <= len(self.queue):
            return torch.zeros_like(keep)
        return keep & (keep.cumsum(1) <= keep.sum(1).min())

    @torch.no_grad()
    def after_step(self) -> None:
        """Put the reference maps of all processes into the ring."""
        if self._latest is None:
            return
        maps, videos = self._latest
        if dist.is_initialized() and dist.get_world_size() > 1:
            maps, videos = _gathered(maps), _gathered(videos)
        places = (self.queued + torch.arange(len(maps), device=maps.device)) % len(self.queue)
        self.queue[places], self.queue_videos[places] = maps, videos
        self.queued += len(maps)
        self._latest = None

    def load_init(self, raw: Mapping[str, Any]) -> None:
        """Start from another stage's checkpoint, a released file or its converted weights; the network must be complete.

        The released files may hold the queue of the inter-video loss, which a new run fills anew.
        """
        if "meta" in raw:
            if raw["meta"]["arch"] != "resnet18_hr":
                raise Refusal(
                    f"weights of a {raw['meta']['arch']}",
                    expected="weights of LIIR",
                    do="correct `start:` of the recipe",
                )
            state = {
                **raw["state_dict"],
                **{k: v for k, v in raw["extra"].items() if not k.startswith("conv_semantic_k.")},
            }
        else:
            state = {k.removeprefix("module."): v for k, v in raw["state_dict"].items()}
            state = {k: v for k, v in state.items() if not k.startswith(("colorizer.", "conv_semantic_k.", "queue"))}
        own = {k.removeprefix("feature_extraction."): v for k, v in state.items() if not k.startswith("conv_semantic")}
        self.network.load_state_dict(own, strict=True)
        semantic = {k.removeprefix("conv_semantic."): v for k, v in state.items() if k.startswith("conv_semantic.")}
        if semantic and hasattr(self, "conv_semantic"):
            self.conv_semantic.load_state_dict(semantic, strict=True)
        if self.options.momentum:
            self.conv_semantic_k.load_state_dict(self.conv_semantic.state_dict())

    def picture(self, batch: dict[str, Tensor]) -> Picture:
        """Reconstruction of the b channel of a pair, and the attention of three places."""
        frames = batch["frames"][0]
        inputs, _ = rec.drop_channel(frames, 2)
        reference, target = (self.network(inputs[i : i + 1]).float() for i in (0, 1))
        weights = rec.local_correlation(target, reference, self.options.radius).softmax(1)
        return attention_picture(frames, weights[0], 2)

    def checkpoint(self) -> dict[str, Any]:
        """As the reference's ``checkpoint_epoch_<e>.pt``, without the queue."""
        state = {}
        for key, value in self.state_dict().items():
            name = key.removeprefix("network.")
            if key.startswith("network.") and not name.startswith("post_convolution"):
                name = f"feature_extraction.{name}"
            if not name.startswith("queue"):
                state[name] = value
        return {"state_dict": state, "epoch": 0}


def _gathered(x: Tensor) -> Tensor:
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


class Source(rec.Pairs):
    """Pairs of frames."""

    def __init__(self, options: Options) -> None:
        super().__init__(options.image, options.pairs)
