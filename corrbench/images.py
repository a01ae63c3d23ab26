"""The one reader of pictures and of id masks, and their writer."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from corrbench.errors import Refusal
from corrbench.reading import read_bytes

Pixels = NDArray[np.uint8]
VOID = 255
MOST_PIXELS = 1 << 27
"""Pixels of the largest picture that is decoded, 134 million; the largest of the data sets, 4K video, has 8.8 million."""
PNG = b"\x89PNG\r\n\x1a\n"
"""How a PNG begins."""
_ORIENTATION = 274
"""EXIF tag."""


Kind = Literal["inputs", "annotations"]
"""What of a data set a record covers: images and first annotations (what networks read), or annotations (what the metric reads)."""


@dataclass(frozen=True)
class Known:
    """What the doctor recorded of a data root: sha256 of files by their path below the root. Empty: nothing is known."""

    root: Path = Path()
    hashes: Mapping[str, str] = field(default_factory=dict)
    kind: Kind | None = None

    def expected(self, path: Path) -> str | None:
        """The recorded hash of a file; None where the record does not cover it."""
        return self.hashes.get(path.relative_to(self.root).as_posix()) if self.hashes else None

    def check_names(self, folder: Path, names: Sequence[str], kind: Kind) -> None:
        """Raise Refusal when the files of a folder are not those that the doctor saw there; `kind` of what lies in it."""
        if not self.hashes or kind != self.kind:
            return
        prefix = folder.relative_to(self.root).as_posix() + "/"
        seen = {n.removeprefix(prefix) for n in self.hashes if n.startswith(prefix)}
        if other := sorted(seen ^ set(names)):
            raise changed(folder / other[0], "was added or removed since the data set was checked")


def changed(path: Path, how: str = "is another file than the one that was checked") -> Refusal:
    """The refusal for a file of a data set that changed under the run."""
    return Refusal(
        f"{path}: {how}",
        expected="the data set as the doctor fingerprinted it",
        do="put the file back, or run the same command again: the data set is then checked and measured as it is now",
    )


NOTHING_KNOWN = Known()


def read_known(path: Path, known: Known = NOTHING_KNOWN) -> tuple[bytes, bool]:
    """The bytes of a file of a data set, and whether the doctor has looked through it. Raises Refusal when it is not the file that the doctor recorded."""
    expected = known.expected(path)
    data = read_bytes(path)
    if expected is not None and hashlib.sha256(data).hexdigest() != expected:
        raise changed(path)
    return data, expected is not None


def read_image(path: Path, known: Known = NOTHING_KNOWN) -> Pixels:
    """``[H, W, 3]`` uint8 BGR, decoded by OpenCV as the reference codes do.

    Raises Refusal for a picture that does not decode as a whole (OpenCV fills what is missing with gray), for one with an
    EXIF rotation, and for one that is not what the doctor saw.
    """
    data, checked = read_known(path, known)
    if not checked:
        check_picture(path, data)
    return decode_image(path, data)


def decode_image(path: Path, data: bytes, *, rotation: bool = True) -> Pixels:
    """The BGR pixels of a picture whose bytes are there already; an EXIF orientation counts only with `rotation`."""
    import cv2  # here and below: planning reads this module and must not wait for the decoders

    how = cv2.IMREAD_COLOR if rotation else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), how) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise Refusal(f"{path}: unreadable image", expected="a JPEG that decodes", do="unpack the archive again")
    return image.astype(np.uint8, copy=False)


def check_picture(path: Path, data: bytes, *, rotation: bool = True, what: str = "image") -> tuple[int, int]:
    """Height and width of a picture. Raises Refusal for bytes that are no whole picture: cut or damaged JPEG or PNG, absurd sizes, and, with `rotation`, an
    EXIF orientation, which OpenCV applies and other programs do not."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # sizes are checked below, before anything is decoded
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            kind = image.format
            turned = image.getexif().get(_ORIENTATION, 1) if rotation else 1
    except Exception as error:  # bytes that are no picture fail in many ways
        raise Refusal(
            f"{path}: unreadable {what} ({_why(error, data)})",
            expected="a JPEG or PNG that decodes",
            do="unpack the archive, or write the file, again",
        ) from error
    if width * height > MOST_PIXELS:
        raise Refusal(f"{path}: {width}x{height} pixels", expected="a frame of a video", do="unpack the archive again")
    if kind == "JPEG":
        _check_jpeg(path, data)
    elif kind == "PNG":
        check_png(path, data)
    if turned not in (0, 1):
        raise Refusal(
            f"{path}: has an EXIF orientation ({turned}), by which some programs turn the picture and others do not",
            expected="pictures without one, as the annotations have none",
            do="turn the picture itself and remove the tag (for example: exiftran -ai FILE, or mogrify -auto-orient)",
        )
    if kind not in ("JPEG", "PNG"):
        decode_image(path, data)
    return height, width


def _why(error: Exception, data: bytes) -> str:
    if not data:
        return "an empty file"
    said = " ".join(str(error).split())[:120]
    return f"not a picture; it begins {data[:12]!r}" if "cannot identify" in said else said


def check_ending(path: Path, data: bytes) -> None:
    """A cheap `check_picture` for training, where every picture is read often: a JPEG with its end mark counts as whole.

    Raises Refusal for a cut JPEG and for a PNG without its checksums.
    """
    if not (data.startswith(b"\xff\xd8") and data.rstrip(b"\0").endswith(b"\xff\xd9")):
        check_picture(path, data, rotation=False)


def _check_jpeg(path: Path, data: bytes) -> None:
    import simplejpeg

    try:
        header = simplejpeg.decode_jpeg_header(data)
        space = "CMYK" if header[2] in ("CMYK", "YCCK") else "GRAY"
        simplejpeg.decode_jpeg(data, space, fastdct=True, fastupsample=True, strict=True)
    except (ValueError, RuntimeError) as error:
        raise Refusal(
            f"{path}: a damaged or cut JPEG ({error})",
            expected="a JPEG that decodes to its end",
            do="copy or unpack the file again",
        ) from error


def check_png(path: Path, data: bytes) -> None:
    """Raise Refusal for a PNG of which a chunk is cut or does not have its checksum: decoders skip over some of them."""
    wrong, at = None, 8
    while wrong is None:
        if at + 12 > len(data):
            wrong = "it ends early"
            break
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, end = data[at + 4 : at + 8], at + 8 + length
        if end + 4 > len(data):
            wrong = "it ends early"
        elif struct.pack(">I", zlib.crc32(data[at + 4 : end])) != data[end : end + 4]:
            wrong = f"the chunk {kind!r} at byte {at} does not have its checksum"
        elif kind == b"IEND":
            return
        at = end + 4
    raise Refusal(f"{path}: a damaged PNG: {wrong}", expected="a whole PNG", do="copy, unpack or write the file again")


def read_ids(path: Path, known: Known = NOTHING_KNOWN) -> Pixels:
    """``[H, W]`` uint8 pixel values of an id image as stored, indices of a palette included.

    Raises Refusal for a file that does not decode as a whole, a picture in color, values above 255, and a palette whose
    background is not index 0.
    """
    return decode_ids(path, read_known(path, known)[0])


def decode_ids(path: Path, data: bytes) -> Pixels:
    """The ids of an image whose bytes are there already."""
    from PIL import Image

    if data.startswith(PNG):
        check_png(path, data)
    else:
        check_picture(path, data, rotation=False, what="mask")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels")
            palette = image.getpalette() if image.mode == "P" else None
            ids = np.array(image)
    except Exception as error:
        raise Refusal(
            f"{path}: unreadable mask ({_why(error, data)})",
            expected="a PNG that decodes",
            do="unpack the archive, or write the mask, again",
        ) from error
    if ids.ndim != 2:
        raise Refusal(
            f"{path}: an image of {ids.shape[2]} channels",
            expected="one channel of object ids",
            do="save masks as palette or gray PNG",
        )
    if ids.dtype.kind == "f":
        raise Refusal(
            f"{path}: numbers with a fraction", expected="whole ids", do="save masks as 8-bit palette or gray PNG"
        )
    if ids.dtype != bool and (ids.min() < 0 or ids.max() > 255):
        raise Refusal(
            f"{path}: object id {ids.max()}", expected="ids up to 255", do="save masks as 8-bit palette or gray PNG"
        )
    ids = ids.astype(np.uint8)
    if palette is not None:
        _check_palette(path, ids, palette)
    return ids


def _check_palette(path: Path, ids: Pixels, palette: list[int]) -> None:
    """The background is index 0 everywhere in this project; a palette that puts black elsewhere means another order."""
    if not any(palette[:3]):
        return
    black = [int(i) for i in np.unique(ids) if i and not any(palette[3 * i : 3 * i + 3])]
    if black:
        raise Refusal(
            f"{path}: in its palette, index 0 is the color {tuple(palette[:3])} and index {black[0]} is black",
            expected="index 0 for the background, as in DAVIS",
            do="save the masks with the palette of DAVIS",
        )


def palette_doubt(path: Path, data: bytes) -> str | None:
    """What looks odd in the palette of an id image but may be right: an index 0 that is not black."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        palette = image.getpalette() if image.mode == "P" else None
    if palette and any(palette[:3]):
        return f"{path.name}: index 0 of its palette is the color {tuple(palette[:3])}; is it the background?"
    return None


def write_image(path: Path, image: NDArray[Any]) -> None:
    """Write a picture (BGR or gray) in the format of the name's end, JPEG with quality 95.

    ``cv2.imwrite`` can leave a cut file on a full disk and say that all is well; this raises OSError.
    """
    import cv2

    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
