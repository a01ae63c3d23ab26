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

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from corrbench.propagation.protocol import Selection, Window

TILE = (8, 8)
"""Query cells per tile (rows, columns); a good compromise on CPUs between waste at the rim and matrix size."""
TILE_CUDA = (16, 32)


@dataclass(frozen=True)
class Tile:
    """A rectangle of query cells and the rectangle of key cells that they may look at (both half open)."""

    qy: tuple[int, int]
    qx: tuple[int, int]
    ky: tuple[int, int]
    kx: tuple[int, int]


def tiles(h: int, w: int, reach: int, size: tuple[int, int], *, clip: bool) -> Iterator[list[Tile]]:
    """Cut an ``h x w`` grid into columns of tiles; yield each column, so that its keys are gathered once.

    `reach` is the largest displacement in cells. With `clip` key rectangles end at the map; without it they may
    begin at ``-reach``.
    """
    for x0 in range(0, w, size[1]):
        x1 = min(x0 + size[1], w)
        kx = (max(x0 - reach, 0), min(x1 + reach, w)) if clip else (x0 - reach, x1 + reach)
        column = []
        for y0 in range(0, h, size[0]):
            y1 = min(y0 + size[0], h)
            ky = (max(y0 - reach, 0), min(y1 + reach, h)) if clip else (y0 - reach, y1 + reach)
            column.append(Tile((y0, y1), (x0, x1), ky, kx))
        yield column


def reach(window: Window) -> int:
    """Largest displacement along one axis that the window admits, in cells."""
    return window.radius - 1 if window.shape == "disc" else window.radius


@lru_cache(maxsize=512)
def _window_penalty(
    shape: str,
    radius: int,
    offset: tuple[int, int],
    q: tuple[int, int],
    k: tuple[int, int],
    device: torch.device,
) -> Tensor:
    """``[Q, R]``: 0 inside the window, -inf outside. `offset` is the first query cell seen from the first key cell."""
    dy = (torch.arange(q[0])[:, None] + offset[0]) - torch.arange(k[0])[None]  # [qh, kh]
    dx = (torch.arange(q[1])[:, None] + offset[1]) - torch.arange(k[1])[None]  # [qw, kw]
    dy, dx = dy[:, None, :, None], dx[None, :, None, :]
    allowed = dy**2 + dx**2 < radius**2 if shape == "disc" else (dy.abs() <= radius) & (dx.abs() <= radius)
    penalty = torch.zeros(allowed.shape).masked_fill_(~allowed, float("-inf"))
    return penalty.reshape(q[0] * q[1], k[0] * k[1]).to(device)


def window_penalty(window: Window, tile: Tile, device: torch.device) -> Tensor:
    """``[Q, R]`` penalty of one tile; equal tiles share one tensor."""
    offset = (tile.qy[0] - tile.ky[0], tile.qx[0] - tile.kx[0])
    q = (tile.qy[1] - tile.qy[0], tile.qx[1] - tile.qx[0])
    k = (tile.ky[1] - tile.ky[0], tile.kx[1] - tile.kx[0])
    return _window_penalty(window.shape, window.radius, offset, q, k, device)


def _tile_size(device: torch.device) -> tuple[int, int]:
    return TILE_CUDA if device.type == "cuda" else TILE


class Workspace:
    """Threads and reused memory of one propagation.

    On a CPU the columns of tiles are shared out to threads that each compute with one core: the many small operations
    then keep every core busy, not only the matrix products. Asking the system for fresh pages for each intermediate
    would cost a tenth of the time, so every thread keeps its own. Close it, or use it as a context manager.
    """

    def __init__(self, device: torch.device, threads: int | None = None) -> None:
        threads = threads or torch.get_num_threads()
        self._local = threading.local()
        self._pool: ThreadPoolExecutor | None = None
        if device.type == "cpu" and threads > 1:
            # the setting is per thread: it holds for the workers and leaves the caller's as it was
            self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    def each(self, work: Callable[[Any], None], items: Iterable[Any]) -> None:
        """Call `work` on every item; an error in a thread is raised here."""
        if self._pool is None:
            for item in items:
                work(item)
        else:
            list(self._pool.map(torch.inference_mode()(work), items))

    def take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """An uninitialised tensor of `shape` with the type and device of `like`; valid until `name` is taken again."""
        memory = self._local.__dict__.setdefault("memory", {})
        size = math.prod(shape)
        if name not in memory or memory[name].numel() < size or memory[name].dtype != like.dtype:
            memory[name] = like.new_empty(size)
        return memory[name][:size].view(shape)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


# ---------------------------------------------------------------------------------------------- joint top-k (CRW, VFS, DINO)


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

    query ``[h, w, C]``; keys ``[h, N, w, C]`` (frames lie inside rows, so that the rectangle of a tile is one batch of
    matrices without a copy); labels ``[N, h, w, K]`` float32; `copies[n]` says how often frame n counts. A kept
    candidate counts as often as it is present, until k are used. Returns ``[h, w, K]`` float32. Source: CRW
    ``mem_efficient_batched_affinity``, VFS ``masked_attention_efficient``, DINO ``label_propagation``.
    """
    assert selection.topk is not None
    k = selection.topk
    workspace = workspace or Workspace(query.device, threads=1)
    h, n, w, _ = keys.shape
    if window.shape == "none":  # every frame is exempt
        exempt = [*exempt, *(Exempt(keys[:, i], labels[i], copies[i], 0) for i in range(n))]
        n = 0
    keys = keys.contiguous()
    flat_labels = torch.cat([labels[:n].flatten(0, 2), *(e.labels.flatten(0, 1) for e in exempt)])
    counts = torch.tensor(copies, device=query.device)
    out = flat_labels.new_empty(h, w, flat_labels.shape[1])

    def work(column: list[Tile]) -> None:
        qx, kx = slice(*column[0].qx), slice(*column[0].kx)
        width, key_width = qx.stop - qx.start, kx.stop - kx.start
        wide = query[:, qx].flatten(0, 1)  # all queries of the column: large products for the exempt frames
        searched = []
        for frame in exempt:
            far = workspace.take("far", query, h * w, len(wide))
            torch.mm(frame.keys.flatten(0, 1), wide.t(), out=far)
            searched.append(_best_anywhere(far.float().view(h, w, -1), k))
        for tile in column:
            q = query[slice(*tile.qy), qx].flatten(0, 1)  # [Q, C]
            found: list[tuple[Tensor, Tensor, Tensor]] = []  # values, flat label rows, counts: each [Q, <=k]
            if n:
                rect = keys[slice(*tile.ky)].flatten(0, 1)[:, kx]  # [kh*N, kw, C], a view
                product = workspace.take("near", query, len(rect), key_width, len(q))
                torch.bmm(rect, q.t().expand(len(rect), -1, -1), out=product)
                sims = product.float().view(-1, n, key_width, len(q))  # [kh, N, kw, Q]
                penalty = window_penalty(window, tile, query.device)
                found.append(_best_in_window(sims, penalty, tile, (h, w), selection, counts))
            rows = slice(tile.qy[0] * width, tile.qy[1] * width)
            for i, (frame, (values, cells)) in enumerate(zip(exempt, searched, strict=True)):
                present = torch.full_like(cells[rows], frame.everywhere)
                if frame.inside:
                    present += frame.inside * _in_window(cells[rows], tile, w, window)
                found.append((values[rows], cells[rows] + (n + i) * h * w, present))
            scores = _weigh(found, flat_labels, selection)
            if selection.keep_ties and n:
                _readd_ties(scores, sims, penalty, found[0][0], labels, tile, selection)
            out[slice(*tile.qy), qx] = scores.view(-1, width, scores.shape[1])

    workspace.each(work, tiles(h, w, reach(window), tile_size or _tile_size(query.device), clip=True))
    return out


def _best_in_window(
    sims: Tensor, penalty: Tensor, tile: Tile, grid: tuple[int, int], selection: Selection, copies: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The best candidates of ``sims [kh, N, kw, Q]``: values, flat label rows and counts, each ``[Q, k']``, best first.

    The k best lie at the k key cells whose best frame is best, so the expensive selection runs over R instead of N*R
    numbers, and the window is applied once instead of N times. penalty ``[Q, R]``.
    """
    assert selection.topk is not None
    kh, n, kw, q = sims.shape
    h, w = grid
    k = min(selection.topk + selection.keep_ties, kh * kw)  # one more shows whether the k-th is tied
    best = sims.amax(1).view(kh * kw, q).t() + penalty  # [Q, R]
    cells = best.topk(k).indices  # [Q, k]
    y, x = cells // kw, cells % kw
    frames = torch.arange(n, device=sims.device)[:, None, None]
    flat = ((y * n + frames) * kw + x) * q + torch.arange(q, device=sims.device)[:, None]  # [N, Q, k]
    values = sims.view(-1)[flat] + penalty.gather(1, cells)
    values, order = values.permute(1, 0, 2).reshape(q, -1).topk(min(k, n * k))
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


def _weigh(found: list[tuple[Tensor, Tensor, Tensor]], labels: Tensor, selection: Selection) -> Tensor:
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


# -------------------------------------------------------------------------------------- softmax over the window (MAST, LIIR)


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
    size, radius = tile_size or _tile_size(query.device), window.radius
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

    def work(column: list[Tile]) -> None:
        kx = slice(column[0].kx[0] + radius, column[0].kx[1] + radius)
        strip = torch.stack([k[:, kx] for k in plain_keys]) if plain else None
        label_strip = torch.stack([m[:, kx] for m in plain_labels]) if plain else None
        for tile in column:
            q = query[slice(*tile.qy), slice(*tile.qx)].flatten(0, 1)
            blocks: list[_Block] = []
            if strip is not None and label_strip is not None:
                ky = slice(tile.ky[0] + radius, tile.ky[1] + radius)
                rect = strip[:, ky].flatten(1, 2)
                logits = torch.bmm(q.expand(len(plain), -1, -1), rect.transpose(1, 2)).float() / tau
                logits += window_penalty(window, tile, query.device)
                blocks.append(_Rectangle(logits, label_strip[:, ky], tile, radius))
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
            out[slice(*tile.qy), slice(*tile.qx)] = scores.view(tile.qy[1] - tile.qy[0], tile.qx[1] - tile.qx[0], -1)

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
        qh, qw = self.tile.qy[1] - self.tile.qy[0], self.tile.qx[1] - self.tile.qx[0]
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
            for column in tiles(sub_query.shape[0], sub_query.shape[1], radius, tile_size, clip=False):
                for tile in column:
                    q = sub_query[slice(*tile.qy), slice(*tile.qx)].flatten(0, 1)
                    ky = slice(tile.ky[0] + radius, tile.ky[1] + radius)
                    rect = padded[ky, tile.kx[0] + radius : tile.kx[1] + radius]
                    kh, kw, _ = rect.shape
                    logits = (q @ rect.flatten(0, 1).t()).float() / tau
                    weights = (logits + window_penalty(window, tile, query.device)).softmax(1).view(-1, kh, kw)
                    qh, qw = tile.qy[1] - tile.qy[0], tile.qx[1] - tile.qx[0]
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
    qh, qw = tile.qy[1] - tile.qy[0], tile.qx[1] - tile.qx[0]
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
