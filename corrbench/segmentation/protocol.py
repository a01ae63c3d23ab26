"""Rules of mask propagation, from a row of ``config/segmentation/``: what is remembered and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from corrbench.files import digest
from corrbench.neutral import stated


@dataclass(frozen=True)
class MaskPropagation:
    """Rules of a row of the table for an STM network (Mask-Propagation inference_core.py, eval_*.py)."""

    name: str
    every: int
    """Frames between those that are remembered for good; the previous frame is remembered besides."""
    top_k: int | None
    """Memory cells that a query cell reads; None: all."""
    sigma: float | None
    """Width in cells of the kernel around the place that suits a memory cell best; None: no kernel."""
    memory_frames: int
    """Frames remembered at most: beyond it the oldest leaves, annotated frames never. The reference has no bound."""
    size: Literal["native", "short_side"]
    """`short_side`: images are normalized, then resized bicubically to a short side of 480 (YouTube-VOS)."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> MaskPropagation:
        """The rules of a checked row."""
        return cls(**{k: row[k] for k in ("name", "every", "top_k", "sigma", "memory_frames", "size")})

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> MaskPropagation:
        """What `settings` gave."""
        return cls(name="", **settings)

    @property
    def copy(self) -> bool:
        """Never: a network takes part."""
        return False

    def settings(self) -> dict[str, Any]:
        """Everything that decides the numbers, as plain data."""
        return {k: v for k, v in stated(self).items() if k != "name"}

    @property
    def hash(self) -> str:
        """12 hex digits over `settings`; the name is no part of it."""
        return digest(self.settings())
