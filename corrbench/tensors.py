"""Files of tensors, read with what torch leaves out: the checksums of the archive, and the errors in words."""

from __future__ import annotations

import argparse
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from corrbench.errors import Refusal
from corrbench.files import content_digest, save_tensors
from corrbench.reading import regular

SEAL = "content_sha256"
"""The key under which `save_sealed` puts the digest of everything else in the file."""

MOST = 100
"""How many times as large as its file the content may be. torch.save packs nothing."""


def check_archive(path: Path) -> None:
    """Raise Refusal when a zip file of torch does not have its checksums: torch reads it all the same."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > MOST * path.stat().st_size:  # before a small file fills the memory
                bad: str | None = f"{unpacked / 1e9:.1f} GB packed into {path.stat().st_size / 1e6:.1f} MB"
            else:
                member = archive.testzip()
                bad = None if member is None else f"{member} does not have its checksum"
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        bad = str(error)
    if bad is not None:
        raise Refusal(
            f"{path}: a damaged file ({bad})",
            expected="a file as torch.save wrote it",
            do="copy or download it again; a file that corrbench made: remove it and run again",
        )


def load_tensors(path: Path, what: str, do: str = "remove it and run the stage that wrote it again") -> Any:
    """``torch.load`` of tensors and plain data, on the CPU. `what` and `do` are for the refusal: what the file is, and the remedy.

    Raises Refusal for a file that is missing, damaged, or holds more than tensors and plain data.
    """
    regular(path)
    check_archive(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # bytes that are no pickle fail in many ways: KeyError, struct.error, ...
        raise Refusal(
            f"{path}: not readable as {what} ({type(error).__name__}: {' '.join(str(error).split())[:160]})",
            expected=what,
            do=do,
        ) from error


def save_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write a dictionary with a digest of its content, which `load_sealed` checks."""
    save_tensors(path, {**value, SEAL: content_digest(value)})


def load_sealed(path: Path, what: str, do: str = "remove it and run the stage that wrote it again") -> dict[str, Any]:
    """Read what `save_sealed` wrote. Raises Refusal for anything else, and when the content was altered since."""
    value = load_tensors(path, what, do)
    if not isinstance(value, dict) or SEAL not in value:
        raise Refusal(f"{path}: has no digest of its content", expected=f"{what} as corrbench wrote it", do=do)
    found = value.pop(SEAL)
    if content_digest(value) != found:
        raise Refusal(f"{path}: its content is not what was written", expected=f"{what} as corrbench wrote it", do=do)
    return value
