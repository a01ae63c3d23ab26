"""What the workflow asks the library while it plans: versions of files and data by content, the GPUs of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from corrbench.errors import Refusal, of_system
from corrbench.files import digest, file_hash, write_json


class Notes:
    """What was read of files before, remembered under their sizes, times and places, so that later plans cost one stat per file.

    The time of a file's last change of any kind (ctime) counts too: nobody can set it back. `folder` holds the notes; with
    `keep` False nothing is written, as in a dry run. A note that is damaged or cannot be written is as good as none.
    """

    def __init__(self, folder: Path, *, keep: bool = True) -> None:
        self.folder, self.keep = folder, keep

    def remembered(self, what: str, files: Mapping[str, Path], compute: Callable[[], str]) -> str:
        """What `compute` says of some files, from the note if none of them changed since. `what` tells kinds of notes apart.

        Empty while none of the files exists.
        """
        seen = _seen(files)
        if seen is None:
            return ""
        folders = {parent: os.path.realpath(parent) for parent in {path.parent for path in files.values()}}
        places = sorted([name, folders[path.parent], path.name] for name, path in files.items())
        note = self.folder / f"{digest([what, places])}.json"
        known = _note(note)
        if known.get("seen") == seen and isinstance(known.get("version"), str):
            return known["version"]
        version = compute()
        if self.keep and _seen(files) == seen:  # else they changed while they were read
            with suppress(Refusal, OSError):
                write_json(note, {"seen": seen, "version": version})
        return version

    def version(self, files: Mapping[str, Path]) -> str:
        """12 hex digits over names and bytes of some files: a copy, a move or a touch leaves it as it is.

        Empty while none of the files exists.
        """

        def read() -> str:
            hasher = hashlib.sha256()
            for name in sorted(files):
                if files[name].is_file():
                    try:
                        hasher.update(f"{name}:{files[name].stat().st_size}\n".encode())
                        with files[name].open("rb") as file:
                            while block := file.read(1 << 20):
                                hasher.update(block)
                    except OSError as error:
                        raise of_system(error, files[name]) from error
            return hasher.hexdigest()[:12]

        return self.remembered("version", files, read)

    def sha256(self, path: Path) -> str:
        """sha256 of one file; empty while there is none."""
        return self.remembered("sha256", {"file": path}, lambda: file_hash(path))


def _seen(files: Mapping[str, Path]) -> str | None:
    """A digest of what the file system says of files; None while none of them exists."""
    found = []
    for name, path in files.items():
        with suppress(OSError):
            s = os.stat(path)
            if stat.S_ISREG(s.st_mode):
                found.append([name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino])
    return digest(sorted(found)) if found else None


def _note(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def content_version(files: Mapping[str, Path], cache: Path, *, keep: bool = True) -> str:
    """`Notes.version` with the notes in the folder `cache`."""
    return Notes(cache, keep=keep).version(files)


def gpu_count() -> int:
    """GPUs of this machine: CORRBENCH_GPUS or CUDA_VISIBLE_DEVICES where set, else what nvidia-smi lists."""
    for name in ("CORRBENCH_GPUS", "CUDA_VISIBLE_DEVICES"):
        if name in os.environ:
            return len([d for d in os.environ[name].split(",") if d.strip()])
    try:
        query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return 0
    return len(answer.stdout.split())
