"""What the workflow asks the library while it plans: versions of files and data by content, the GPUs of this machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from corrbench.files import digest, read_json, write_json


def content_version(files: Mapping[str, Path], cache: Path) -> str:
    """12 hex digits over names and bytes of some files: a copy, a move or a touch leaves it as it is.

    Read once: `cache` is a folder that remembers the version under the sizes and times of the files, so later plans
    cost one stat per file. Empty while none of the files exists.
    """
    stats = {name: path.stat() for name, path in files.items() if path.is_file()}
    if not stats:
        return ""
    seen = digest([[name, s.st_size, s.st_mtime_ns, s.st_ino] for name, s in sorted(stats.items())])
    note = cache / f"{digest(sorted([name, str(path.resolve())] for name, path in files.items()))}.json"
    if note.is_file():
        known = read_json(note)
        if known["seen"] == seen:
            return known["version"]
    hasher = hashlib.sha256()
    for name in sorted(stats):
        hasher.update(f"{name}:{stats[name].st_size}\n".encode())
        with files[name].open("rb") as file:
            while block := file.read(1 << 20):
                hasher.update(block)
    version = hasher.hexdigest()[:12]
    write_json(note, {"seen": seen, "version": version})
    return version


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
