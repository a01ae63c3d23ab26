"""One reader of the frames of indexed videos, from folders of images or from video files.

The index is a table ``video,frames,fps,width,height,first``; `video` is the path of a frame folder or a video file below a root.
fps is 0 where nobody knows it (frame folders); `first` is the number of the first ``%05d.jpg``, -1 where files are named
otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
from numpy.typing import NDArray

from corrbench.datasets.frame_folders import known_note
from corrbench.datasets.index import Table
from corrbench.errors import Refusal, of_system
from corrbench.images import check_ending, decode_image
from corrbench.reading import list_files, read_bytes

Frame = NDArray[Any]
"""``[H, W, 3]`` uint8 BGR."""
Kind = Literal["videos", "frames"]
IMAGES = (".jpg", ".jpeg", ".png")
AGAIN = "make the index again (python -m scripts.frames)"


@dataclass(frozen=True)
class Video:
    """One row of the index."""

    video: str
    frames: int
    fps: float
    width: int
    height: int
    first: int = 0


class Index(Table[Video]):
    """The videos of a data set."""

    row = Video
    least = {"frames": 1, "width": 1, "height": 1, "first": -1}  # noqa: RUF012
    once = "video"


@dataclass(frozen=True)
class Reader:
    """Frames of indexed videos, from folders of images or from video files."""

    root: Path
    index: Index
    kind: Kind

    def read(self, video: int, numbers: Sequence[int]) -> list[Frame]:
        """Frames ``[H, W, 3]`` uint8 BGR with these numbers, counted from 0.

        Raises Refusal for what cannot be read, what is not the frame that was extracted, and another size than the index's.
        """
        row = self.index.videos[video]
        path = self.root / row.video
        try:
            found = read_video(path, numbers) if self.kind == "videos" else self._read_folder(row, path, numbers)
        except OSError as error:
            raise of_system(error, path) from error
        except cv2.error as error:
            raise Refusal(f"{path}: {error}", expected="readable frames", do="check the file system") from error
        for number, image in zip(numbers, found, strict=True):
            if image.shape[:2] != (row.height, row.width):
                raise Refusal(
                    f"{path}: frame {number} has {image.shape[1]}x{image.shape[0]} pixels",
                    expected=f"{row.width}x{row.height}, as the index says",
                    do=f"put the frames of the index back, or {AGAIN}",
                )
        return found

    def _read_folder(self, row: Video, path: Path, numbers: Sequence[int]) -> list[Frame]:
        note = known_note(self.root, path)
        # no listing where the names are known: on network file systems it costs more than the images
        names = listing(path) if row.first < 0 else None
        there = len(note.crcs) if note is not None else row.frames if names is None else len(names)
        if max(numbers) >= there or (note is not None and there != row.frames):
            raise Refusal(
                f"{path}: {there} frames, number {max(numbers)} is asked for",
                expected=f"{row.frames} frames, as the index says",
                do=AGAIN,
            )
        found = []
        for number in numbers:
            file = path / (f"{row.first + number:05d}.jpg" if names is None else names[number])
            data = read_bytes(file)
            if note is not None:
                note.check(file, number, data)
            else:
                check_ending(file, data)
            found.append(decode_image(file, data, rotation=False))
        return found


@lru_cache(maxsize=4096)
def listing(folder: Path) -> list[str]:
    return [p.name for p in list_files(folder, IMAGES)]


def read_video(path: Path, numbers: Sequence[int]) -> list[Frame]:
    capture = cv2.VideoCapture(str(path))
    try:
        found: dict[int, Frame] = {}
        at = 0
        for number in sorted(set(numbers)):
            if number != at:
                capture.set(cv2.CAP_PROP_POS_FRAMES, number)
            read, image = capture.read()
            if not read:
                raise Refusal(f"{path}: frame {number} cannot be decoded", expected="a whole video", do=AGAIN)
            found[number], at = image, number + 1
        return [found[n] for n in numbers]
    finally:
        capture.release()
