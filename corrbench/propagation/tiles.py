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


@dataclass(frozen=True)
class Tile:
    """A rectangle of query cells and the rectangle of key cells that they may look at (both half open)."""

    qy: tuple[int, int]
    qx: tuple[int, int]
    ky: tuple[int, int]
    kx: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of query cells."""
        return self.qy[1] - self.qy[0], self.qx[1] - self.qx[0]


def tiles(h: int, w: int, reach: int, size: tuple[int, int], *, clip: bool) -> Iterator[Tile]:
    """Cut an ``h x w`` grid into tiles.

    `reach` is the largest displacement in cells. With `clip` key rectangles end at the map; without it they may
    begin at ``-reach``.
    """
    for x0 in range(0, w, size[1]):
        x1 = min(x0 + size[1], w)
        kx = (max(x0 - reach, 0), min(x1 + reach, w)) if clip else (x0 - reach, x1 + reach)
        for y0 in range(0, h, size[0]):
            y1 = min(y0 + size[0], h)
            ky = (max(y0 - reach, 0), min(y1 + reach, h)) if clip else (y0 - reach, y1 + reach)
            yield Tile((y0, y1), (x0, x1), ky, kx)


def reach(window: Window) -> int:
    """Largest displacement along one axis that the window admits, in cells."""
    return window.radius - 1 if window.shape == "disc" else window.radius


def inside(window: Window, dy: Tensor, dx: Tensor) -> Tensor:
    """Which displacements in cells the window admits; dy and dx broadcast."""
    if window.shape == "disc":
        return dy**2 + dx**2 < window.radius**2
    return (dy.abs() <= window.radius) & (dx.abs() <= window.radius)


@lru_cache(maxsize=512)
def _window_mask(window: Window, offset: int, qw: int, kw: int, device: torch.device) -> Tensor:
    r = reach(window)
    dy = torch.arange(-r, r + 1)[:, None]  # [S, 1]
    dx = torch.arange(qw)[:, None, None] + offset - torch.arange(kw)  # [qw, 1, kw]
    return (~inside(window, dy, dx)).flatten(1).to(device)


def window_mask(window: Window, tile: Tile, device: torch.device) -> Tensor:
    """``[qw, S*kw]`` bool, true outside the window: vertical displacements ``-r .. r`` times key columns."""
    kw = tile.kx[1] - tile.kx[0]
    return _window_mask(window, tile.qx[0] - tile.kx[0], tile.shape[1], kw, device)


@lru_cache(maxsize=512)
def _window_penalty(
    window: Window, offset: tuple[int, int], q: tuple[int, int], k: tuple[int, int], device: torch.device
) -> Tensor:
    dy = (torch.arange(q[0])[:, None] + offset[0]) - torch.arange(k[0])[None]  # [qh, kh]
    dx = (torch.arange(q[1])[:, None] + offset[1]) - torch.arange(k[1])[None]  # [qw, kw]
    allowed = inside(window, dy[:, None, :, None], dx[None, :, None, :])
    penalty = torch.zeros(allowed.shape).masked_fill_(~allowed, float("-inf"))
    return penalty.reshape(q[0] * q[1], k[0] * k[1]).to(device)


def window_penalty(window: Window, tile: Tile, device: torch.device) -> Tensor:
    """``[Q, R]``: 0 inside the window, -inf outside; equal tiles share one tensor."""
    offset = (tile.qy[0] - tile.ky[0], tile.qx[0] - tile.kx[0])
    k = (tile.ky[1] - tile.ky[0], tile.kx[1] - tile.kx[0])
    return _window_penalty(window, offset, tile.shape, k, device)


class Workspace:
    """Threads and reused memory of one propagation.

    On a CPU the tiles are shared out to threads that each compute with one core: the many small operations
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
