"""What the doctor wrote of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corrbench.files import read_record


def read_findings(path: Path) -> dict[str, Any]:
    """What the doctor wrote of a data set: settings, counts, fingerprint, and the hash of every file. Raises Refusal for any other file."""
    keys = ("row", "sequences", "label", "kind", "fingerprint", "counts", "files")
    return read_record(path, "inputs.json or annotations.json as scripts/doctor.py writes them", keys=keys)
