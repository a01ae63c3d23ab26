"""DAVIS-2016 and DAVIS-2017 as they lie on disk, behind one small interface.

Layout: ``JPEGImages/480p/<sequence>/<frame>.jpg``, ``Annotations/480p/<sequence>/<frame>.png`` and
``ImageSets/2017/<split>.txt`` (one sequence per line) or ``ImageSets/480p/<split>.txt`` (one image-annotation pair per
line). test-dev has an annotation for the first frame only. The folder is never written to.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Names
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from corrbench.errors import Refusal, few, nearest
from corrbench.images import NOTHING_KNOWN, VOID, Kind, Known, Pixels, read_ids, read_image
from corrbench.reading import list_files, read_text, what_lies_in

IMAGES = (".jpg", ".jpeg", ".png")
MASKS = (".png",)


@dataclass(frozen=True)
class Sequence:
    """One video: its frames in order and the annotations that exist (all, or that of the first frame)."""

    name: str
    images: tuple[Path, ...]
    annotations: tuple[Path, ...]
    known: Known = NOTHING_KNOWN
    id_gaps: bool = False
    """True where the official first annotation leaves out ids."""

    @property
    def frames(self) -> list[str]:
        """Frame names (``00000``) in order."""
        return [path.stem for path in self.images]

    def image(self, t: int) -> Pixels:
        """Frame t, ``[H, W, 3]`` uint8 BGR. Raises Refusal as `read_image`."""
        return read_image(self.images[t], self.known)

    def annotation(self, t: int, *, single_object: bool = False) -> Pixels:
        """Annotation t, ``[H, W]`` uint8 ids. Raises Refusal as `read_annotation`."""
        return read_annotation(self.annotations[t], single_object=single_object, known=self.known)

    def first_annotation(self, *, single_object: bool = False) -> Pixels:
        """The annotation that is propagated, ``[H, W]`` uint8 ids. Raises Refusal when its ids are not 1 to K."""
        path = self.annotations[0]
        ids = read_ids(path, self.known)
        check_first_ids(path, ids, single_object=single_object, gaps=self.id_gaps)
        return objects_of(ids, single_object=single_object)


@dataclass(frozen=True)
class Davis:
    """A split of DAVIS-2016 or DAVIS-2017 below `root`."""

    root: Path
    year: int
    split: str
    resolution: str
    sequences: tuple[str, ...]
    """The sequences that are measured, in the order of the split."""
    annotated: bool = True
    """False for test-dev: only the first frame has an annotation."""
    known: Known = NOTHING_KNOWN
    """What the doctor recorded; a file that differs is refused when it is read."""
    id_gaps: tuple[str, ...] = ()
    """Sequences whose official first annotation leaves out ids."""

    @property
    def image_set(self) -> Path:
        """The file that lists the split."""
        folder = self.resolution if self.year == 2016 else str(self.year)
        return self.root / "ImageSets" / folder / f"{self.split}.txt"

    def listed(self) -> list[str]:
        """Sequence names of the split's list file, in its order. Raises Refusal when it is missing or no UTF-8 text."""
        if not self.root.is_dir():
            raise Refusal(
                f"{self.root}: no such folder",
                expected=f"the root of DAVIS-{self.year}",
                do="correct --root, or `data:` in the config",
            )
        if not self.image_set.is_file():
            raise Refusal(
                f"{self.image_set}: missing{other_layout(self.root, self.year, self.resolution)}",
                expected=f"the list of the {self.split} split",
                do="unpack the archive again, or correct the data root",
            )
        names = []
        for line in read_text(self.image_set).splitlines():
            if line.strip():
                # 2016 lists pairs of paths: the folder of the first one is the sequence
                names.append(Path(line.split()[0]).parent.name if self.year == 2016 else line.strip())
        return list(dict.fromkeys(names))

    def sequence(self, name: str) -> Sequence:
        """Frames and annotations of one sequence. Raises Refusal for a sequence that is missing or out of step."""
        images = self._files("JPEGImages", name, IMAGES, "inputs")
        annotations = self._files("Annotations", name, MASKS, "annotations")
        if self.annotated and [p.stem for p in images] != [p.stem for p in annotations]:
            lonely = sorted({p.stem for p in images} ^ {p.stem for p in annotations})
            raise Refusal(
                f"{name}: {len(images)} images and {len(annotations)} annotations; without partner: {few(lonely)}",
                expected="one annotation for every frame",
                do="unpack the archive again",
            )
        if annotations[0].stem != images[0].stem:
            raise Refusal(
                f"{name}: the first frame {images[0].stem} has no annotation",
                expected="an annotation of the first frame",
                do="unpack the archive again",
            )
        return Sequence(name, images, annotations, self.known, name in self.id_gaps)

    def _files(self, kind: str, name: str, suffixes: Names[str], covered: Kind) -> tuple[Path, ...]:
        folder = self.root / kind / self.resolution / name
        files = tuple(list_files(folder, suffixes))
        if not files:
            parent = folder.parent
            known = [p.name for p in parent.iterdir()] if parent.is_dir() else []
            there = what_lies_in(folder) if folder.is_dir() else "no such folder"
            if not parent.is_dir():
                there += other_layout(self.root, self.year, self.resolution)
            raise Refusal(
                f"{folder}: {there}",
                expected=f"the {kind} of sequence {name}, files that end in {' or '.join(suffixes)}",
                do="complete the data set" + (f" ({nearest(name, known)})" if name not in known else ""),
            )
        self.known.check_names(folder, [p.name for p in files], covered)
        return files


def open_davis(
    root: Path, row: Mapping[str, Any], sequences: Names[str], record: Mapping[str, Any] | None = None
) -> Davis:
    """A `Davis` from a resolved benchmark row (``config/benchmarks/``).

    `record` is what the doctor wrote (inputs.json or annotations.json): the files must then be those that it saw.
    """
    return Davis(
        root=Path(root),
        year=row["year"],
        split=row["split"],
        resolution=row["resolution"],
        sequences=tuple(sequences),
        annotated=row["scoring"] != "server",
        known=known_of(root, record),
        id_gaps=tuple(row.get("id_gaps", ())),
    )


def known_of(root: Path, record: Mapping[str, Any] | None) -> Known:
    """What a doctor's record says of the files below `root`; nothing without a record."""
    return NOTHING_KNOWN if record is None else Known(Path(root), record["files"], record["kind"])


def other_layout(root: Path, year: int, resolution: str) -> str:
    """What a folder looks like that is not laid out as this DAVIS, for a message: ``; this is DAVIS-2016``. Empty if unknown."""
    sets, images = root / "ImageSets", root / "JPEGImages"
    if year == 2017 and (sets / "480p").is_dir() and not (sets / "2017").is_dir():
        return "; this is DAVIS-2016 (it has ImageSets/480p and no ImageSets/2017): name a davis2016 benchmark, or the root of DAVIS-2017"
    if year == 2016 and (sets / "2017").is_dir() and not (sets / "480p").is_dir():
        return "; this is DAVIS-2017 (it has ImageSets/2017 and no ImageSets/480p): name a davis2017 benchmark, or the root of DAVIS-2016"
    if not images.is_dir() and root.name in ("JPEGImages", "Annotations", "ImageSets"):
        return f"; the root is the folder above: {root.resolve().parent}"
    if images.is_dir() and not (images / resolution).is_dir():
        return f"; {images} holds {what_lies_in(images)}, not {resolution}"
    if root.is_dir() and not images.is_dir():
        below = sorted(p.parent for p in root.glob("*/JPEGImages") if p.is_dir())
        if below:
            return f"; the data set lies one level deeper: its root is {below[0]}"
        return f"; {root} holds {what_lies_in(root)}"
    return ""


def check_first_ids(path: Path, ids: Pixels, *, single_object: bool, gaps: bool) -> None:
    """Raise Refusal when the ids of a first annotation are not what objects are numbered by: 1 to K without gaps.

    Other values mean that a palette image was stored as gray or that the edges were smoothed. A single object has one
    value above 0 (255 or 1), or the ids of several objects that count as one. `gaps`: the data set is known to leave out ids.
    """
    present = [int(v) for v in np.unique(ids) if v not in (0, VOID)]
    counted = present == list(range(1, len(present) + 1)) and not _smoothed(ids, present)
    alone = single_object and len(np.unique(ids[ids > 0])) == 1
    if counted or gaps or alone:
        return
    raise Refusal(
        f"{path}: the ids {few([str(v) for v in present], 8)} in the first annotation",
        expected="ids 1 to K without gaps"
        + (", or one value above 0" if single_object else "")
        + "; other values come from a palette stored as gray, or from smoothed edges",
        do="save the masks as palette PNGs with their ids; where a data set is known to leave out ids, name the sequence under `id_gaps:` of its benchmark row",
    )


MOST_IDS = 64
"""Ids up to here can be those of objects: no data set of video segmentation has as many in a video."""


def is_soft(ids: Pixels, *, single_object: bool) -> bool:
    """True for values that are no ids, as a resize or a network's probabilities make them along edges.

    They are several and reach beyond `MOST_IDS`; with several objects only those count that no pixel has inside its region.
    """
    present = [int(v) for v in np.unique(ids) if v and (single_object or v != VOID)]
    if len(present) < 2 or max(present) <= MOST_IDS:
        return False
    return single_object or _smoothed(ids, present)


def _smoothed(ids: Pixels, present: list[int]) -> bool:
    """True when most of the ids (of four or more) have no pixel inside their region: a resize made them up along edges."""
    if len(present) < 4 or min(ids.shape) < 3:
        return False
    h, w = ids.shape
    middle = ids[1:-1, 1:-1]
    inside = np.ones_like(middle, dtype=bool)
    for y in range(3):
        for x in range(3):
            inside &= ids[y : y + h - 2, x : x + w - 2] == middle
    return 2 * len(np.intersect1d(middle[inside], present)) < len(present)


def objects_of(ids: Pixels, *, single_object: bool) -> Pixels:
    """Object ids of stored values, ``[H, W]``. `single_object` (2016): everything above 0 is object 1; otherwise 255 is background."""
    if single_object:
        return (ids != 0).astype(np.uint8)
    return np.where(ids == VOID, 0, ids).astype(np.uint8)


def read_annotation(path: Path, *, single_object: bool = False, known: Known = NOTHING_KNOWN) -> Pixels:
    """``[H, W]`` uint8 object ids. `single_object` (2016): everything above 0 is object 1; otherwise 255 is background."""
    return objects_of(read_ids(path, known), single_object=single_object)
