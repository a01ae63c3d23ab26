"""Masks that somebody else made: how a folder or an archive of them is read.

Layouts, at any depth of the folder or archive:

- ``<sequence>/<frame>.png`` with object ids: palette or gray (DAVIS, YouTube-VOS, the results of LIIR and MiVOS), or in the
  colors of the DAVIS palette;
- ``<sequence>/<object>/<frame>.png``: one mask for each object (SAM 2's separate masks).

Masks of one object may be gray from 0 to 255, as networks write probabilities: from 128 on it is the object. Whether they
are is judged by all frames of a sequence together: a frame in which the network is unsure has no large value.
"""

from __future__ import annotations

import io
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from corrbench.datasets.archive import unpack
from corrbench.datasets.davis import MOST_IDS
from corrbench.datasets.palette import PALETTE
from corrbench.errors import Refusal, few, nearest
from corrbench.images import Pixels, check_picture, decode_ids
from corrbench.reading import is_litter, natural, read_bytes, what_lies_in

HALF = 128
"""Gray value from which on a pixel of a soft mask is the object."""
LEVELS = 10
"""Values above 0 of all masks of one object, from beyond which on they are gray levels. Fewer and small ones are ids."""
SAME = 0.98
"""Overlap from which on the mask of the first frame is the annotation that was given."""


@dataclass(frozen=True)
class Wanted:
    """What masks of one sequence must be."""

    frames: tuple[str, ...]
    """All frames of the video, in order."""
    written: tuple[str, ...]
    """Those whose masks are kept."""
    starts: Mapping[int, str]
    """The frame in which each object starts, by its id."""
    first: Pixels
    """The first annotation, ``[H, W]`` ids."""
    scored: tuple[str, ...]
    """Frames that must be there, from the start of the first object on."""
    single: bool
    """One object, whatever its value (DAVIS-2016)."""

    @property
    def ids(self) -> set[int]:
        """Ids that a mask may have: up to the largest where all objects start at once (DAVIS leaves out some)."""
        at_once = len(set(self.starts.values())) == 1
        return set(range(1, max(self.starts) + 1)) if at_once else set(self.starts)

    def needed(self, start: str) -> list[str]:
        """Scored frames from a frame on."""
        at = {frame: t for t, frame in enumerate(self.frames)}
        return [frame for frame in self.scored if at[frame] >= at[start]]


@contextmanager
def opened(path: Path, out: Path) -> Iterator[Path]:
    """A folder of masks: `path` itself, or what is in the archive, unpacked beside the output `out` while the block lasts.

    What a killed run leaves is removed by the next one that claims `out`.
    """
    if path.is_dir():
        yield path
        return
    if not path.exists():
        raise Refusal(
            f"{path}: no such file or folder", expected="masks", do="correct `path:`, or place the masks there"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{out.stem}.{os.getpid()}-{secrets.token_hex(3)}.tmp{out.suffix}")
    try:
        unpack([path], folder / "masks")
        yield folder / "masks"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_masks(folder: Path, sequences: Sequence[str], shown: Path | None = None) -> dict[str, Path]:
    """The folder of every sequence. `shown`: what refusals call the folder, if it is an unpacked archive.

    Raises Refusal for sequences that are missing, or that several places have.
    """
    wanted = set(sequences)
    found: dict[Path, dict[str, Path]] = {}
    for place, folders, _ in os.walk(folder, followlinks=True):
        for name in sorted(wanted.intersection(folders)):
            if _has_pictures(Path(place) / name):
                found.setdefault(Path(place), {})[name] = Path(place) / name
    complete = sorted(parent for parent, have in found.items() if wanted <= have.keys())
    if len(complete) > 1:
        names = few([p.relative_to(folder).as_posix() for p in complete])
        raise Refusal(
            f"{shown or folder}: {len(complete)} sets of masks ({names})",
            expected="masks of one run",
            do="name the folder of one of them, with `inside:` for an archive",
        )
    if complete:
        return found[complete[0]]
    best = max(found.values(), key=len, default={})
    missing = [name for name in sequences if name not in best]
    others = sorted({p.name for p in folder.rglob("*") if p.is_dir()} - wanted)
    hint = f"; {nearest(missing[0], others)}" if others else ""
    if any(name.lower().endswith((".jpg", ".jpeg")) for _, _, names in os.walk(folder) for name in names):
        hint += "; it holds JPEG files, which change ids: masks must be PNG"
    raise Refusal(
        f"{shown or folder}: no masks of {few(missing)}; it holds {what_lies_in(folder)}{hint}",
        expected=f"<sequence>/<frame>.png for each of the {len(sequences)} sequences",
        do="complete the masks, or measure a part of the benchmark with `subsets:`",
    )


def _has_pictures(folder: Path) -> bool:
    return any(name.lower().endswith(".png") and not is_litter(name) for _, _, names in os.walk(folder, followlinks=True) for name in names)  # fmt: skip


def read_sequence(folder: Path, wanted: Wanted) -> Iterator[tuple[str, Pixels]]:
    """The masks of one sequence as (frame, ``[H, W]`` uint8 ids), in the order of `wanted.written`.

    Raises Refusal for missing frames and objects, another size, ids that the annotations lack, and masks that seem to be
    numbered from another frame.
    """
    numbers = _objects(folder)
    if numbers:
        layers = {k: _layer(folder, wanted, k, place) for k, place in numbers.items()}
        if missing := sorted(wanted.starts.keys() - numbers.keys()):
            raise Refusal(
                f"{folder}: no masks of object {few([str(k) for k in missing])}; it holds {what_lies_in(folder)}",
                expected=f"a folder for each object: {few([str(k) for k in sorted(wanted.starts)])}",
                do="add them",
            )
    else:
        layers = {0: _layer(folder, wanted, 0, folder)}
    first = wanted.frames[0]
    for frame in dict.fromkeys([first, *wanted.written]):
        there = {k: layer.read(frame) for k, layer in layers.items() if frame in layer.files}
        if not there:
            continue
        ids = there[0] if 0 in there else np.zeros(wanted.first.shape, np.uint8)
        for k, mask in there.items():
            if k:
                ids[mask > 0] = k
        if frame == first and wanted.frames[-1] not in next(iter(layers.values())).files:
            _check_first(folder, ids, wanted)
        if len(wanted.frames) > 1 and frame == wanted.frames[1] and np.array_equal(ids, wanted.first):
            _check_second(folder, wanted, first_there=any(first in layer.files for layer in layers.values()))
        if frame in wanted.written:
            yield frame, ids


def _check_first(folder: Path, ids: Pixels, wanted: Wanted) -> None:
    """Raise Refusal where the last frame has no mask and that of the first is not its annotation: they are one frame off."""
    own, given = ids > 0, wanted.first > 0
    overlap = int(np.count_nonzero(own & given)) / max(int(np.count_nonzero(own | given)), 1)
    if overlap < SAME:
        raise Refusal(
            f"{folder}: no mask of the last frame {wanted.frames[-1]}, and the mask of the first is not its annotation "
            f"(overlap {overlap:.0%})",
            expected="masks that are numbered as the frames are",
            do="rename them: it looks as if the first mask was that of the second frame",
        )


def _check_second(folder: Path, wanted: Wanted, *, first_there: bool) -> None:
    """The mask of the second frame is the annotation of the first: one frame late, or nothing moved."""
    said = f"{folder}: the mask of the second frame {wanted.frames[1]} is the annotation of the first"
    if first_there:
        print(f"look at this: {said}: are the masks numbered one frame late?", flush=True)
        return
    raise Refusal(
        f"{said}, and there is no mask of the first",
        expected="masks that are numbered as the frames are",
        do="rename them: it looks as if each was that of the frame before; if they are right, add the mask of the first frame",
    )


@dataclass(frozen=True)
class _Layer:
    """Masks of all objects, or of one of them."""

    files: Mapping[str, Path]
    ids: set[int]
    shape: tuple[int, int]
    rule: str
    """`ids`: the stored values. `object`: any value above 0. `soft`: from `HALF` on."""

    def read(self, frame: str) -> Pixels:
        path = self.files[frame]
        ids = _decoded(path)
        if self.rule != "ids":
            ids = (ids >= HALF if self.rule == "soft" else ids > 0).astype(np.uint8)
        if ids.shape != self.shape:
            raise Refusal(
                f"{path}: {ids.shape[1]}x{ids.shape[0]} pixels",
                expected=f"{self.shape[1]}x{self.shape[0]} as the annotation",
                do="write the masks at the size of the annotations",
            )
        if odd := sorted(set(np.unique(ids).tolist()) - self.ids - {0}):
            raise Refusal(
                f"{path}: object id {few([str(k) for k in odd])}",
                expected=f"the ids of the annotations: {few([str(k) for k in sorted(self.ids)], 8)}",
                do="write the masks with the ids of the annotations",
            )
        return ids


def _layer(folder: Path, wanted: Wanted, number: int, place: Path) -> _Layer:
    """The files of all objects (`number` 0) or of one, with the rule by which their values are read."""
    if number and number not in wanted.ids:
        raise Refusal(
            f"{place}: masks of an object {number}",
            expected=f"the objects of the annotations: {few([str(k) for k in sorted(wanted.ids)], 8)}",
            do="rename the folders",
        )
    start = wanted.starts.get(number) or min(wanted.starts.values(), key=wanted.frames.index)
    files = _files(place, wanted, wanted.needed(start))
    one = bool(number) or wanted.single or set(wanted.starts) == {1}
    rule = "ids"
    if one:
        values: set[int] = set()
        for path in files.values():
            values |= set(np.unique(_decoded(path)).tolist())
        values.discard(0)
        if len(values) > LEVELS:
            rule = "soft"
        elif len(values) > 1 and max(values) > MOST_IDS:
            raise Refusal(
                f"{place}: masks of one object with the values {few([str(v) for v in sorted(values)], LEVELS)}",
                expected=f"one value above 0, or gray levels of a soft mask (more than {LEVELS} of them)",
                do="write masks of 0 and 255",
            )
        elif number or wanted.single or values == {255}:
            rule = "object"
    return _Layer(files, {1} if number or rule != "ids" else wanted.ids, wanted.first.shape, rule)  # type: ignore[arg-type]


def _objects(folder: Path) -> dict[int, Path]:
    """Folders of objects by number; empty where the masks are those of all objects."""
    parts = [p for p in folder.iterdir() if p.is_dir() and p.name.isdecimal() and _has_pictures(p)]
    flat = [p.name for p in folder.iterdir() if p.suffix.lower() == ".png" and not is_litter(p.name)]
    if parts and flat:
        raise Refusal(
            f"{folder}: masks ({few(flat)}) beside folders of objects ({few([p.name for p in parts])})",
            expected="one or the other",
            do="remove one of them",
        )
    return {int(p.name): p for p in sorted(parts)}


def _files(folder: Path, wanted: Wanted, needed: Sequence[str]) -> dict[str, Path]:
    """Masks by frame name. Masks that are numbered in another way are taken in order if there is one for every frame."""
    pngs = sorted(
        (p for p in folder.iterdir() if p.suffix.lower() == ".png" and not is_litter(p.name)),
        key=lambda p: natural(p.name),
    )
    found, frames = {p.stem: p for p in pngs}, wanted.frames
    if found.keys().isdisjoint(frames) and len(pngs) == len(frames):
        return dict(zip(frames, pngs, strict=True))
    lacking = [f for f in needed if f not in found]
    stray = [stem for stem in found if stem not in set(frames)]
    if stray or lacking:
        said = f"no mask of {few(lacking)}" if lacking else f"masks of no frame: {few(stray)}"
        raise Refusal(
            f"{folder}: {said}; it holds {what_lies_in(folder)}",
            expected=f"frames {frames[0]} to {frames[-1]}, of which {len(needed)} are scored, or one mask for each frame in order",
            do="name the masks as the frames are named" if stray else "add the missing masks",
        )
    return found


def _decoded(path: Path) -> Pixels:
    """The values of a mask file; of an RGB picture in the colors of the DAVIS palette the ids that they stand for."""
    data = read_bytes(path)
    check_picture(path, data, rotation=False, what="mask")
    with Image.open(io.BytesIO(data)) as image:
        if image.mode not in ("RGB", "RGBA"):
            return decode_ids(path, data)
        rgb = np.asarray(image.convert("RGB")).astype(np.int32)
    weights = np.array([1 << 16, 1 << 8, 1])
    code = rgb @ weights
    known = {int(color @ weights): i for i, color in reversed(list(enumerate(PALETTE[:22].astype(int))))}
    colors, inverse = np.unique(code, return_inverse=True)
    if odd := [f"#{c:06x}" for c in colors if int(c) not in known]:
        raise Refusal(
            f"{path}: a picture with the colors {few(odd)}",
            expected="object ids in one channel, or the colors of the DAVIS palette",
            do="write the masks as palette PNGs",
        )
    return np.array([known[int(c)] for c in colors], np.uint8)[inverse].reshape(code.shape)
