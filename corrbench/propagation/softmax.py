"""Label scores by a softmax over a whole window: the readout of MAST and LIIR, with the search for old frames.

Shapes as in `affinity.py`; ``P = 2 radius + 1`` is the side of a window.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from corrbench.propagation.protocol import Selection, Window
from corrbench.propagation.tiles import Tile, Workspace, tiles, window_penalty

TILE = (12, 8)
"""Query cells per tile (rows, columns): a compromise between waste at the rim and the size of the matrices."""
TILE_CUDA = (16, 32)


def softmax_readout(
    query: Tensor,
    keys: Sequence[Tensor],
    labels: Sequence[Tensor],
    *,
    dilations: Sequence[int],
    window: Window,
    selection: Selection,
    compact: bool = False,
    foreground_gain: float = 1.0,
    tile_size: tuple[int, int] | None = None,
    workspace: Workspace | None = None,
) -> Tensor:
    """Label scores by one softmax over all context frames and all cells of a square window; returns ``[h, w, K]``.

    query ``[h, w, C]``; keys ``N x [h, w, C]``; labels ``N x [h, w, K]``. Cells outside the map have logit 0 and no
    label. `dilations[n]` > 0 displaces the window in frame n by a coarse search on a grid of that dilation. Source:
    MAST ``models/colorizer.py``, LIIR ``models/colorizer_{semantic,momen}.py``.
    """
    workspace = workspace or Workspace(query.device, threads=1)
    h, w, _ = query.shape
    size, radius = tile_size or (TILE_CUDA if query.is_cuda else TILE), window.radius
    tau = selection.temperature
    gain = torch.ones(labels[0].shape[2], device=query.device)
    gain[1:] = foreground_gain
    labels = [label * gain for label in labels]

    plain = [n for n in range(len(keys)) if not dilations[n]]
    old = [n for n in range(len(keys)) if dilations[n]]
    offsets = {n: search_offsets(query, keys[n], radius, dilations[n], tau, tile_size=size) for n in old}
    last = old[-1] if old else None
    shared = window.search is not None and window.search.shared_label_offset

    pad = (0, 0, radius, radius, radius, radius)
    plain_keys = [torch.nn.functional.pad(keys[n], pad) for n in plain]
    plain_labels = [torch.nn.functional.pad(labels[n], pad) for n in plain]
    out = labels[0].new_empty(h, w, labels[0].shape[2])

    def work(tile: Tile) -> None:
        q = query[slice(*tile.qy), slice(*tile.qx)].flatten(0, 1)
        blocks: list[_Block] = []
        if plain:
            ky, kx = (slice(side[0] + radius, side[1] + radius) for side in (tile.ky, tile.kx))
            rect = torch.stack([key[ky, kx] for key in plain_keys]).flatten(1, 2)  # [N, R, C]
            logits = torch.bmm(q.expand(len(plain), -1, -1), rect.transpose(1, 2)).float() / tau
            logits += window_penalty(window, tile, query.device)
            blocks.append(_Rectangle(logits, torch.stack([label[ky, kx] for label in plain_labels]), tile, radius))
        for n in old:
            offset = offsets[n][slice(*tile.qy), slice(*tile.qx)].flatten(0, 1)
            where = offsets[last] if shared and last is not None else offsets[n]
            label_offset = where[slice(*tile.qy), slice(*tile.qx)].flatten(0, 1)
            logits = sample_patches(keys[n], tile, offset, radius, query=q) / tau  # [Q, P, P]
            patches = sample_patches(labels[n], tile, label_offset, radius)  # [Q, P, P, K]
            blocks.append(_Patches(logits, patches))
        peak = torch.stack([b.logits.amax(b.over) for b in blocks]).amax(0)  # [Q]
        total = torch.zeros_like(peak)
        for block in blocks:
            block.logits.sub_(block.per_query(peak)).exp_()
            total += block.logits.sum(block.over)
        scores = out.new_zeros(len(q), out.shape[2])
        for block in blocks:
            block.logits.div_(block.per_query(total))  # now the weights
            scores += block.read_compact() if compact else block.read()
        out[slice(*tile.qy), slice(*tile.qx)] = scores.view(*tile.shape, -1)

    workspace.each(work, tiles(h, w, radius, size, clip=False))
    return out


SHARP = 0.1
"""A window whose best weight exceeds this is rewritten by the compactness prior (LIIR)."""


def _two_peaks(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of ``weights [..., L]``: is the window sharp ``[...]``; the two best cells and their mixture ``[..., 2]``."""
    values, cells = weights.topk(2)
    return values[..., 0] > SHARP, cells, values.softmax(-1)


def _gaussian(distance: Tensor) -> Tensor:
    """One axis of LIIR's Gaussian of full width 1: ``2^(-4 d^2)``."""
    return torch.exp2(-4.0 * distance.float() ** 2)


class _Rectangle:
    """Weights of N undisplaced frames over the key rectangle of a tile (cells outside the window weigh 0)."""

    over = (0, 2)

    def __init__(self, logits: Tensor, labels: Tensor, tile: Tile, radius: int) -> None:
        self.logits, self.labels, self.tile, self.radius = (
            logits,
            labels,
            tile,
            radius,
        )  # [N,Q,R], [N,kh,kw,K]

    def per_query(self, values: Tensor) -> Tensor:
        return values[None, :, None]

    def read(self) -> Tensor:
        return torch.bmm(self.logits, self.labels.flatten(1, 2)).sum(0)

    def read_compact(self) -> Tensor:
        n, kh, kw, k = self.labels.shape
        sharp, cells, mix = _two_peaks(self.logits)  # [N, Q], [N, Q, 2], [N, Q, 2]
        device = self.logits.device
        qh, qw = self.tile.shape
        # the first key cell of query (y, x) is (y, x) in the rectangle: its window spans y .. y + 2 radius
        first_y = torch.arange(qh, device=device).repeat_interleave(qw)[:, None]  # [Q, 1]
        first_x = torch.arange(qw, device=device).repeat(qh)[:, None]
        rows, columns = torch.arange(kh, device=device), torch.arange(kw, device=device)
        in_y = (rows >= first_y) & (rows <= first_y + 2 * self.radius)  # [Q, kh]
        in_x = (columns >= first_x) & (columns <= first_x + 2 * self.radius)
        per_frame = torch.bmm(self.logits, self.labels.flatten(1, 2))  # [N, Q, K]
        blurred = torch.zeros_like(per_frame)
        by_column = self.labels.permute(0, 2, 1, 3).reshape(n, kw, kh * k)
        for peak in range(2):
            gy = _gaussian(rows - (cells[..., peak] // kw)[..., None]) * in_y  # [N, Q, kh]
            gx = _gaussian(columns - (cells[..., peak] % kw)[..., None]) * in_x
            rows_read = torch.bmm(gx, by_column).view(n, -1, kh, k)
            blurred += mix[..., peak, None] * (gy[..., None] * rows_read).sum(2)
        return torch.where(sharp[..., None], blurred, per_frame).sum(0)


class _Patches:
    """Weights of one displaced frame: a ``P x P`` window for each query with its own sampled labels."""

    over = (1, 2)

    def __init__(self, logits: Tensor, labels: Tensor) -> None:
        self.logits, self.labels = logits, labels  # [Q, P, P], [Q, P, P, K]

    def per_query(self, values: Tensor) -> Tensor:
        return values[:, None, None]

    def read(self) -> Tensor:
        return (self.logits[..., None] * self.labels).sum((1, 2))

    def read_compact(self) -> Tensor:
        side = self.logits.shape[1]
        sharp, cells, mix = _two_peaks(self.logits.flatten(1))
        axis = torch.arange(side, device=self.logits.device)
        blurred = torch.zeros_like(self.labels[:, 0, 0])
        for peak in range(2):
            gy = _gaussian(axis - (cells[:, peak] // side)[:, None])
            gx = _gaussian(axis - (cells[:, peak] % side)[:, None])
            weights = gy[:, :, None] * gx[:, None, :]
            blurred += mix[:, peak, None] * (weights[..., None] * self.labels).sum((1, 2))
        return torch.where(sharp[:, None], blurred, self.read())


_Block = _Rectangle | _Patches


def search_offsets(
    query: Tensor,
    key: Tensor,
    radius: int,
    dilation: int,
    tau: float = 1.0,
    *,
    tile_size: tuple[int, int] = TILE,
) -> Tensor:
    """Expected displacement (dy, dx) in cells, ``[h, w, 2]``, on the grid ``dilation * [-radius .. radius]^2``.

    Cells of one residue modulo the dilation form a grid of their own on which the search is a plain window.
    """
    h, w, _ = query.shape
    window = Window("square", radius, False, "zero", None)
    out = torch.empty(h, w, 2, device=query.device)
    for py in range(min(dilation, h)):
        for px in range(min(dilation, w)):
            sub_query, sub_key = query[py::dilation, px::dilation], key[py::dilation, px::dilation]
            padded = torch.nn.functional.pad(sub_key, (0, 0, radius, radius, radius, radius))
            sub_out = out[py::dilation, px::dilation]
            for tile in tiles(sub_query.shape[0], sub_query.shape[1], radius, tile_size, clip=False):
                q = sub_query[slice(*tile.qy), slice(*tile.qx)].flatten(0, 1)
                ky = slice(tile.ky[0] + radius, tile.ky[1] + radius)
                rect = padded[ky, tile.kx[0] + radius : tile.kx[1] + radius]
                kh, kw, _ = rect.shape
                logits = (q @ rect.flatten(0, 1).t()).float() / tau
                weights = (logits + window_penalty(window, tile, query.device)).softmax(1).view(-1, kh, kw)
                qh, qw = tile.shape
                y = torch.arange(kh, device=query.device) - radius  # relative to the tile's first query
                x = torch.arange(kw, device=query.device) - radius
                # subtract the query's own place first: small numbers keep their digits
                qy = torch.arange(qh, device=query.device).repeat_interleave(qw)[:, None]
                qx = torch.arange(qw, device=query.device).repeat(qh)[:, None]
                dy = (weights.sum(2) * (y - qy)).sum(1)
                dx = (weights.sum(1) * (x - qx)).sum(1)
                moved = torch.stack((dy, dx), 1).mul_(dilation)
                sub_out[slice(*tile.qy), slice(*tile.qx)] = moved.view(qh, qw, 2)
    return out


def sample_patches(maps: Tensor, tile: Tile, offset: Tensor, radius: int, *, query: Tensor | None = None) -> Tensor:
    """Bilinear ``P x P`` patches of ``maps [h, w, D]`` around each displaced query cell, zeros outside.

    offset ``[Q, 2]`` in cells. Without `query`: the patches ``[Q, P, P, D]``. With ``query [Q, D]``: their dot products
    ``[Q, P, P]``, formed before the interpolation (it is linear), so patches of features are never built.
    """
    h, w, _d = maps.shape
    device = maps.device
    qh, qw = tile.shape
    qy = torch.arange(*tile.qy, device=device).repeat_interleave(qw)
    qx = torch.arange(*tile.qx, device=device).repeat(qh)
    y, x = qy + offset[:, 0], qx + offset[:, 1]
    y0, x0 = y.floor(), x.floor()
    fy, fx = (y - y0)[:, None, None], (x - x0)[:, None, None]
    y0, x0 = y0.long() - radius, x0.long() - radius  # first cell of each patch
    side = 2 * radius + 2  # one more cell for the interpolation
    bottom, right = int(y0.max()) + side, int(x0.max()) + side
    top, left = int(y0.min()), int(x0.min())
    # a frame of zeros round the map, and every outside cell read from it
    padded = torch.nn.functional.pad(maps, (0, 0, 1, 1, 1, 1))
    rows = torch.arange(top, bottom, device=device).clamp(-1, h) + 1
    columns = torch.arange(left, right, device=device).clamp(-1, w) + 1
    rect = padded[rows][:, columns].flatten(0, 1)  # [R, D]
    steps = torch.arange(side, device=device)
    cells = ((y0 - top)[:, None] + steps)[:, :, None] * len(columns) + ((x0 - left)[:, None] + steps)[:, None, :]
    if query is not None:
        corners = (query @ rect.t()).float().gather(1, cells.flatten(1)).view(-1, side, side)
    else:
        corners = rect[cells]  # [Q, side, side, D]
        fy, fx = fy[..., None], fx[..., None]
    upper = corners[:, :-1, :-1] * (1 - fx) + corners[:, :-1, 1:] * fx
    lower = corners[:, 1:, :-1] * (1 - fx) + corners[:, 1:, 1:] * fx
    return upper * (1 - fy) + lower * fy
