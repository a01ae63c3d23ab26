"""Tiny data sets made of moving textures, written in the official layouts: for the demo and for tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from corrbench.datasets.palette import save_mask
from corrbench.errors import Refusal
from corrbench.images import write_image
from corrbench.progress import Progress

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Mover:
    """One textured object: an ellipse or a box that moves, grows and turns."""

    number: int
    box: bool
    center: tuple[float, float]
    velocity: tuple[float, float]
    radius: tuple[float, float]
    growth: float
    spin: float
    leaves: int
    """Frame from which it is out of the picture (it moves out fast before); beyond the end: never."""
    texture: Frame


def texture(rng: np.random.Generator, size: int, tint: NDArray[np.float64]) -> Frame:
    """``[size, size, 3]`` BGR noise of two scales with a tint, so that cells can be told apart."""
    total = np.zeros((size, size, 3))
    for cells, strength in ((size // 24 + 2, 55.0), (size // 6 + 2, 40.0)):
        coarse = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        total += strength * cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(total + tint, 0, 255).astype(np.uint8)


def _movers(rng: np.random.Generator, objects: int, frames: int, height: int, width: int) -> list[Mover]:
    out = []
    for i in range(objects):
        side = height * rng.uniform(0.14, 0.22)
        x = width * (i + 0.7) / (objects + 0.4)
        y = height * rng.uniform(0.3, 0.7)
        # neighbors move towards each other, so they meet and occlude; the last object leaves the picture
        speed = width * rng.uniform(0.012, 0.02) * (1 if i % 2 == 0 else -1)
        leaves = int(frames * 0.75) if objects > 1 and i == objects - 1 else frames + 1
        tint = np.array([[50, 60, 210], [60, 200, 60], [215, 90, 50]][i % 3], np.float64)
        out.append(Mover(
            number=i + 1, box=bool(i % 2), center=(x, y), velocity=(speed, height * rng.uniform(-0.008, 0.008)),
            radius=(side, side * rng.uniform(0.6, 1.1)), growth=rng.uniform(0.985, 1.02), spin=rng.uniform(-3, 3),
            leaves=leaves, texture=texture(rng, 96, tint),
        ))  # fmt: skip
    return out


def _draw(image: Frame, ids: Frame, mover: Mover, t: int, frames: int) -> None:
    height, width = ids.shape
    scale = mover.growth**t
    x, y = mover.center[0] + mover.velocity[0] * t, mover.center[1] + mover.velocity[1] * t
    if mover.leaves <= frames:  # accelerate so that it is outside by then
        x += (width * 1.4) * (t / mover.leaves) ** 3
    angle = np.deg2rad(mover.spin * t)
    # texture coordinates of every pixel: one affine map carries the pattern with the object
    side = mover.texture.shape[0]
    ax, ay = mover.radius[0] * scale, mover.radius[1] * scale
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    u = ((xs - x) * np.cos(angle) + (ys - y) * np.sin(angle)) / ax
    v = (-(xs - x) * np.sin(angle) + (ys - y) * np.cos(angle)) / ay
    inside = (np.abs(u) < 1) & (np.abs(v) < 1) if mover.box else u**2 + v**2 < 1
    if not inside.any():
        return
    pattern = cv2.remap(
        mover.texture, ((u + 1) / 2 * (side - 1)).astype(np.float32), ((v + 1) / 2 * (side - 1)).astype(np.float32),
        cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip
    image[inside] = pattern[inside]
    ids[inside] = mover.number


def sequence_frames(seed: int, *, frames: int, height: int, width: int, objects: int) -> list[tuple[Frame, Frame]]:
    """One sequence as (image ``[H, W, 3]`` BGR, ids ``[H, W]``) pairs; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    wide = texture(rng, max(height, width) + 8 * frames, np.array([110.0, 120.0, 115.0]))
    movers = _movers(rng, objects, frames, height, width)
    out = []
    for t in range(frames):
        image = wide[2 * t : 2 * t + height, 3 * t : 3 * t + width].copy()  # the camera drifts
        ids = np.zeros((height, width), np.uint8)
        for mover in movers:
            _draw(image, ids, mover, t, frames)
        noise = rng.normal(0, 2.0, image.shape)
        out.append((np.clip(image + noise, 0, 255).astype(np.uint8), ids))
    return out


def write_videos(
    root: Path, *, videos: int, frames: int, height: int, width: int, seed: int = 0, fps: float = 24
) -> None:
    """Write ``video00.mp4``, ... of moving textures below `root`, for pretraining."""
    root.mkdir(parents=True, exist_ok=True)
    with Progress("synthetic videos", videos, unit="video") as bar:
        for i in range(videos):
            path = root / f"video{i:02d}.mp4"
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
            for image, _ in sequence_frames(
                1000 + seed + i, frames=frames, height=height, width=width, objects=1 + i % 3
            ):
                writer.write(image)
            writer.release()
            written = int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT))
            if written != frames:  # OpenCV says nothing
                raise Refusal(
                    f"{path}: {max(written, 0)} of {frames} frames were written",
                    expected="the whole video",
                    do="see whether the disk is full",
                )
            bar.advance(note=path.name)


def write_davis(
    root: Path, names: list[str], *, split: str, frames: int, height: int, width: int, seed: int = 0
) -> None:
    """Write DAVIS-2017-style data below `root`: sequence i has 1 + i mod 3 objects; occlusions, scaling, one that leaves."""
    (root / "ImageSets" / "2017").mkdir(parents=True, exist_ok=True)
    with Progress("synthetic", len(names), unit="sequence") as bar:
        for i, name in enumerate(names):
            images, annotations = root / "JPEGImages" / "480p" / name, root / "Annotations" / "480p" / name
            images.mkdir(parents=True, exist_ok=True)
            annotations.mkdir(parents=True, exist_ok=True)
            objects = 1 + (i + 2) % 3  # the first sequence shows everything: three objects
            pairs = sequence_frames(seed + i, frames=frames, height=height, width=width, objects=objects)
            for t, (image, ids) in enumerate(pairs):
                write_image(images / f"{t:05d}.jpg", image)
                save_mask(annotations / f"{t:05d}.png", ids)
            bar.advance(note=name)
    # the list last: a split that is listed is complete
    (root / "ImageSets" / "2017" / f"{split}.txt").write_text("\n".join(names) + "\n")


def write_clips(
    root: Path, *, videos: int, frames: int, height: int, width: int, seed: int = 0, static: bool = False
) -> None:
    """Write clips with masks in DAVIS-2017's layout, for training; `static`: their frames as single images with masks of 0 and 255."""
    if static:
        root.mkdir(parents=True, exist_ok=True)
        for i in range(videos):
            pairs = sequence_frames(4000 + seed + i, frames=frames, height=height, width=width, objects=1)
            for t, (image, ids) in enumerate(pairs):
                write_image(root / f"image{i:02d}_{t:02d}.jpg", image)
                write_image(root / f"image{i:02d}_{t:02d}.png", (ids > 0).astype(np.uint8) * 255)
        return
    names = [f"clip{i:02d}" for i in range(videos)]
    write_davis(root, names, split="train", frames=frames, height=height, width=width, seed=3000 + seed)
