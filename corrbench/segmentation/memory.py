"""Reading from memory: affinity over all memory cells, optional kernel and top-k (Mask-Propagation model/eval_network.py)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CELLS = 1 << 26
"""Affinities of one object that are in memory at a time (256 MB as float32)."""


def read(
    keys: Tensor,
    values: Tensor,
    query: Tensor,
    *,
    top_k: int | None = None,
    sigma: float | None = None,
    cells: int = CELLS,
) -> Tensor:
    """Read the memory of k objects at every cell of a frame.

    `keys` ``[k, 128, T, h, w]``, `values` ``[k, 512, T, h, w]``, `query` ``[128, h, w]``; returns ``[k, 512, h, w]``.
    Affinity: dot product over sqrt(channels). Over the memory axis, all frames together: softmax; with `top_k` over the
    largest k only (all if there are fewer). With `sigma` (in cells) each memory cell is weighted by a Gaussian around the
    query cell that suits it best, before the largest are chosen. Objects are read one by one and the query in
    stretches, so memory is bounded by `cells`; with a kernel its first pass over all query cells takes two more passes.
    """
    h, w = query.shape[1:]
    flat = query.flatten(1) / math.sqrt(query.shape[0])
    out = torch.empty(len(values), values.shape[1], h * w, dtype=values.dtype, device=values.device)
    for i, (key, value) in enumerate(zip(keys.flatten(2), values.flatten(2), strict=True)):
        stretch = max(1, cells // key.shape[1])
        best = _suits_best(key, flat, stretch) if sigma is not None else None
        for first in range(0, h * w, stretch):
            part = slice(first, first + stretch)
            affinity = key.T @ flat[:, part]  # [memory, query]
            weight, chosen = _weights(affinity, best, first, w, top_k, sigma)
            if chosen is None:
                out[i, :, part] = value @ weight
            else:
                out[i, :, part] = value @ torch.zeros_like(affinity).scatter_(0, chosen, weight)
    return out.reshape(len(values), -1, h, w)


def _suits_best(key: Tensor, query: Tensor, stretch: int) -> Tensor:
    """For every memory cell the query cell of the largest affinity, padded cells included. ``[C, M]``, ``[C, Q]`` -> ``[M]``."""
    best, where = None, None
    for first in range(0, query.shape[1], stretch):
        top, at = (key.T @ query[:, first : first + stretch]).max(1)
        better = top > best if best is not None else torch.ones_like(top, dtype=torch.bool)
        best = top if best is None else torch.where(better, top, best)
        where = at if where is None else torch.where(better, at + first, where)
    assert where is not None
    return where


def _weights(
    affinity: Tensor, best: Tensor | None, first: int, width: int, top_k: int | None, sigma: float | None
) -> tuple[Tensor, Tensor | None]:
    """Weights over the memory axis that sum to 1; with top-k those of the chosen cells and which they are."""
    k = None if top_k is None else min(top_k, affinity.shape[0])
    if best is None or sigma is None:
        if k is None:
            return affinity.softmax(0), None
        largest, chosen = affinity.topk(k, 0)
        return largest.softmax(0), chosen
    cell = torch.arange(first, first + affinity.shape[1], device=affinity.device)
    weight = affinity.sub_(affinity.max(0, keepdim=True).values).exp_()  # the maximum is taken before the kernel
    for place, of in ((cell // width, best // width), (cell % width, best % width)):  # the kernel is a product of two
        span = torch.arange(int(place.max()) + 1, device=affinity.device)
        table = torch.exp(-((span[None] - of[:, None]).float() ** 2) / (2 * sigma**2))
        weight.mul_(table[:, place])
    if k is None:
        return weight / weight.sum(0, keepdim=True), None
    largest, chosen = weight.topk(k, 0)
    return largest / largest.sum(0, keepdim=True), chosen
