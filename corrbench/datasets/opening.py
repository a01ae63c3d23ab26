"""The data of a benchmark row, whatever its layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corrbench.datasets.davis import IMAGES, MASKS
from corrbench.datasets.otb import open_otb
from corrbench.datasets.youtube_vos import ANNOTATIONS, SCORED, frames_below, listed_videos
from corrbench.errors import Refusal, of_system
from corrbench.files import read_record
from corrbench.images import Kind
from corrbench.reading import is_litter, natural

__all__ = ["Kind", "data_files", "is_tracking", "is_youtube_vos", "read_findings", "whole_split"]


def is_tracking(row: Mapping[str, Any]) -> bool:
    """True for a benchmark of boxes, False for one of masks."""
    return row["dataset"] == "otb"


def is_youtube_vos(row: Mapping[str, Any]) -> bool:
    """True for YouTube-VOS, whose objects start in different frames."""
    return row["dataset"] == "youtube-vos"


def whole_split(row: Mapping[str, Any], root: Path) -> list[str]:
    """The sequences of a benchmark's split: those of its row, or for `listed` those that its data root lists."""
    return listed_videos(root) if row["sequences"] == "listed" else list(row["sequences"])


def data_files(root: Path, row: Mapping[str, Any], sequences: Sequence[str], kind: Kind) -> dict[str, Path]:
    """The files of a benchmark that its network (`inputs`: images, first annotations) or its metric reads, by name."""
    found: list[Path] = []
    if is_tracking(row):
        otb = open_otb(root, row, sequences)
        for name in sequences:
            try:
                annotation = otb.annotation(name)
            except Refusal:
                continue  # the doctor says what is missing
            found += [*(_present(annotation.parent / "img", IMAGES) if kind == "inputs" else []), annotation]
    elif is_youtube_vos(row):
        for name in sequences:
            for folder, suffixes in ((frames_below(root), IMAGES), (ANNOTATIONS, MASKS), (SCORED, IMAGES)):
                found += _present(root / folder / name, suffixes)
    else:
        images, masks = root / "JPEGImages" / row["resolution"], root / "Annotations" / row["resolution"]
        for name in sequences:
            annotations = _present(masks / name, MASKS)
            found += annotations if kind == "annotations" else [*_present(images / name, IMAGES), *annotations[:1]]
    return {path.relative_to(root).as_posix(): path for path in found}


def read_findings(path: Path) -> dict[str, Any]:
    """What the doctor wrote of a data set: settings, counts, fingerprint, and the hash of every file. Raises Refusal for any other file."""
    keys = ("row", "sequences", "label", "kind", "fingerprint", "counts", "files")
    return read_record(path, "inputs.json or annotations.json as scripts/doctor.py writes them", keys=keys)


def _present(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """What of a folder counts, whatever is wrong with it: planning leaves that to the doctor."""
    if not folder.is_dir():
        return []
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and not is_litter(p.name)]
    except OSError as error:
        raise of_system(error, folder) from error
    return sorted(found, key=lambda p: natural(p.stem))
