"""DAVIS-2016 and DAVIS-2017 as they lie on disk, behind one small interface.

Layout: ``JPEGImages/480p/<sequence>/<frame>.jpg``, ``Annotations/480p/<sequence>/<frame>.png`` and
``ImageSets/2017/<split>.txt`` (one sequence per line) or ``ImageSets/480p/<split>.txt`` (one image-annotation pair per
line). test-dev has an annotation for the first frame only. The folder is never written to.
"""

from __future__ import annotations

from collections.abc import Sequence as Names
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from corrbench.errors import Refusal, few, nearest

Pixels = NDArray[np.uint8]
VOID = 255


@dataclass(frozen=True)
class Sequence:
    """One video: its frames in order and the annotations that exist (all, or that of the first frame)."""

    name: str
    images: tuple[Path, ...]
    annotations: tuple[Path, ...]

    @property
    def frames(self) -> list[str]:
        """Frame names (``00000``) in order."""
        return [path.stem for path in self.images]


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

    @property
    def image_set(self) -> Path:
        """The file that lists the split."""
        folder = self.resolution if self.year == 2016 else str(self.year)
        return self.root / "ImageSets" / folder / f"{self.split}.txt"

    def listed(self) -> list[str]:
        """Sequence names of the split's list file, in its order. Raises Refusal when it is missing."""
        if not self.root.is_dir():
            raise Refusal(
                f"{self.root}: no such folder",
                expected=f"the root of DAVIS-{self.year}",
                do="correct --root, or `data:` in the config",
            )
        if not self.image_set.is_file():
            raise Refusal(
                f"{self.image_set}: missing",
                expected=f"the list of the {self.split} split",
                do="unpack the archive again, or correct the data root",
            )
        names = []
        for line in self.image_set.read_text().splitlines():
            if line.strip():
                # 2016 lists pairs of paths: the folder of the first one is the sequence
                names.append(Path(line.split()[0]).parent.name if self.year == 2016 else line.strip())
        return list(dict.fromkeys(names))

    def sequence(self, name: str) -> Sequence:
        """Frames and annotations of one sequence. Raises Refusal for a sequence that is missing or out of step."""
        images = self._files("JPEGImages", name, ".jpg")
        annotations = self._files("Annotations", name, ".png")
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
        return Sequence(name, images, annotations)

    def _files(self, kind: str, name: str, suffix: str) -> tuple[Path, ...]:
        folder = self.root / kind / self.resolution / name
        files = tuple(sorted(folder.glob(f"*{suffix}"))) if folder.is_dir() else ()
        if not files:
            parent = folder.parent
            known = [p.name for p in parent.iterdir()] if parent.is_dir() else []
            raise Refusal(
                f"{folder}: no {suffix} files",
                expected=f"the {kind} of sequence {name}",
                do=f"complete the data set ({nearest(name, known)})",
            )
        return files


def open_davis(root: Path, row: dict[str, Any], sequences: Names[str]) -> Davis:
    """A `Davis` from a resolved benchmark row (``config/benchmarks/``)."""
    return Davis(
        root=Path(root),
        year=row["year"],
        split=row["split"],
        resolution=row["resolution"],
        sequences=tuple(sequences),
        annotated=row["scoring"] != "server",
    )


def read_image(path: Path) -> Pixels:
    """``[H, W, 3]`` uint8 BGR, decoded by OpenCV as all the reference codes do. Raises Refusal when unreadable."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise Refusal(f"{path}: unreadable image", expected="a JPEG that decodes", do="unpack the archive again")
    return image.astype(np.uint8, copy=False)


def read_ids(path: Path) -> Pixels:
    """``[H, W]`` uint8 pixel values of an id image as stored. Raises Refusal when unreadable or in colour."""
    try:
        with Image.open(path) as image:
            ids = np.array(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise Refusal(
            f"{path}: unreadable mask ({error})",
            expected="a PNG that decodes",
            do="unpack the archive, or write the mask, again",
        ) from error
    if ids.ndim != 2:
        raise Refusal(
            f"{path}: an image of {ids.shape[2]} channels",
            expected="one channel of object ids",
            do="save masks as palette or grey PNG",
        )
    if ids.dtype != bool and (ids.min() < 0 or ids.max() > 255):
        raise Refusal(
            f"{path}: object id {ids.max()}", expected="ids up to 255", do="save masks as 8-bit palette or grey PNG"
        )
    return ids.astype(np.uint8)


def read_annotation(path: Path, *, single_object: bool = False) -> Pixels:
    """``[H, W]`` uint8 object ids. `single_object` (2016): everything above 0 is object 1; otherwise 255 is background."""
    ids = read_ids(path)
    if single_object:
        return (ids != 0).astype(np.uint8)
    ids[ids == VOID] = 0
    return ids
