"""The validation part of YouTube-VOS as it lies on disk.

``all_frames/valid_all_frames/JPEGImages/<video>/*.jpg`` (every frame), ``valid/Annotations/<video>/*.png`` (the frames in which
objects start) and ``valid/JPEGImages/<video>/*.jpg`` (the frames that the server scores). Layout: Mask-Propagation
eval_youtube.py, dataset/yv_test_dataset.py; which frames go to the server: XMem eval.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corrbench.errors import Refusal, few, nearest

FRAMES, SCORED, ANNOTATIONS = "all_frames/valid_all_frames/JPEGImages", "valid/JPEGImages", "valid/Annotations"


@dataclass(frozen=True)
class Video:
    """One video: all frames, where annotations are, and which frames the server wants."""

    name: str
    images: tuple[Path, ...]
    annotations: Mapping[int, Path]
    """By position in `images`."""
    scored: frozenset[str]
    """Frame names."""


@dataclass(frozen=True)
class YoutubeVos:
    """The videos that are measured, below `root`."""

    root: Path
    sequences: tuple[str, ...]

    def video(self, name: str) -> Video:
        """One video. Raises Refusal when a part is missing or an annotation or a scored frame is none of its frames."""
        images, annotations, scored = (
            self._files(kind, name, suffix)
            for kind, suffix in ((FRAMES, ".jpg"), (ANNOTATIONS, ".png"), (SCORED, ".jpg"))
        )
        at = {path.stem: t for t, path in enumerate(images)}
        for kind, paths in (("annotations", annotations), ("scored frames", scored)):
            lost = [p.stem for p in paths if p.stem not in at]
            if lost:
                raise Refusal(
                    f"{name}: {kind} that are none of its {len(images)} frames: {few(lost)}",
                    expected="names of frames in all_frames",
                    do="unpack the archive of all frames again",
                )
        return Video(name, images, {at[p.stem]: p for p in annotations}, frozenset(p.stem for p in scored))

    def _files(self, kind: str, name: str, suffix: str) -> tuple[Path, ...]:
        folder = self.root / kind / name
        found = tuple(sorted(folder.glob(f"*{suffix}"))) if folder.is_dir() else ()
        if not found:
            known = [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else []
            raise Refusal(
                f"{folder}: no {suffix} files",
                expected=f"{kind} of the video {name}",
                do=f"complete the data set ({nearest(name, known)})",
            )
        return found


def open_youtube_vos(root: Path, row: Mapping[str, Any], sequences: Sequence[str]) -> YoutubeVos:
    """The data of a benchmark row with ``dataset: youtube-vos`` below `root`."""
    return YoutubeVos(Path(root), tuple(sequences))


def listed_videos(root: Path) -> list[str]:
    """The videos of the split: the folders of annotations, sorted. Empty where there is no data yet."""
    folder = root / ANNOTATIONS
    return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
