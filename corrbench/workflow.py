"""What the workflow asks the library while it plans: stamps of data folders and the GPUs of this machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


def data_stamp(root: Path, sequences: Sequence[str]) -> str:
    """12 hex digits over names, sizes and times of the files below a data root that belong to the sequences.

    Cheap enough for every plan (one stat per file). When it changes the doctor looks again, and only what it finds
    changed by content makes anything else stale. Empty while the folder does not exist.
    """
    if not root.is_dir():
        return ""
    hasher = hashlib.sha256()
    for kind in ("JPEGImages", "Annotations"):
        for resolution in sorted(p for p in (root / kind).glob("*") if p.is_dir()):
            for name in sequences:
                folder = resolution / name
                if folder.is_dir():
                    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
                        stat = entry.stat()
                        line = f"{kind}/{resolution.name}/{name}/{entry.name}:{stat.st_size}:{stat.st_mtime_ns}\n"
                        hasher.update(line.encode())
    return hasher.hexdigest()[:12]


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
