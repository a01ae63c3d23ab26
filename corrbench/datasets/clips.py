"""Annotated clips and images for training on masks: DAVIS, YouTube-VOS, BL30K, static images; or a mixture of them.

The index is a table ``images,masks,frames,spacing``: for a clip the folders of its images and masks below a root, for a static
image the two files (frames 1). An entry that counts several times stands there as often.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from corrbench.datasets.index import Table
from corrbench.datasets.source import find, said
from corrbench.datasets.video_reader import IMAGES
from corrbench.errors import Refusal, few, of_system
from corrbench.images import check_ending, check_picture, decode_ids
from corrbench.progress import Progress
from corrbench.reading import is_litter, list_files, read_bytes, read_text


@dataclass(frozen=True)
class Clip:
    """One row of the index."""

    images: str
    masks: str
    frames: int
    spacing: int
    """Frames of the original video between two of these: 5 in YouTube-VOS."""


class ClipIndex(Table[Clip]):
    """The clips of a data set."""

    row = Clip
    least = {"frames": 1, "spacing": 1}  # noqa: RUF012


@dataclass(frozen=True)
class ClipReader:
    """Images and masks of indexed clips."""

    root: Path
    index: ClipIndex

    def read(self, clip: int, number: int) -> tuple[Image.Image, Image.Image]:
        """Frame and mask, counted from 0: RGB and the stored values (ids, or gray for static images).

        Raises Refusal for a file that is missing or cannot be read, and for values of a mask that are no ids.
        """
        row = self.index.videos[clip]
        image, mask = self.root / row.images, self.root / row.masks
        single = image.suffix.lower() in IMAGES
        if not single:
            image, mask = _frame(image, row, number), _frame(mask, row, number)
        picture = _picture(image)
        ids = _gray(mask) if single else Image.fromarray(decode_ids(mask, read_bytes(mask)))
        if single and 0 < (brightest := np.array(ids).max()) < 128:
            raise Refusal(
                f"{mask}: no gray value above {brightest}, which is background all over",
                expected="0 and 255 (values above 127 are the object)",
                do="store the mask as black and white",
            )
        if ids.size != picture.size or ids.mode != "L":
            raise Refusal(
                f"{mask}: {ids.size} in mode {ids.mode}",
                expected=f"one channel of {picture.size}",
                do="unpack it again",
            )
        return picture, ids


def _frame(folder: Path, row: Clip, number: int) -> Path:
    names = _listing(folder)
    if len(names) != row.frames or number >= len(names):
        raise Refusal(
            f"{folder}: {len(names)} images, number {number} is asked for",
            expected=f"{row.frames}, as in the index",
            do="complete the clip, or make the index again",
        )
    return folder / names[number]


def _picture(path: Path) -> Image.Image:
    data = read_bytes(path)
    check_ending(path, data)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return opened.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise Refusal(f"{path}: {error}", expected="an image", do="unpack it again") from error


def _gray(path: Path) -> Image.Image:
    """The mask of a single image. They come as gray, RGB, palette or one bit: their gray value counts."""
    data = read_bytes(path)
    check_picture(path, data, rotation=False)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            if opened.mode[0] in "IF" and np.array(opened).max(initial=0) > 255:
                raise Refusal(
                    f"{path}: a gray value of {np.array(opened).max()}",
                    expected="values up to 255",
                    do="store the mask with 8 bits",
                )
            return opened.convert("L")
    except (OSError, ValueError, SyntaxError) as error:
        raise Refusal(f"{path}: {error}", expected="a mask of one channel", do="unpack it again") from error


@lru_cache(maxsize=8192)
def _listing(folder: Path) -> list[str]:
    return [p.name for p in list_files(folder, IMAGES)]


def _stems(folder: Path) -> list[str]:
    return [Path(name).stem for name in _listing(folder)]


def link_roots(folder: Path, roots: Mapping[str, Path]) -> None:
    """Links below `folder` to the roots by name, so that one folder holds a mixture. Several processes may do it at once."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, root in roots.items():
        link = folder / name
        if not root.is_dir():
            raise Refusal(f"{root}: no such folder", expected=f"the root of {name}", do="correct the data root")
        if link.exists() and not link.is_symlink():
            raise Refusal(f"{link}: no link", expected=f"a link to {root}, or nothing", do="move it elsewhere")
        if not link.is_symlink() or link.resolve() != root.resolve():
            temporary = folder / f".{name}.{os.getpid()}.tmp"
            try:
                temporary.unlink(missing_ok=True)
                temporary.symlink_to(root.resolve())
                os.replace(temporary, link)
            except OSError as error:
                raise of_system(error, link) from error


def build_clip_index(parts: Sequence[Mapping[str, Any]], roots: Mapping[str, Path], own: str, out: Path) -> ClipIndex:
    """The clips of all parts. Links to the roots appear below `out`, so that one folder holds a mixture.

    A part: `data` (key in `roots`; default `own`), `images` (a glob of folders or files), `masks` (the same with the folder of masks in place of
    `replace`), `list` (a file of names), `spacing`, `repeat`. Raises Refusal for a part without clips and for masks that are missing.
    """
    link_roots(out, {part.get("data") or own: roots[part.get("data") or own] for part in parts})
    found: list[Clip] = []
    with Progress("index", len(parts), unit="part") as bar:
        for part in parts:
            key = part.get("data") or own
            found += list(_clips(part, roots[key], key)) * part["repeat"]
            bar.advance(note=str(part["images"]))
    return ClipIndex(tuple(found))


def _clips(part: Mapping[str, Any], root: Path, key: str) -> Iterable[Clip]:
    names = None
    if part.get("list"):
        path = root / part["list"]
        if not path.is_file():
            raise Refusal(f"{path}: missing", expected="a list of clips, one per line", do="complete the data set")
        names = set(read_text(path).split())
    old, new = part["replace"]
    clips, lost = [], []
    fitting = [p for p in find(root, part["images"]) if not is_litter(p.name)]
    if names is not None and (absent := sorted(names - {p.name for p in fitting})):
        raise Refusal(
            f"{root}: {len(absent)} of {len(names)} clips of {part['list']} are missing: {few(absent)}",
            expected=f"a folder that fits {said(part['images'])} for every name of the list",
            do="complete the data set, or give a part of it a row with a list of its own",
        )
    for image in fitting:
        if (names is not None and image.name not in names) or (image.is_file() and image.suffix.lower() not in IMAGES):
            continue
        relative = image.relative_to(root).as_posix()
        at = relative.replace(old, new, 1)
        static = image.is_file()
        mask = Path(at).with_suffix(".png") if static else Path(at)
        frames = 1 if static else len(_listing(image))
        if not frames:
            raise Refusal(
                f"{image}: a folder without images, with {sum(p.is_dir() for p in image.iterdir())} folders",
                expected=f"folders of images that fit {said(part['images'])}",
                do="let `images:` name the folders that hold the frames (DAVIS: JPEGImages/480p/*)",
            )
        there = (root / mask).is_file() if static else _stems(root / mask) == _stems(image)
        if not there:
            lost.append(relative)
        clips.append(Clip(f"{key}/{relative}", f"{key}/{mask.as_posix()}", frames, part["spacing"]))
    if lost:
        raise Refusal(
            f"{root}: {len(lost)} of {len(clips)} without a mask for every image: {few(lost)}",
            expected=f"masks where {old!r} is {new!r} in the path",
            do="complete the data set",
        )
    if not clips:
        raise Refusal(
            f"{root}: nothing fits {said(part['images'])}",
            expected="annotated clips or images",
            do="correct the root or the row",
        )
    return clips
