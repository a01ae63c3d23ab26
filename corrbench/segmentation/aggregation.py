"""Soft aggregation of independent objects (Mask-Propagation model/aggregate.py)."""

from __future__ import annotations

import torch
from torch import Tensor


def aggregate(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Join independent objects: ``[k, ...]`` in 0..1 to (classes ``[k + 1, ...]`` that sum to 1, their logits).

    Background is the product of the complements; then softmax over log-odds (Mask-Propagation model/aggregate.py). One object
    is sharpened too: 0.9 becomes 0.988.
    """
    background = torch.prod(1 - probabilities, 0, keepdim=True)
    p = torch.cat([background, probabilities], 0).clamp(1e-7, 1 - 1e-7)
    logits = torch.log(p / (1 - p))
    return logits.softmax(0), logits
