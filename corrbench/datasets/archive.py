"""Unpack an archive without letting a member leave the folder."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from corrbench.errors import Refusal
from corrbench.files import atomic, check_room
from corrbench.progress import Progress


def unpack(archives: list[Path], folder: Path) -> None:
    """Unpack zip or tar archives, one over the other, into `folder`, which appears only when all is there.

    Raises Refusal for an archive that cannot be read, a member that would land outside (absolute, ``..``, a drive), a
    link or a device, a damaged member, and for too little room.
    """
    with atomic(folder) as temporary:
        temporary.mkdir(parents=True)
        for archive in archives:
            try:
                if zipfile.is_zipfile(archive):
                    _unpack_zip(archive, temporary)
                elif tarfile.is_tarfile(archive):
                    _unpack_tar(archive, temporary)
                else:
                    raise zipfile.BadZipFile("neither zip nor tar")
            except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
                raise Refusal(
                    f"{archive}: not a readable archive ({error})",
                    expected="a complete zip or tar file",
                    do="remove it and download it again",
                ) from error


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        _check_room(archive, sum(m.file_size for m in members), folder)
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            _check_member(archive, member.filename, link=kind not in (0, stat.S_IFREG, stat.S_IFDIR))
        with Progress(f"unpack {archive.name}", len(members), unit="file") as bar:
            for member in members:
                file.extract(member, folder)  # checks the member's CRC
                bar.advance()


def _unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as file:
        members = file.getmembers()
        _check_room(archive, sum(m.size for m in members), folder)
        for member in members:
            _check_member(archive, member.name, link=not (member.isreg() or member.isdir()))
        with Progress(f"unpack {archive.name}", len(members), unit="file") as bar:
            for member in members:
                target = folder / member.name
                content = file.extractfile(
                    member
                )  # None for a folder; owners, modes and times of the archive are not kept
                if content is None:
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with content, target.open("wb") as out:
                        shutil.copyfileobj(content, out)
                bar.advance()


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


def _check_room(archive: Path, needed: int, folder: Path) -> None:
    check_room(
        folder.parent,
        needed,
        f"{archive}: unpacks to {needed / 1e9:.1f} GB",
        "free some space, or put `results:` on a larger disk",
    )
