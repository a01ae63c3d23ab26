"""Folders of frames that the frames stage made: what each is called, the record that it carries, and what else may lie beside them.

``video.json`` in a folder is a record with the number, the byte sizes and the CRC-32 of its frames: a run that goes on
keeps a folder whose files have these sizes, and training reads no frame that is another than was written.
"""

from __future__ import annotations

import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from corrbench.errors import Refusal, few
from corrbench.files import linked, read_json, read_record, write_record
from corrbench.outputs import MANIFEST, claim, remove_temporaries
from corrbench.reading import is_litter, is_system_file

NOTE = "video.json"
KIND = "frames"
REMEDY = "run the frames stage again: it extracts what is damaged anew"
_FRAME = re.compile(r"\d{5,}\.jpg$")
_TABLES = {
    "index.csv": re.compile(r"video,frames,fps,|images,masks,frames,|video,frame,x,y,w,h"),
    "skipped.csv": re.compile(r"video,reason"),
    "ytvos.csv": re.compile(r".*,-?\d+,\d+$"),
}
"""Files of the stage, and how their first line begins."""
RESERVED = frozenset((*_TABLES, "index.json", NOTE, MANIFEST))
"""Names that no folder of frames takes."""


@dataclass(frozen=True)
class Note:
    """What ``video.json`` says."""

    video: Mapping[str, Any]
    """frames, fps, width, height"""
    origin: Mapping[str, Any]
    """Size and time of the video file, and the short side that was asked for."""
    sizes: tuple[int, ...]
    """Bytes of every frame."""
    crcs: tuple[int, ...]
    """CRC-32 of every frame."""

    def check(self, path: Path, number: int, data: bytes) -> None:
        """Raise Refusal when these are not the bytes of that frame."""
        if zlib.crc32(data) != self.crcs[number]:
            cut = f", {len(data)} bytes of {self.sizes[number]}" if len(data) != self.sizes[number] else ""
            raise Refusal(
                f"{path}: not the frame that was extracted (another CRC-32{cut})",
                expected=f"the frames that {NOTE} beside it lists",
                do=f"remove {path.parent}, and run the frames stage again: it extracts that video anew",
            )


def write_note(
    folder: Path, video: Mapping[str, Any], origin: Mapping[str, Any], sizes: Sequence[int], crcs: Sequence[int]
) -> None:
    """Write ``video.json`` of a folder that is complete."""
    lists = {"bytes": " ".join(map(str, sizes)), "crc32": " ".join(f"{crc:08x}" for crc in crcs)}
    write_record(folder / NOTE, {"video": video, "from": origin, **lists})


def read_note(folder: Path) -> Note:
    """What ``video.json`` of a folder says. Raises Refusal for one that is missing or not as it was written."""
    found = read_record(folder / NOTE, "the record of a folder of frames", REMEDY)
    sizes = tuple(map(int, found["bytes"].split()))
    return Note(found["video"], found["from"], sizes, tuple(int(c, 16) for c in found["crc32"].split()))


@lru_cache(maxsize=4096)
def known_note(root: Path, folder: Path) -> Note | None:
    """The record of a folder below `root`; None for folders that the frames stage did not make.

    Raises Refusal for a record that is missing or damaged below a root that the stage made.
    """
    made = _is_made(root)
    if not made and not (folder / NOTE).is_file():
        return None
    try:
        return read_note(folder)
    except Refusal:
        if made:
            raise
        return None  # a user's own file of that name


@lru_cache(maxsize=64)
def _is_made(root: Path) -> bool:
    return (root / MANIFEST).is_file()


def kept_note(folder: Path, origin: Mapping[str, Any]) -> Note | None:
    """The record of a folder that is whole and was extracted from `origin`: as many frames, of these sizes. Else None."""
    if not (folder / NOTE).is_file():
        return None
    try:
        note = read_note(folder)
    except Refusal:
        return None
    with os.scandir(folder) as entries:
        sizes = {e.name: e.stat().st_size for e in entries if _FRAME.match(e.name)}
    whole = {f"{i:05d}.jpg": size for i, size in enumerate(note.sizes)}
    return note if dict(note.origin) == dict(origin) and sizes == whole else None


def foreign_in(folder: Path, made: bool) -> list[str]:
    """Names in a folder of frames, to be replaced, that the frames stage did not write. `made`: the stage made the root."""
    if not folder.exists():
        return []
    names = sorted(e.name for e in os.scandir(folder) if not is_system_file(e.name))
    if names and not made and not _is_note(folder / NOTE):
        return names
    return [name for name in names if name != NOTE and not (_FRAME.match(name) and (folder / name).is_file())]


def _is_note(path: Path) -> bool:
    try:
        found = read_json(path)
    except Refusal:
        return False
    return isinstance(found, dict) and {"video", "from"} <= found.keys()


def folder_names(videos: Sequence[str]) -> dict[str, str]:
    """The name of the folder of frames of every video, a path below the root: without its suffix.

    Names that would meet keep their suffix: of ``x.mp4`` and ``x.mkv``, of ``a.mp4`` beside a folder ``a`` with videos, and
    of a video that is called as one of the stage's own files.
    """
    names = {video: PurePosixPath(video).with_suffix("").as_posix() for video in videos}
    while True:
        users = Counter(names.values())
        above = {parent.as_posix() for name in names.values() for parent in PurePosixPath(name).parents}
        meeting = [v for v, n in names.items() if n != v and (users[n] > 1 or n in above or n in RESERVED)]
        if not meeting:
            return names
        names |= {video: video for video in meeting}


@contextmanager
def frames_output(out: Path) -> Iterator[Path]:
    """The output folder of the frames stage, held against other runs; what a killed run left half written is removed.

    It may hold what an earlier run of the stage wrote, whole or not, and nothing else. Raises Refusal before anything is
    written or removed.
    """
    out = linked(out)
    with claim(out):
        places = _refuse_foreign(out)
        out.mkdir(parents=True, exist_ok=True)
        for place in places:
            remove_temporaries(place)
        write_record(out / MANIFEST, {"made": KIND, "files": []})
        yield out


def _refuse_foreign(out: Path) -> list[Path]:
    """Raise Refusal when the output holds files of others. Returns its folders of folders."""
    if not out.exists():
        return []
    if not out.is_dir():
        raise Refusal(f"{out}: a file", expected="a folder, or nothing", do="remove it, or name another folder")
    made = _made_here(out)
    places = [out]
    foreign = list(islice(_foreign(out, out, made, places), 6))
    if foreign:
        raise Refusal(
            f"{out}: holds files that corrbench did not write ({few(foreign)}); nothing was changed",
            expected="an empty folder, or one of an earlier run of the frames stage and nothing else",
            do="name another folder, or move these files elsewhere",
        )
    return places


def _made_here(out: Path) -> bool:
    try:
        return read_record(out / MANIFEST)["made"] == KIND
    except (Refusal, KeyError):
        return False


def _foreign(out: Path, folder: Path, made: bool, places: list[Path]) -> Iterator[str]:
    """Names below the output that are not the stage's; hidden files are left alone. Folders of folders join `places`."""
    listed = made or _is_table(out / "index.csv")
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        path, top = Path(entry.path), folder == out
        if is_litter(entry.name) or (path / NOTE).is_file():  # a folder of frames is judged when it is to be replaced
            continue
        if entry.is_dir(follow_symlinks=False):
            places.append(path)
            yield from _foreign(out, path, made, places)
        elif not (
            top
            and (
                (listed and (entry.is_symlink() or entry.name == "index.json"))  # links to the roots of clips
                or (made and entry.name in _TABLES)
                or _is_table(path)
            )
        ):
            yield path.relative_to(out).as_posix()


def _is_table(path: Path) -> bool:
    pattern = _TABLES.get(path.name)
    try:
        with path.open(encoding="utf-8") as file:
            return pattern is not None and bool(pattern.match(file.readline(4096).strip()))
    except (OSError, UnicodeError):
        return False
