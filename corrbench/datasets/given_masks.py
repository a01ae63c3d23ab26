"""Masks that somebody else made: how a folder or an archive of them is read.

Layouts, at any depth of the folder or archive:

- ``<sequence>/<frame>.png`` with object ids: palette or gray (DAVIS, YouTube-VOS, the results of LIIR and MiVOS), or in the
  colors of the DAVIS palette;
- ``<sequence>/<object>/<frame>.png``: one mask for each object, everything above half is the object (SAM 2's separate masks).

Masks of a single object may be gray from 0 to 255, as networks write probabilities: from 128 on it is the object.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from corrbench.datasets.archive import unpack
from corrbench.datasets.davis import is_soft
from corrbench.datasets.palette import PALETTE
from corrbench.errors import Refusal, few
from corrbench.images import Pixels, check_png, decode_ids
from corrbench.reading import is_litter, natural, read_bytes, what_lies_in

HALF = 128
"""Gray value from which on a pixel of a soft mask is the object."""


@contextmanager
def opened(path: Path, beside: Path) -> Iterator[Path]:
    """A folder of masks: `path` itself, or what is in the archive, unpacked beside an output while the block lasts."""
    if path.is_dir():
        yield path
        return
    if not path.exists():
        raise Refusal(
            f"{path}: no such file or folder", expected="masks", do="correct `path:`, or place the masks there"
        )
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".masks-", dir=beside) as folder:
        unpack([path], Path(folder) / "masks")
        yield Path(folder) / "masks"


def find_masks(folder: Path, sequences: Sequence[str]) -> dict[str, Path]:
    """The folder of every sequence. Raises Refusal for sequences that are missing, or that several places have."""
    wanted = set(sequences)
    found: dict[Path, dict[str, Path]] = {}
    for place in sorted(p for p in folder.rglob("*") if p.is_dir() and p.name in wanted):
        if any(p.suffix.lower() == ".png" and not is_litter(p.name) for p in place.rglob("*")):
            found.setdefault(place.parent, {})[place.name] = place
    complete = [parent for parent, have in found.items() if wanted <= have.keys()]
    if len(complete) > 1:
        names = few([str(p.relative_to(folder)) for p in complete])
        raise Refusal(
            f"{folder}: {len(complete)} sets of masks ({names})",
            expected="masks of one run",
            do="name the folder of one of them, with `inside:` for an archive",
        )
    if complete:
        return found[complete[0]]
    best = max(found.values(), key=len, default={})
    missing = [name for name in sequences if name not in best]
    raise Refusal(
        f"{folder}: no masks of {few(missing)}; it holds {what_lies_in(folder)}",
        expected=f"<sequence>/<frame>.png for each of the {len(sequences)} sequences",
        do="complete the masks, or measure a part of the benchmark with `subsets:`",
    )


def read_sequence(
    folder: Path, frames: Sequence[str], *, shape: tuple[int, int], objects: int | None, scored: Sequence[str]
) -> Iterator[tuple[str, Pixels]]:
    """The masks of one sequence as (frame, ``[H, W]`` uint8 ids) in the order of `frames`.

    `shape`: height and width that they must have. `objects`: the largest id (None: not known). `scored`: the frames that
    must be there. Raises Refusal for missing frames, another size, larger ids, and values that are no ids.
    """
    layers = _layers(folder, frames, scored)
    for frame in frames:
        at = {number: files[frame] for number, files in layers.items() if frame in files}
        if not at:
            continue
        if 0 in at:
            ids = _read(at[0], single=objects == 1)
        else:
            ids = np.zeros(shape, np.uint8)
            for number, path in at.items():
                mask = _read(path, single=True)
                _check(path, mask, shape, 1)
                ids[mask > 0] = number
        _check(next(iter(at.values())), ids, shape, objects)
        yield frame, ids


def _layers(folder: Path, frames: Sequence[str], scored: Sequence[str]) -> dict[int, dict[str, Path]]:
    """Files by frame: of all objects at once (0), or of each object by its number."""
    parts = sorted(p for p in folder.iterdir() if p.is_dir() and p.name.isdecimal())
    places = {0: folder} if not parts else {int(p.name): p for p in parts}
    if parts and 0 in places:
        raise Refusal(f"{places[0]}: masks of an object 0", expected="objects numbered from 1", do="rename the folders")
    return {number: _frames(place, frames, scored, alone=not parts) for number, place in places.items()}


def _frames(folder: Path, frames: Sequence[str], scored: Sequence[str], *, alone: bool) -> dict[str, Path]:
    """Masks by frame name. Masks that are numbered in another way are taken in order if there is one for every frame."""
    pngs = sorted(
        (p for p in folder.iterdir() if p.suffix.lower() == ".png" and not is_litter(p.name)),
        key=lambda p: natural(p.name),
    )
    found = {p.stem: p for p in pngs}
    if found.keys().isdisjoint(frames) and len(pngs) == len(frames):
        return dict(zip(frames, pngs, strict=True))
    lacking = [f for f in scored if f not in found]
    stray = [stem for stem in found if stem not in set(frames)]
    if stray or (lacking and alone):
        said = f"no mask of {few(lacking)}" if lacking else f"masks of no frame: {few(stray)}"
        raise Refusal(
            f"{folder}: {said}; it holds {what_lies_in(folder)}",
            expected=f"frames {frames[0]} to {frames[-1]}, of which {len(scored)} are scored, or one mask for each frame in order",
            do="name the masks as the frames are named",
        )
    return found


def _read(path: Path, *, single: bool) -> Pixels:
    """Ids of a mask file; `single`: of one object, which is 1."""
    data = read_bytes(path)
    ids = _colors(path, data)
    if ids is None:
        ids = decode_ids(path, data)
    if not single:
        return ids
    return (ids >= HALF if is_soft(ids, single_object=True) else ids != 0).astype(np.uint8)


def _colors(path: Path, data: bytes) -> Pixels | None:
    """Ids of an RGB picture in the colors of the DAVIS palette; None for a picture of one channel."""
    check_png(path, data)
    with Image.open(io.BytesIO(data)) as image:
        if image.mode not in ("RGB", "RGBA"):
            return None
        rgb = np.asarray(image.convert("RGB")).astype(np.int32)
    code = rgb @ np.array([1 << 16, 1 << 8, 1])
    known = {int(c @ np.array([1 << 16, 1 << 8, 1])): i for i, c in reversed(list(enumerate(PALETTE[:22].astype(int))))}
    colors, inverse = np.unique(code, return_inverse=True)
    if odd := [f"#{c:06x}" for c in colors if int(c) not in known]:
        raise Refusal(
            f"{path}: a picture with the colors {few(odd)}",
            expected="object ids in one channel, or the colors of the DAVIS palette",
            do="write the masks as palette PNGs",
        )
    return np.array([known[int(c)] for c in colors], np.uint8)[inverse].reshape(code.shape)


def _check(path: Path, ids: Pixels, shape: tuple[int, int], objects: int | None) -> None:
    if ids.shape != shape:
        raise Refusal(
            f"{path}: {ids.shape[1]}x{ids.shape[0]} pixels",
            expected=f"{shape[1]}x{shape[0]} as the annotation",
            do="write the masks at the size of the annotations",
        )
    if objects is not None and int(ids.max()) > objects:
        raise Refusal(
            f"{path}: object id {ids.max()}",
            expected=f"ids up to {objects}, the largest of the first annotation",
            do="write the masks with the ids of the first annotation",
        )
