"""Small file helpers that every stage shares: atomic writes, hashes, canonical JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from corrbench.errors import DiskFull


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block ends well, remove it otherwise.

    A killed job therefore leaves nothing that looks finished. Works for a file or for a folder that the block makes.
    Raises DiskFull.
    """
    path = Path(path)
    # the process id keeps two jobs apart; the suffix stays last because writers choose the format by it
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        with full_disk_refused(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if temporary.is_dir() and path.is_dir():
                shutil.rmtree(path)
            os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


@contextmanager
def full_disk_refused(path: Path) -> Iterator[None]:
    """Turn a write of the block that found no room into DiskFull for `path`, also where a library put its own words over it."""
    before = sys.exc_info()[1]  # what was being handled already is no cause
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and getattr(cause, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
            cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
            cause = None if cause is before else cause
        if cause is None:
            raise
        raise DiskFull(
            f"{path}: cannot be written, the disk is full or a quota is used up ({cause})",
            expected="room for it",
            do="free some space, or put `results:` on a larger disk, and run again: what is finished is kept",
        ) from error


def check_room(folder: Path, needed: float, found: str, do: str) -> None:
    """Refuse work that will need `needed` more bytes below `folder` when fewer are free; `found` says what needs them."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(f"{found}, {free / 1e9:.1f} GB are free at {folder}", expected="room for all of it", do=do)


def save_tensors(path: Path, value: Any) -> None:
    """``torch.save``, atomically. The bytes follow from `value` alone, and a full disk is noticed: both are not so by name."""
    import torch  # planning reads this module and must not wait for torch

    with atomic(path) as temporary, temporary.open("wb") as file:
        torch.save(value, file)


def canonical_json(value: Any) -> str:
    """JSON that does not depend on key order or white space, so that equal settings give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any, length: int = 12) -> str:
    """First `length` hex digits of the sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def file_hash(path: Path | str, algorithm: str = "sha256") -> str:
    """Hex digest of a file. `algorithm` is any of hashlib's, or `git-blob` (what ``git hash-object`` prints)."""
    path = Path(path)
    if algorithm == "git-blob":
        hasher = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        hasher = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=False, ensure_ascii=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text())
