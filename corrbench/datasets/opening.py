"""The files of a benchmark by its row, and what the doctor wrote of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corrbench.files import read_record
from corrbench.images import Kind


def data_files(root: Path, row: Mapping[str, Any], sequences: Sequence[str], kind: Kind) -> dict[str, Path]:
    """The files of a benchmark that its network (`inputs`: images, first annotations) or its metric reads, by name."""
    from importlib import import_module  # the classes of layouts are no part of what reads findings

    found: dict[str, Path] = (
        import_module("corrbench.benchmarks.registry").benchmark_of(row).files(root, sequences, kind)
    )
    return found


def read_findings(path: Path) -> dict[str, Any]:
    """What the doctor wrote of a data set: settings, counts, fingerprint, and the hash of every file. Raises Refusal for any other file."""
    keys = ("row", "sequences", "label", "kind", "fingerprint", "counts", "files")
    return read_record(path, "inputs.json or annotations.json as scripts/doctor.py writes them", keys=keys)
