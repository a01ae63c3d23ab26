"""Masks on disk against the record of the run that wrote them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corrbench.errors import of_system
from corrbench.files import digest, file_hash
from corrbench.workflow import Notes

_RIGHT = "as they were written"


def altered_masks(folder: Path, record: Mapping[str, Any], notes: Notes) -> list[str]:
    """Names of masks that are not what `record` (``masks/record.json``) lists: changed, missing or added since.

    Read once: while no file of the folder changes, a second look costs one stat per file. Empty for a record that lists no files.
    """
    wanted: dict[str, str] | None = record.get("files")
    if wanted is None:
        return []
    there = {name: folder / name for name in _pictures(folder)}

    def compare() -> str:
        wrong = [name for name in sorted(wanted.keys() | there.keys())
                 if name not in there or wanted.get(name) != file_hash(there[name])]  # fmt: skip
        return "\n".join(wrong) or _RIGHT

    found = notes.remembered(f"masks {digest(wanted, 64)}", there, compare) if there else "\n".join(sorted(wanted))
    return [] if found == _RIGHT else found.splitlines()


def _pictures(folder: Path) -> list[str]:
    found = []
    try:
        for inside in os.scandir(folder):
            if inside.is_dir():
                found += [f"{inside.name}/{f.name}" for f in os.scandir(inside.path) if f.name.endswith(".png")]
            elif inside.name.endswith(".png"):
                found.append(inside.name)
    except OSError as error:
        raise of_system(error, folder) from error
    return found
