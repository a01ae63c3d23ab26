"""A video in memory or in a folder, for callers that have no data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from corrbench.datasets.davis import IMAGES
from corrbench.errors import Refusal
from corrbench.images import Pixels, read_ids, read_image
from corrbench.reading import list_files, what_lies_in


class Video(Protocol):
    """What propagation asks of a video."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def images(self) -> Sequence[Any]:
        """One for each frame, in order; for messages."""

    def image(self, t: int) -> Pixels:
        """Frame t, ``[H, W, 3]`` uint8 BGR."""

    def first_annotation(self, *, single_object: bool = False) -> Pixels:
        """The mask that is propagated, ``[H, W]`` uint8 ids."""


@dataclass(frozen=True)
class Clip:
    """Frames and the mask of the first one, as `corrbench.propagate` takes them."""

    images: tuple[Any, ...]
    """Paths, or ``[H, W, 3]`` uint8 RGB arrays."""
    mask: Pixels
    """``[H, W]`` uint8 ids."""
    name: str = "clip"

    def image(self, t: int) -> Pixels:
        """Frame t, ``[H, W, 3]`` uint8 BGR."""
        frame = self.images[t]
        if isinstance(frame, np.ndarray):
            return np.ascontiguousarray(frame[:, :, ::-1])
        return read_image(Path(frame))

    def first_annotation(self, *, single_object: bool = False) -> Pixels:
        """The mask of the first frame."""
        return (self.mask > 0).astype(np.uint8) if single_object else self.mask


def clip_of(frames: Path | str | Sequence[Any], mask: Path | str | NDArray[Any]) -> Clip:
    """A `Clip` of a folder of images, or of paths or arrays. Raises Refusal for what cannot be frames or a mask."""
    if isinstance(frames, str | Path):
        folder = Path(frames)
        images: tuple[Any, ...] = tuple(list_files(folder, IMAGES)) if folder.is_dir() else ()
        if not images:
            raise Refusal(
                f"{folder}: {what_lies_in(folder)}",
                expected=f"a folder of frames, files that end in {', '.join(IMAGES)}",
                do="name the folder of one video",
            )
    else:
        images = tuple(frames)
    if not images:
        raise Refusal("no frames", expected="at least one", do="give the frames of a video")
    for t, frame in enumerate(images):
        if isinstance(frame, str | Path):
            continue
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            said = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise Refusal(
                f"frame {t}: {said}", expected="paths, or uint8 arrays [height, width, 3] in RGB", do="convert it"
            )
    ids = read_ids(Path(mask)) if isinstance(mask, str | Path) else np.asarray(mask)
    if ids.ndim != 2 or ids.dtype.kind not in "bui" or (ids.size and (ids.min() < 0 or ids.max() > 254)):
        raise Refusal(
            f"first_mask: {ids.dtype} {ids.shape}, values up to {ids.max() if ids.size else 0}",
            expected="object ids from 0 (background) to 254, [height, width]",
            do="give one id for each pixel",
        )
    return Clip(images, ids.astype(np.uint8))
