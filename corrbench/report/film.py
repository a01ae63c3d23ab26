"""Films: the masks of an entry over its videos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from corrbench.datasets.davis import Davis
from corrbench.errors import Refusal
from corrbench.files import atomic
from corrbench.images import NOTHING_KNOWN, Known
from corrbench.metrics.davis import frame_scores, read_prediction
from corrbench.report.overlays import overlay
from corrbench.report.pictures import Picture, caption

CODECS = {".mp4": "mp4v", ".webm": "VP80"}
"""By the end of the file's name: players show both, browsers show webm (and gif, which Pillow writes)."""


def film_frames(
    davis: Davis, name: str, masks: Path, *, width: int, single_object: bool, truth: bool, made: Known = NOTHING_KNOWN
) -> Iterator[Picture]:
    """Every frame of a sequence with the predicted mask, ``[H, width, 3]`` BGR; H and width even.

    With `truth`, frames that have an annotation show what is wrong, as `overlay` does, and the J&F of the frame.
    """
    sequence = davis.sequence(name)
    objects = int(sequence.first_annotation(single_object=single_object).max())
    for t, path in enumerate(sequence.images):
        image = sequence.image(t)
        place = masks / name / f"{path.stem}.png"
        if t in (0, len(sequence.images) - 1) and not place.exists():  # which are not scored, and may have no mask
            yield _captioned(image, width, f"{name} {path.stem}, no mask")
            continue
        guess = read_prediction(place, single_object=single_object, made=made)
        if guess.shape != image.shape[:2]:
            raise Refusal(
                f"{masks / name / path.stem}.png: {guess.shape[1]}x{guess.shape[0]} pixels",
                expected=f"{image.shape[1]}x{image.shape[0]}, the size of its frame",
                do="write masks at annotation size",
            )
        annotation = (
            sequence.annotation(t, single_object=single_object) if truth and t < len(sequence.annotations) else None
        )
        text = f"{name} {path.stem}"
        if annotation is not None:
            j, f = frame_scores(annotation, guess, objects)
            text += f"  J&F {50 * (np.mean(j) + np.mean(f)):.0f}"
        yield _captioned(overlay(image, guess, annotation), width, text)


def _captioned(picture: Picture, width: int, text: str) -> Picture:
    height = 2 * round(picture.shape[0] * width / picture.shape[1] / 2)  # codecs take even sizes only
    picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    caption(picture, text)
    return picture


def write_film(path: Path, frames: Iterator[Picture], fps: float) -> int:
    """Write frames as .mp4, .webm or .gif, atomically; returns their number. All have the size of the first, the others are fitted into it."""
    if path.suffix not in (*CODECS, ".gif"):
        raise Refusal(
            f"{path}: a film of the kind {path.suffix!r}",
            expected="a name that ends in .mp4, .webm or .gif",
            do="rename it",
        )
    with atomic(path) as temporary:
        place = temporary.with_name(temporary.name + path.suffix)  # the encoder goes by the end of the name
        try:
            count = _gif(place, frames, fps) if path.suffix == ".gif" else _video(place, frames, fps)
            place.replace(temporary)
        finally:
            place.unlink(missing_ok=True)
    return count


def _video(path: Path, frames: Iterator[Picture], fps: float) -> int:
    writer, count, size = None, 0, (0, 0)
    for frame in frames:
        if writer is None:
            size = (frame.shape[1], frame.shape[0])
            writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*CODECS[path.suffix]), fps, size)
            if not writer.isOpened():
                raise Refusal(
                    f"{path.suffix}: OpenCV has no encoder for it here",
                    expected="another kind of film",
                    do="write a .gif",
                )
        writer.write(_fitted(frame, size))
        count += 1
    if writer is not None:
        writer.release()
    return count


def _gif(path: Path, frames: Iterator[Picture], fps: float) -> int:
    pictures: list[Image.Image] = []
    for frame in frames:
        size = pictures[0].size if pictures else (frame.shape[1], frame.shape[0])
        rgb = np.ascontiguousarray(_fitted(frame, size)[:, :, ::-1])
        pictures.append(Image.fromarray(rgb).quantize(128, dither=Image.Dither.NONE))
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0, optimize=False
    )
    return len(pictures)


def _fitted(frame: Picture, size: tuple[int, int]) -> Picture:
    """A frame of another size in the middle of a black one: sequences differ in their aspect."""
    if (frame.shape[1], frame.shape[0]) == size:
        return frame
    scale = min(size[0] / frame.shape[1], size[1] / frame.shape[0])
    inner = cv2.resize(frame, (int(frame.shape[1] * scale), int(frame.shape[0] * scale)), interpolation=cv2.INTER_AREA)
    out = np.zeros((size[1], size[0], 3), np.uint8)
    y, x = (out.shape[0] - inner.shape[0]) // 2, (out.shape[1] - inner.shape[1]) // 2
    out[y : y + inner.shape[0], x : x + inner.shape[1]] = inner
    return out
