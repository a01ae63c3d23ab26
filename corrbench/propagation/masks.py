"""Masks while a video is propagated, without a score file in between."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from corrbench.propagation.clip import Video
from corrbench.propagation.decode import mask_of
from corrbench.propagation.labels import Mask
from corrbench.propagation.protocol import Protocol
from corrbench.propagation.run import propagate_sequence


def masks_of(
    encoder: nn.Module | None, video: Video, protocol: Protocol, device: torch.device, *, single_object: bool = False
) -> Iterator[Mask]:  # fmt: skip
    """Masks ``[H, W]`` of every frame of a video, in order."""
    frames = propagate_sequence(encoder, video, protocol, device, single_object=single_object)
    for t, (opening, scores) in enumerate(frames):
        # as a score file keeps them
        kept = scores.permute(2, 0, 1).to("cpu", torch.float32).contiguous()
        yield mask_of(t, kept, opening.mask, opening.ids, opening.sizes, protocol.decode)
