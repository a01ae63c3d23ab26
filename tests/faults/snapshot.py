"""The content of a folder of results as it is compared: what a run cost is left out, everything else counts."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from corrbench.files import COSTS, canonical_json
from corrbench.outputs import TEMPORARY

Snapshot = Mapping[str, tuple[object, str]]
"""For every file below a folder, by its relative path: what the file system says of it, and a digest of its content."""
COST_COLUMNS = ("fps", "peak_ram_mb", "peak_gpu_mb")
DERIVED: Mapping[str, tuple[str, ...]] = {
    "provenance.json": ("made", "summary", "record_sha256"),
    "plots/record.json": ("table", "record_sha256"),
}
"""Keys that hold a hash over costs: of a table with its column fps, or of a summary. What they are of is compared itself."""
UNCOMPARED = ("table.md", "report.html", "curves.png", "cost.png", "cost.svg", "last.pt")
"""What shows costs: their other numbers are those of table.csv; of last.pt, whose log has times, those of checkpoint.pth."""


def snapshot(folder: Path, known: Snapshot | None = None) -> Snapshot:
    """Read a folder. A file that is the very same one as in `known` (a hard link) is not read again."""
    found: dict[str, tuple[object, str]] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if ".versions" in path.parts or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink():
            found[name] = (None, f"link to {path.readlink()}")
            continue
        stat = path.stat()
        seen = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        same = known is not None and known.get(name, (None, ""))[0] == seen
        found[name] = (seen, known[name][1] if known is not None and same else content(path))
    return found


def differences(one: Snapshot, other: Snapshot) -> list[str]:
    """Files that are in one alone or have another content."""
    return sorted(
        p for p in one.keys() | other.keys()
        if Path(p).name not in UNCOMPARED and one.get(p, (0, None))[1] != other.get(p, (0, None))[1]
    )  # fmt: skip


def is_temporary(path: str) -> bool:
    """True for what only a running program may have there: temporaries, what is in them, and locks."""
    *folders, name = PurePath(path).parts
    return any(map(TEMPORARY.match, (*folders, name))) or (name.startswith(".") and name.endswith(".lock"))


def content(path: Path) -> str:
    """A digest of what must be equal in two runs."""
    data = path.read_bytes()
    name = "plots/record.json" if path.match("plots/*/record.json") else path.name
    left_out = COSTS | set(DERIVED.get(name, ()))
    try:
        if path.suffix == ".json":
            data = canonical_json(without(json.loads(data), left_out)).encode()
        elif path.suffix == ".jsonl":
            data = canonical_json([without(json.loads(line), left_out) for line in data.splitlines()]).encode()
        elif path.name == "table.csv":
            rows = list(csv.DictReader(io.StringIO(data.decode())))
            data = canonical_json([{k: v for k, v in row.items() if k not in COST_COLUMNS} for row in rows]).encode()
    except (ValueError, TypeError):
        pass  # damaged: its bytes
    return hashlib.sha256(data).hexdigest()


def without(value: Any, left_out: frozenset[str]) -> Any:
    """A record without some of its keys, wherever they stand."""
    if isinstance(value, dict):
        return {k: without(v, left_out) for k, v in value.items() if k not in left_out}
    return [without(v, left_out) for v in value] if isinstance(value, list) else value
