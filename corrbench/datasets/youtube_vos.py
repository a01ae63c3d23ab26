"""The validation part of YouTube-VOS as it lies on disk.

``all_frames/valid_all_frames/JPEGImages/<video>/*.jpg`` (every frame; or ``valid_all_frames/...`` directly below the root, as the
official archive unpacks), ``valid/Annotations/<video>/*.png`` (the frames in which
objects start) and ``valid/JPEGImages/<video>/*.jpg`` (the frames that the server scores). Layout: Mask-Propagation
eval_youtube.py, dataset/yv_test_dataset.py; which frames go to the server: XMem eval.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corrbench.datasets.davis import IMAGES, MASKS, known_of
from corrbench.errors import Refusal, few, nearest
from corrbench.images import NOTHING_KNOWN, Known
from corrbench.reading import is_litter, list_files, what_lies_in

FRAMES, SCORED, ANNOTATIONS = "all_frames/valid_all_frames/JPEGImages", "valid/JPEGImages", "valid/Annotations"
UNPACKED = "valid_all_frames/JPEGImages"
"""Where all frames are when the official archive was unpacked at the root."""


def frames_below(root: Path) -> str:
    """The folder of all frames, relative to the root."""
    return UNPACKED if (root / UNPACKED).is_dir() and not (root / FRAMES).is_dir() else FRAMES


@dataclass(frozen=True)
class Video:
    """One video: all frames, where annotations are, and which frames the server wants."""

    name: str
    images: tuple[Path, ...]
    annotations: Mapping[int, Path]
    """By position in `images`."""
    scored: frozenset[str]
    """Frame names."""
    known: Known = NOTHING_KNOWN


@dataclass(frozen=True)
class YoutubeVos:
    """The videos that are measured, below `root`."""

    root: Path
    sequences: tuple[str, ...]
    known: Known = NOTHING_KNOWN
    """What the doctor recorded; a file that differs is refused when it is read."""

    def video(self, name: str) -> Video:
        """One video. Raises Refusal when a part is missing or an annotation or a scored frame is none of its frames."""
        images, annotations, scored = (
            self._files(kind, name, suffixes)
            for kind, suffixes in ((frames_below(self.root), IMAGES), (ANNOTATIONS, MASKS), (SCORED, IMAGES))
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
        names = frozenset(p.stem for p in scored)
        return Video(name, images, {at[p.stem]: p for p in annotations}, names, self.known)

    def _files(self, kind: str, name: str, suffixes: Sequence[str]) -> tuple[Path, ...]:
        folder = self.root / kind / name
        found = tuple(list_files(folder, suffixes))
        if not found:
            known = [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else []
            raise Refusal(
                f"{folder}: {what_lies_in(folder)}",
                expected=f"{kind} of the video {name}, files that end in {' or '.join(suffixes)}",
                do="complete the data set" + (f" ({nearest(name, known)})" if name not in known else ""),
            )
        if kind != SCORED:  # which frames are scored is in the fingerprint by name, their pictures are not read
            self.known.check_names(folder, [p.name for p in found], "inputs")
        return found


def open_youtube_vos(
    root: Path, row: Mapping[str, Any], sequences: Sequence[str], record: Mapping[str, Any] | None = None
) -> YoutubeVos:
    """The data of a benchmark row with ``dataset: youtube-vos`` below `root`; with the doctor's `record`, the files that it saw."""
    return YoutubeVos(Path(root), tuple(sequences), known_of(root, record))


def listed_videos(root: Path) -> list[str]:
    """The videos of the split: the folders of annotations, sorted. Empty where there is no data yet."""
    folder = root / ANNOTATIONS
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not is_litter(p.name)) if folder.is_dir() else []
