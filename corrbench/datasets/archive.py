"""Unpack an archive: nothing leaves the folder, and nothing is accepted before the archive has been read to its end.

What can be known: zip files carry a CRC-32 of every member, gzip and bzip2 one of the whole, xz mostly a CRC-64. An
uncompressed tar has checksums of its headers alone; damage inside its members shows only where the row of the data set
gives a hash of the file (`archive_notes` says so).
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from corrbench.errors import Refusal
from corrbench.files import check_room
from corrbench.outputs import made_folder
from corrbench.progress import Progress
from corrbench.reading import regular

BLOCK = tarfile.BLOCKSIZE
LONGEST = 255
"""Bytes of the longest name that file systems take."""
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_COMPRESSED: tuple[tuple[bytes, Any], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
    (b"\x5d\x00\x00", lzma.open),
)


def unpack(archives: list[Path], folder: Path, check: Callable[[Path], object] | None = None) -> None:
    """Unpack zip or tar archives, one over the other, into `folder`, which appears only when all is there and `check` of
    what was unpacked raises nothing.

    Raises Refusal for an archive that cannot be read or is damaged, a member that would land outside (absolute, ``..``, a
    drive), a link, a device or an encrypted member, names that no file system takes, one name with two contents, a file in
    the place of a folder, too little room, and a `folder` that holds files of others.
    """
    with made_folder(folder, "data set") as temporary:
        for archive in archives:
            regular(archive)
            try:
                _unpack(archive, temporary)
            except Refusal:
                raise
            except OSError as error:
                if error.errno is not None:  # of the system; decompressors raise OSError without a number
                    raise
                raise _unreadable(archive, error) from error
            except MemoryError:
                raise
            except Exception as error:  # zipfile and tarfile meet damage in many ways: struct.error, ValueError, ...
                raise _unreadable(archive, error) from error
        if check is not None:
            check(temporary)


def archive_notes(archives: list[Path]) -> list[str]:
    """A line for every archive whose contents have no checksum of their own."""
    notes = []
    for archive in archives:
        with archive.open("rb") as file:
            head = file.read(8)
        plain = not head.startswith((*_ZIP, *(magic for magic, _ in _COMPRESSED[:3])))
        if plain or (head.startswith(_COMPRESSED[2][0]) and not head[7] & 15):
            notes.append(f"{archive.name} carries no checksum of its contents: only its headers could be checked")
    return notes


def _unreadable(archive: Path, error: Exception) -> Refusal:
    said = " ".join(str(error).split())[:160] or type(error).__name__
    return Refusal(
        f"{archive}: not a readable archive ({said})",
        expected="a complete zip or tar file",
        do="remove it and download it again",
    )


def _unpack(archive: Path, folder: Path) -> None:
    with archive.open("rb") as file:
        head = file.read(8)
    opener = next((opener for magic, opener in _COMPRESSED if head.startswith(magic)), None)
    if opener is not None:
        with opener(archive, "rb") as file:
            _unpack_tar(archive, file, folder)
    elif head.startswith(_ZIP) or (not tarfile.is_tarfile(archive) and zipfile.is_zipfile(archive)):
        _unpack_zip(archive, folder)
    elif tarfile.is_tarfile(archive):
        with archive.open("rb") as file:
            _unpack_tar(archive, file, folder)
    else:
        raise zipfile.BadZipFile("neither zip nor tar")


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        _check_room(archive, sum(m.file_size for m in members), folder)
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            _check_member(archive, member.orig_filename, link=kind not in (0, stat.S_IFREG, stat.S_IFDIR))
            if member.flag_bits & 1:
                raise Refusal(
                    f"{archive}: the member {member.filename!r} is encrypted",
                    expected="an archive without a password",
                    do="unpack it yourself with its password, and name the folder as the data root",
                )
        _check_tree(archive, ((m.filename, m.is_dir()) for m in members))
        with Progress(f"unpack {archive.name}", len(members), unit="file") as bar:
            seen: set[PurePosixPath] = set()
            for member in members:
                if member.is_dir():
                    _make(archive, folder, member.filename)
                else:
                    with file.open(member) as content:  # checks the member's CRC at its end
                        _write(archive, folder, member.filename, content, member.file_size, seen)
                bar.advance()


def _unpack_tar(archive: Path, stream: IO[bytes], folder: Path) -> None:
    """`stream` is read twice: to its end, with the checksums of its compression, before anything is written; then again."""
    with tarfile.open(fileobj=stream, mode="r:") as file:
        members = []
        for member in file:
            if member.size < 0:
                raise tarfile.ReadError(f"the member {member.name!r} has {member.size} bytes")
            _check_member(archive, member.name, link=not (member.isreg() or member.isdir()))
            members.append(member)
        _check_end(stream, file.offset)
        _check_room(archive, sum(m.size for m in members), folder)
        _check_tree(archive, ((m.name, m.isdir()) for m in members))
        with Progress(f"unpack {archive.name}", len(members), unit="file") as bar:
            seen: set[PurePosixPath] = set()
            for member in members:  # owners, modes and times of the archive are not kept
                content = file.extractfile(member)
                if content is None:
                    _make(archive, folder, member.name)
                else:
                    with content:
                        _write(archive, folder, member.name, content, member.size, seen)
                bar.advance()


def _check_end(stream: IO[bytes], offset: int) -> None:
    """Read on from where tarfile stopped: it takes a damaged header for the end. After the end mark there are zeros alone."""
    stream.seek(offset)
    first = stream.read(BLOCK)
    while len(first) < BLOCK and (more := stream.read(BLOCK - len(first))):
        first += more
    if len(first) < BLOCK:
        raise tarfile.ReadError("it ends without its end mark: cut")
    block = first
    while block:
        if block.count(0) != len(block):
            where = "a damaged header" if block is first else "more data after the end mark"
            raise tarfile.ReadError(f"{where} at byte {stream.tell() - len(block)}")
        block = stream.read(1 << 20)


def _make(archive: Path, folder: Path, name: str) -> None:
    try:
        (folder / PurePosixPath(name)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _refuse_name(archive, name, error)
        raise


def _write(archive: Path, folder: Path, name: str, content: IO[bytes], size: int, seen: set[PurePosixPath]) -> None:
    """One member as a file. A name that comes twice in one archive must have one content."""
    inside = PurePosixPath(name)
    target = folder / inside
    if inside in seen:
        if content.read() != target.read_bytes():
            raise Refusal(
                f"{archive}: the member {name!r} is there twice, with two contents",
                expected="one content for every name",
                do="unpack it yourself, and name the folder as the data root",
            )
        return
    seen.add(inside)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            shutil.copyfileobj(content, out, 1 << 20)
    except OSError as error:
        _refuse_name(archive, name, error)
        raise
    if (written := target.stat().st_size) != size:
        raise Refusal(
            f"{archive}: the member {name!r} has {written} bytes, its entry says {size}",
            expected="the sizes that the archive's directory gives",
            do="remove it and download it again",
        )


def _refuse_name(archive: Path, name: str, error: OSError) -> None:
    """Raise Refusal where an error of the system is about the name of one member."""
    if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        raise Refusal(
            f"{archive}: the member {name!r} cannot be written here ({error.strerror})",
            expected="names that this file system takes, each of a file or of a folder",
            do="unpack it yourself on another disk, and name the folder as the data root",
        ) from error


def _check_tree(archive: Path, members: Iterable[tuple[str, bool]]) -> None:
    """Raise Refusal when a member lies below another that is a file."""
    listed = [(PurePosixPath(name), folder) for name, folder in members]
    files = {path for path, folder in listed if not folder}
    folders = {path for path, folder in listed if folder} | {above for path, _ in listed for above in path.parents}
    if both := sorted(str(path) for path in files & folders):
        raise Refusal(
            f"{archive}: the member {both[0]!r} is a file and a folder",
            expected="one or the other",
            do="unpack it yourself, and name the folder as the data root",
        )


def _check_member(archive: Path, name: str, *, link: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise Refusal(
            f"{archive}: the member {name!r} would land outside the folder",
            expected="members below the folder",
            do="do not use this archive",
        )
    if link:
        raise Refusal(
            f"{archive}: the member {name!r} is a link or a device",
            expected="files and folders only",
            do="do not use this archive",
        )
    if "\0" in name or any(len(os.fsencode(part)) > LONGEST for part in path.parts):
        raise Refusal(
            f"{archive}: the member {name[:60]!r}... has a name that no file system takes",
            expected=f"names of at most {LONGEST} bytes, without NUL",
            do="unpack it yourself with other names, and name the folder as the data root",
        )


def _check_room(archive: Path, needed: int, folder: Path) -> None:
    check_room(
        folder.parent,
        needed,
        f"{archive}: unpacks to {needed / 1e9:.1f} GB",
        "free some space, or put `results:` on a larger disk",
    )
