"""The feature grid cut into tiles of query cells with the key cells that each may look at, and threads to work on them."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from corrbench.propagation.protocol import Window

TILE = (12, 8)
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


def tile_size_for(device: torch.device) -> tuple[int, int]:
    return TILE_CUDA if device.type == "cuda" else TILE


def bands(tile: Tile, window: Window, h: int) -> list[Tile]:
    """Split a tile by key rows: those far above or below it are within reach of half of its queries only.

    Together the parts hold every allowed pair once; about an eighth of the products is saved.
    """
    half = (tile.qy[1] - tile.qy[0]) // 2
    near = reach(window) - half  # key rows farther than this from the tile are out of reach for the other half
    if half == 0 or near < 0:
        return [tile]
    top, bottom = max(tile.qy[0] - near, 0), min(tile.qy[1] + near, h)
    parts = [Tile(tile.qy, tile.qx, (top, bottom), tile.kx)]
    if tile.ky[0] < top:
        parts.append(Tile((tile.qy[0], tile.qy[0] + half), tile.qx, (tile.ky[0], top), tile.kx))
    if bottom < tile.ky[1]:
        parts.append(Tile((tile.qy[1] - half, tile.qy[1]), tile.qx, (bottom, tile.ky[1]), tile.kx))
    return parts


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
