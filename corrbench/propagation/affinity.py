"""From features and remembered labels to the label scores of one frame, touching only the window.

The grid of query cells is cut into tiles. For a tile only the key cells that some query of it may look at (a
rectangle) are compared, so the cost follows the window and not the map, and nothing larger than one tile's
similarities is ever held. The result is the dense formula's: same candidates, same order of operations up to float
rounding.

Near ties. Similarities come from matrix products over a tile; another tiling, device or thread count may round the
last bit differently, so two candidates closer than about 1e-6 can swap places at the k-th rank. Copies of one frame
are never compared with each other: they are one candidate with a count (see `context.py`).

Shapes: ``h, w`` feature grid, ``C`` channels, ``K`` classes, ``N`` context frames, ``Q = qh * qw`` query
cells of a tile, ``kh, kw`` key cells of its rectangle. Feature maps are ``[h, w, C]``, label maps ``[h, w, K]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from corrbench.propagation.protocol import Selection, Window
from corrbench.propagation.tiles import Tile, Workspace, inside, reach, tiles, window_mask

TILE = (60, 8)
"""Query cells per tile (rows, columns). Tall and narrow: each row of keys then meets many queries in one matrix product,
yet few cells beside the window are computed."""
TILE_CUDA = (30, 36)

Found = tuple[Tensor, Tensor, Tensor]
"""Candidates of Q queries: similarities, rows of the flat label table, copies; each ``[Q, <=k]``."""


@dataclass(frozen=True)
class Exempt:
    """A context frame with copies that are exempt from the window (CRW's first frame)."""

    keys: Tensor
    """``[h, w, C]``"""
    labels: Tensor
    """``[h, w, K]``"""
    everywhere: int
    """Copies that every query sees."""
    inside: int
    """Further copies that obey the window."""


def topk_readout(
    query: Tensor,
    keys: Tensor,
    labels: Tensor,
    *,
    copies: Sequence[int],
    exempt: Sequence[Exempt] = (),
    window: Window,
    selection: Selection,
    tile_size: tuple[int, int] | None = None,
    workspace: Workspace | None = None,
) -> Tensor:
    """Label scores by a joint top-k over all context frames and allowed cells, softmax after the top-k.

    query ``[h, w, C]``; keys ``[h, w, N, C]`` (a run of cells of one row, all frames, is one matrix); labels
    ``[N, h, w, K]`` float32; `copies[n]` says how often frame n counts. A kept candidate counts as often as it is
    present, until k are used. Returns ``[h, w, K]`` float32. Source: CRW ``mem_efficient_batched_affinity``, VFS
    ``masked_attention_efficient``, DINO ``label_propagation``.
    """
    assert selection.topk is not None
    k = selection.topk
    workspace = workspace or Workspace(query.device, threads=1)
    h, w, n, _ = keys.shape
    if window.shape == "none":  # every frame is exempt
        exempt = [*exempt, *(Exempt(keys[:, :, i], labels[i], copies[i], 0) for i in range(n))]
        keys, n = keys[:, :, :0], 0
    flat_labels = torch.cat([labels[:n].flatten(0, 2), *(e.labels.flatten(0, 1) for e in exempt)])
    exempt_keys = [e.keys.flatten(0, 1).contiguous() for e in exempt]
    counts = torch.tensor(copies, device=query.device)
    out = flat_labels.new_empty(h, w, flat_labels.shape[1])

    def work(tile: Tile) -> None:
        q = query[slice(*tile.qy), slice(*tile.qx)].flatten(0, 1)  # [Q, C]
        found: list[Found] = []
        if n:
            sims, best = _compare(q, keys, tile, window, workspace)
            found.append(_best_in_window(sims, best, tile, (h, w), window, selection, counts))
        for i, (frame, frame_keys) in enumerate(zip(exempt, exempt_keys, strict=True)):
            product = workspace.take("far", query, h * w, len(q))
            torch.mm(frame_keys, q.t(), out=product)
            values, cells = _best_anywhere(product.view(h, w, -1), k)
            present = torch.full_like(cells, frame.everywhere)
            if frame.inside:
                present += frame.inside * _in_window(cells, tile, w, window)
            found.append((values, cells + (n + i) * h * w, present))
        scores = _weigh(found, flat_labels, selection)
        if selection.keep_ties and n:
            _readd_ties(scores, sims, found[0][0], labels, tile, window, selection)
        out[slice(*tile.qy), slice(*tile.qx)] = scores.view(*tile.shape, -1)

    workspace.each(work, tiles(h, w, reach(window), tile_size or (TILE_CUDA if query.is_cuda else TILE), clip=True))
    return out


def _compare(q: Tensor, keys: Tensor, tile: Tile, window: Window, workspace: Workspace) -> tuple[Tensor, Tensor]:
    """Similarities of a tile, one row of keys at a time: each is compared only with the query rows within reach.

    Returns ``sims [kh, kw, N, Q]``, of which only those rows are filled, and ``best [S, kw, qh, qw]``: the maximum
    over the N frames at vertical displacement ``s - r`` (query minus key), ``S = 2 r + 1``, -inf outside the map.
    The maxima are taken while a row's products are still in the cache.
    """
    (qh, qw), r = tile.shape, reach(window)
    kx = slice(*tile.kx)
    n = keys.shape[2]
    kh, kw = tile.ky[1] - tile.ky[0], tile.kx[1] - tile.kx[0]
    sims = workspace.take("near", q, kh, kw, n, qh * qw)
    best = workspace.take("best", q, 2 * r + 1, kw, qh, qw).fill_(float("-inf"))
    for i in range(kh):
        ahead = tile.ky[0] + i - tile.qy[0]  # of the tile's first query row
        first, end = max(ahead - r, 0), min(ahead + r + 1, qh)
        part = sims[i].flatten(0, 1)[:, first * qw : end * qw]
        torch.mm(keys[tile.ky[0] + i, kx].flatten(0, 1), q[first * qw : end * qw].t(), out=part)
        maxima = part.view(kw, n, end - first, qw).amax(1)
        best.diagonal(ahead - r, 0, 2).copy_(maxima.transpose(1, 2))  # all (s, query row) that meet this key row
    return sims, best


def _best_in_window(
    sims: Tensor,
    best: Tensor,
    tile: Tile,
    grid: tuple[int, int],
    window: Window,
    selection: Selection,
    copies: Tensor,
) -> Found:
    """The best candidates of a tile from `_compare`: values, flat label rows and counts, each ``[Q, k']``, best first.

    The k best lie at the k key cells whose best frame is best, so the expensive selection runs over cells instead of
    cells times frames, and the window is applied once instead of N times.
    """
    assert selection.topk is not None
    h, w = grid
    kh, kw, n, q = sims.shape
    wanted = selection.topk + selection.keep_ties  # one more shows whether the k-th is tied
    k = min(wanted, best.shape[0] * kw)
    cells = best.permute(2, 3, 0, 1).flatten(0, 1).flatten(1)  # [Q, S*kw]
    cells = cells.view(*tile.shape, -1).masked_fill(window_mask(window, tile, sims.device), float("-inf")).view(q, -1)
    top, cells = cells.topk(k)  # [Q, k]
    queries = torch.arange(q, device=sims.device)[:, None]
    x = cells % kw
    y = (queries // tile.shape[1] + tile.qy[0] - tile.ky[0] + reach(window) - cells // kw).clamp_(0, kh - 1)
    values = sims[y, x, :, queries].float()  # [Q, k, N]
    values = values.masked_fill_((top == float("-inf"))[:, :, None], float("-inf")).flatten(1)
    values, order = values.topk(min(wanted, n * k))
    cell, frame = order // n, order % n
    row = (frame * h + y.gather(1, cell) + tile.ky[0]) * w + x.gather(1, cell) + tile.kx[0]
    return values, row, copies[frame]


def _best_anywhere(sims: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of ``sims [h, w, Q]`` over all cells: values and flat cells, each ``[Q, k']``, best first."""
    h, w, q = sims.shape
    columns = sims.amax(0).t().topk(min(k, w)).indices  # [Q, k]: the k columns with the best maxima hold the k best
    values = sims.gather(1, columns.t().expand(h, -1, -1)).float()  # [h, k, Q]
    values, order = values.permute(2, 0, 1).reshape(q, -1).topk(min(k, values.shape[0] * values.shape[1]))
    return values, (order // columns.shape[1]) * w + columns.gather(1, order % columns.shape[1])


def _in_window(cells: Tensor, tile: Tile, w: int, window: Window) -> Tensor:
    """``[Q, k]`` bool: is the flat key cell inside the window of its query?"""
    queries = torch.arange(len(cells), device=cells.device)[:, None]
    dy = cells // w - tile.qy[0] - queries // tile.shape[1]
    return inside(window, dy, cells % w - tile.qx[0] - queries % tile.shape[1])


def _weigh(found: list[Found], labels: Tensor, selection: Selection) -> Tensor:
    """Merge the candidates of a tile, keep k of them counting copies, softmax, sum labels: ``[Q, K]``."""
    assert selection.topk is not None
    values, rows, counts = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
    values, order = values.topk(min(selection.topk, values.shape[1]))  # [Q, k]
    rows, counts = rows.gather(1, order), counts.gather(1, order)
    before = counts.cumsum(1) - counts
    used = (selection.topk - before).clamp_(min=0).minimum(counts)
    weights = used * ((values - values[:, :1]) / selection.temperature).exp_()
    weights = weights / weights.sum(1, keepdim=True)
    return (weights[:, :, None] * labels[rows]).sum(1)


def _readd_ties(
    scores: Tensor,
    sims: Tensor,
    best: Tensor,
    labels: Tensor,
    tile: Tile,
    window: Window,
    selection: Selection,
) -> None:
    """Recompute, in place, the queries whose k-th candidate is tied with the next: all that reach it stay.

    Ties are those of exp(similarity / temperature) in float32, as DINO's ``label_propagation`` compares: division and
    exponential round, so neighboring similarities are one value there. `best` has similarities.
    """
    k = selection.topk
    assert k is not None
    if best.shape[1] <= k:
        return
    logits = best / selection.temperature  # [Q, k + 1]
    reached = logits.exp()
    tied = (reached[:, k - 1] == reached[:, k]).nonzero()[:, 0]
    if not len(tied):
        return
    y, x = (torch.arange(*side, device=sims.device) for side in (tile.ky, tile.kx))
    dy = y[:, None, None] - (tile.qy[0] + tied // tile.shape[1])  # [kh, 1, M]
    dx = x[:, None] - (tile.qx[0] + tied % tile.shape[1])  # [kw, M]
    outside = ~inside(window, dy, dx)[:, :, None]  # [kh, kw, 1, M]
    values = (sims[..., tied].float() / selection.temperature).masked_fill_(outside, float("-inf"))  # [kh, kw, N, M]
    kept = values.exp() >= reached[tied, k - 1]
    weights = (values - logits[tied, 0]).exp_() * kept
    rect = labels[:, slice(*tile.ky), slice(*tile.kx)].permute(1, 2, 0, 3)  # [kh, kw, N, K]
    total = weights.sum((0, 1, 2))[:, None]
    scores[tied] = weights.flatten(0, 2).t() @ rect.flatten(0, 2) / total
