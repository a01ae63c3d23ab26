"""What STM remembers of an object, and how it is read (Mask-Propagation model/eval_network.py)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

CELLS = 1 << 26
"""Affinities that are in memory at a time (256 MB as float32)."""


class Bank:
    """The memory of one object: frames that are kept, and at most one that is there until the next.

    `slots` frames have room, the passing one included; `most` is how many are kept: beyond that the oldest without an
    annotation makes room, and annotated frames never do. Room is taken once, when the object's first frame comes.
    """

    def __init__(self, slots: int, most: int) -> None:
        self.slots, self.most = slots, most
        self.kept: list[tuple[int, bool]] = []
        """Of each kept frame when it came, and whether it is annotated; frame i lies in slot i."""
        self.passing = False
        """Whether the slot behind the kept frames is in use."""
        self._came = 0
        self._keys = self._values = torch.empty(0)

    def keep(self, key: Tensor, value: Tensor, *, annotated: bool) -> None:
        """Remember a frame for good; the passing one is forgotten. `key` ``[C, h, w]``, `value` ``[V, h, w]``."""
        free = [slot for slot, (_, fixed) in enumerate(self.kept) if not fixed]
        if len(self.kept) >= self.most and free:
            slot = min(free, key=lambda s: self.kept[s][0])
        else:
            slot = len(self.kept)
            self.kept.append((0, annotated))
        self.kept[slot] = (self._came, annotated)
        self._came += 1
        self._write(slot, key, value)
        self.passing = False

    def hold(self, key: Tensor, value: Tensor) -> None:
        """Remember a frame until the next one comes; shapes as in `keep`."""
        self._write(len(self.kept), key, value)
        self.passing = True

    def rows(self) -> tuple[Tensor, Tensor]:
        """Keys ``[M, C]`` and values ``[M, V]``, a row per memory cell, without a copy."""
        used = len(self.kept) + self.passing
        return self._keys[:used].flatten(0, 1), self._values[:used].flatten(0, 1)

    @property
    def bytes(self) -> int:
        """Room taken, whether in use or not."""
        return sum(rows.numel() * rows.element_size() for rows in (self._keys, self._values))

    def _write(self, slot: int, key: Tensor, value: Tensor) -> None:
        if not len(self._keys):
            self._keys, self._values = (x.new_empty(self.slots, x[0].numel(), len(x)) for x in (key, value))
        for rows, x in ((self._keys, key), (self._values, value)):
            rows[slot] = x.flatten(1).T


def read(
    keys: Tensor,
    values: Tensor,
    query: Tensor,
    *,
    top_k: int | None = None,
    sigma: float | None = None,
    cells: int = CELLS,
) -> Tensor:
    """Read one object's memory at every cell of a frame.

    `keys` ``[M, C]``, `values` ``[M, V]``, `query` ``[C, h, w]``; returns ``[V, h, w]``.
    Affinity: dot product over sqrt(channels). Over the memory axis, all frames together: softmax; with `top_k` over the
    largest k only (all if there are fewer). With `sigma` (in cells) each memory cell is weighted by a Gaussian around the
    query cell that suits it best, before the largest are chosen. Queries are read in stretches, so memory is bounded
    by `cells`; with a kernel, which needs to know all query cells first, affinities are computed twice.
    """
    h, w = query.shape[1:]
    flat = query.flatten(1).T / math.sqrt(query.shape[0])  # [Q, C]
    stretch = max(1, cells // len(keys))
    best = _suits_best(keys, flat, stretch) if sigma is not None else None
    out = torch.empty(h * w, values.shape[1], dtype=values.dtype, device=values.device)
    for first in range(0, h * w, stretch):
        part = slice(first, first + stretch)
        affinity = flat[part] @ keys.T  # [query, memory]
        if best is not None and sigma is not None:
            _add_kernel(affinity, best, first, w, sigma)
        if top_k is None:
            out[part] = affinity.softmax(1) @ values
            continue
        largest, chosen = affinity.topk(min(top_k, affinity.shape[1]), 1)
        weight = largest.softmax(1)
        # the sum over the chosen rows alone: the product over all memory cells is nearly all zeros
        out[part] = embedding_bag(chosen, values, per_sample_weights=weight, mode="sum")
    return out.T.reshape(-1, h, w)


def _suits_best(keys: Tensor, query: Tensor, stretch: int) -> Tensor:
    """For every memory cell the query cell of the largest affinity, padded cells included. ``[M, C]``, ``[Q, C]`` -> ``[M]``."""
    best, where = (query[:stretch] @ keys.T).max(0)
    for first in range(stretch, len(query), stretch):
        top, at = (query[first : first + stretch] @ keys.T).max(0)
        where = torch.where(top > best, at + first, where)
        best = torch.maximum(best, top)
    return where


def _add_kernel(affinity: Tensor, best: Tensor, first: int, width: int, sigma: float) -> None:
    """Add the logarithm of the Gaussian to ``[query, memory]``, in place.

    The reference multiplies exponentials, after taking away the largest affinity of all; the softmax of sums is the same, and
    stays finite where every product would be 0.
    """
    cell = torch.arange(first, first + affinity.shape[0], device=affinity.device)
    # rows, then columns: the square of a distance is a sum of two
    for place, of in ((cell // width, best // width), (cell % width, best % width)):
        span = torch.arange(int(place.max()) + 1, device=affinity.device)
        table = (span[:, None] - of[None]).float() ** 2 / (2 * sigma**2)
        affinity.sub_(table[place])
