"""From features and remembered labels to the label scores of one frame, touching only the window.

The grid of query cells is cut into tiles. For a tile only the key cells that some query of it may look at (a
rectangle) are compared, so the cost follows the window and not the map, and nothing larger than one tile's
similarities is ever held. The result is the dense formula's: same candidates, same order of operations up to float
rounding.

Near ties. Similarities of a tile come from one matrix product; another tiling, device or thread count may round the
last bit differently, so two candidates closer than about 1e-6 can swap places at the k-th rank. Copies of one frame
are never compared with each other: they are one candidate with a count (see `context.py`).

Shapes: ``h, w`` feature grid, ``C`` channels, ``K`` classes, ``N`` context frames, ``Q`` query cells of a tile,
``R`` key cells of a tile's rectangle. Feature maps are ``[h, w, C]``, label maps ``[h, w, K]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from corrbench.propagation.protocol import Selection, Window
from corrbench.propagation.tiles import Tile, Workspace, bands, reach, tile_size_for, tiles, window_penalty

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

    query ``[h, w, C]``; keys ``[h, N, w, C]`` (frames lie inside rows, so that the rows of a tile's rectangle are
    one matrix); labels ``[N, h, w, K]`` float32; `copies[n]` says how often frame n counts. A kept
    candidate counts as often as it is present, until k are used. Returns ``[h, w, K]`` float32. Source: CRW
    ``mem_efficient_batched_affinity``, VFS ``masked_attention_efficient``, DINO ``label_propagation``.
    """
    assert selection.topk is not None
    k = selection.topk
    workspace = workspace or Workspace(query.device, threads=1)
    h, n, w, _ = keys.shape
    if window.shape == "none":  # every frame is exempt
        exempt = [*exempt, *(Exempt(keys[:, i], labels[i], copies[i], 0) for i in range(n))]
        keys, n = keys[:, :0], 0
    flat_labels = torch.cat([labels[:n].flatten(0, 2), *(e.labels.flatten(0, 1) for e in exempt)])
    counts = torch.tensor(copies, device=query.device)
    out = flat_labels.new_empty(h, w, flat_labels.shape[1])

    def work(column: list[Tile]) -> None:
        qx = slice(*column[0].qx)
        width = qx.stop - qx.start
        kx = slice(*column[0].kx)
        strip, filled = workspace.take("strip", query, h, n, kx.stop - kx.start, query.shape[2]), 0
        for tile in column:
            strip[filled : tile.ky[1]] = keys[filled : tile.ky[1], :, kx]
            filled = tile.ky[1]
            q = query[slice(*tile.qy), qx].flatten(0, 1)  # [Q, C]
            found: list[Found] = []
            for band in bands(tile, window, h) if n and not selection.keep_ties else [tile] if n else []:
                queries = slice((band.qy[0] - tile.qy[0]) * width, (band.qy[1] - tile.qy[0]) * width)
                rect = strip[slice(*band.ky)].flatten(0, 2)  # [kh*N*kw, C], a view
                product = workspace.take("near", query, len(rect), queries.stop - queries.start)
                torch.mm(rect, q[queries].t(), out=product)
                sims = product.float().view(-1, n, kx.stop - kx.start, product.shape[1])  # [kh, N, kw, Q]
                penalty = window_penalty(window, band, query.device)
                found.append(_spread(_best_in_window(sims, penalty, band, (h, w), selection, counts), queries, len(q)))
            for i, frame in enumerate(exempt):
                product = workspace.take("far", query, h * w, len(q))
                torch.mm(frame.keys.flatten(0, 1), q.t(), out=product)
                values, cells = _best_anywhere(product.float().view(h, w, -1), k)
                present = torch.full_like(cells, frame.everywhere)
                if frame.inside:
                    present += frame.inside * _in_window(cells, tile, w, window)
                found.append((values, cells + (n + i) * h * w, present))
            scores = _weigh(found, flat_labels, selection)
            if selection.keep_ties and n:
                _readd_ties(scores, sims, penalty, found[0][0], labels, tile, selection)
            out[slice(*tile.qy), qx] = scores.view(-1, width, scores.shape[1])

    workspace.each(work, tiles(h, w, reach(window), tile_size or tile_size_for(query.device), clip=True))
    return out


def _spread(found: Found, queries: slice, total: int) -> Found:
    """Candidates of some queries as candidates of all `total`: the others get some that weigh nothing."""
    values, rows, counts = found
    if len(values) == total:
        return found
    wide = values.new_full((total, values.shape[1]), float("-inf"))
    wide[queries] = values
    wide_rows, wide_counts = rows.new_zeros(wide.shape), counts.new_ones(wide.shape)
    wide_rows[queries], wide_counts[queries] = rows, counts
    return wide, wide_rows, wide_counts


def _best_in_window(
    sims: Tensor, penalty: Tensor, tile: Tile, grid: tuple[int, int], selection: Selection, copies: Tensor
) -> Found:
    """The best candidates of ``sims [kh, N, kw, Q]``: values, flat label rows and counts, each ``[Q, k']``, best first.

    The k best lie at the k key cells whose best frame is best, so the expensive selection runs over R instead of N*R
    numbers, and the window is applied once instead of N times. penalty ``[Q, R]``.
    """
    assert selection.topk is not None
    kh, n, kw, q = sims.shape
    h, w = grid
    wanted = selection.topk + selection.keep_ties  # one more shows whether the k-th is tied
    k = min(wanted, kh * kw)
    best = sims.amax(1).view(kh * kw, q).t() + penalty  # [Q, R]
    cells = best.topk(k).indices  # [Q, k]
    y, x = cells // kw, cells % kw
    frames = torch.arange(n, device=sims.device)[:, None, None]
    flat = ((y * n + frames) * kw + x) * q + torch.arange(q, device=sims.device)[:, None]  # [N, Q, k]
    values = sims.view(-1)[flat] + penalty.gather(1, cells)
    values, order = values.permute(1, 0, 2).reshape(q, -1).topk(min(wanted, n * k))
    frame, cell = order // k, cells.gather(1, order % k)
    row = (frame * h + cell // kw + tile.ky[0]) * w + cell % kw + tile.kx[0]
    return values, row, copies[frame]


def _best_anywhere(sims: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of ``sims [h, w, Q]`` over all cells: values and flat cells, each ``[Q, k']``, best first."""
    h, w, q = sims.shape
    columns = sims.amax(0).t().topk(min(k, w)).indices  # [Q, k]: the k columns with the best maxima hold the k best
    values = sims.gather(1, columns.t().expand(h, -1, -1))  # [h, k, Q]
    values, order = values.permute(2, 0, 1).reshape(q, -1).topk(min(k, values.shape[0] * values.shape[1]))
    return values, (order // columns.shape[1]) * w + columns.gather(1, order % columns.shape[1])


def _in_window(cells: Tensor, tile: Tile, w: int, window: Window) -> Tensor:
    """``[Q, k]`` bool: is the flat key cell inside the window of its query?"""
    qy = torch.arange(*tile.qy, device=cells.device)[:, None].expand(-1, tile.qx[1] - tile.qx[0]).reshape(-1, 1)
    qx = torch.arange(*tile.qx, device=cells.device).repeat(tile.qy[1] - tile.qy[0])[:, None]
    dy, dx = cells // w - qy, cells % w - qx
    if window.shape == "disc":
        return dy**2 + dx**2 < window.radius**2
    return (dy.abs() <= window.radius) & (dx.abs() <= window.radius)


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
    penalty: Tensor,
    best: Tensor,
    labels: Tensor,
    tile: Tile,
    selection: Selection,
) -> None:
    """Recompute, in place, the queries whose k-th candidate is tied with the next: all that reach it stay (DINO)."""
    k = selection.topk
    assert k is not None
    if best.shape[1] <= k:
        return
    tied = (best[:, k - 1] == best[:, k]).nonzero()[:, 0]
    if not len(tied):
        return
    kh, _n, kw, _ = sims.shape
    values = sims[..., tied] + penalty[tied].t().reshape(kh, 1, kw, -1)  # [kh, N, kw, M]
    keep = values >= best[tied, k - 1]
    weights = ((values - best[tied, 0]) / selection.temperature).exp_() * keep
    rect = labels[:, slice(*tile.ky), slice(*tile.kx)].transpose(0, 1)  # [kh, N, kw, K]
    total = weights.sum((0, 1, 2))[:, None]
    scores[tied] = weights.flatten(0, 2).t() @ rect.flatten(0, 2) / total
