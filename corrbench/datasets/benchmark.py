"""What of a benchmark is measured: the whole split or a subset, and how tables call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from corrbench.benchmarks.registry import benchmark_of
from corrbench.errors import Refusal, nearest
from corrbench.rows import AllRows

Subset = Literal["present"] | Sequence[str] | None
"""None: the whole split. ``present``: what lies below the data root. A list: those sequences."""


def measured_sequences(row: Mapping[str, Any], subset: Subset, root: Path) -> list[str]:
    """The sequences that are measured, in the order of the split. `row` is a benchmark row.

    Raises Refusal for a subset with a name that the split lacks, or when nothing of the split is present.
    """
    benchmark = benchmark_of(row)
    whole = benchmark.split(root)
    if subset is None:
        if len(whole) != benchmark.size:
            raise Refusal(
                f"{root}: {len(whole)} videos, {benchmark.lies(root)}" if root.is_dir() else f"{root}: no such folder",
                expected=f"the {benchmark.size} of {row['title']}",
                do="correct the root or complete the data set (python -m scripts.dataset lists what must lie where), or measure a part of it:"
                f" `subsets: {{{row['name']}: present}}` in a config, --subset by hand",
            )
        return whole
    if subset == "present":
        found = benchmark.present(root, whole)
        if not found:
            raise Refusal(
                f"{root}: none of the {benchmark.size} sequences of {row['name']} is there",
                expected=f"folders {benchmark.lies(root)}",
                do="correct the data root",
            )
        return found
    for name in subset:
        if name not in whole:
            raise Refusal(
                f"subsets.{row['name']}: no sequence {name!r}", expected=nearest(name, whole), do="correct the name"
            )
    return [n for n in whole if n in subset]


def is_part(row: Mapping[str, Any], sequences: Sequence[str]) -> bool:
    """True if `sequences` are not the whole split. (Where the data root lists the split, its size decides.)"""
    if row["sequences"] == "listed":
        return len(sequences) != benchmark_of(row).size
    return list(sequences) != list(row["sequences"])


def benchmark_label(row: Mapping[str, Any], sequences: Sequence[str]) -> str:
    """The name in tables; a subset says so: ``davis2016-val (8 of 20)``."""
    return f"{row['name']} ({len(sequences)} of {benchmark_of(row).size})" if is_part(row, sequences) else row["name"]


def benchmark_settings(row: Mapping[str, Any], sequences: Sequence[str]) -> dict[str, Any]:
    """The benchmark as the stages read it: the row, the measured sequences and the label. No path of a data root."""
    return {
        "row": {k: v for k, v in row.items() if k not in ("sequences", "title", "generate")},
        "sequences": list(sequences),
        "subset": is_part(row, sequences),
        "label": benchmark_label(row, sequences),
    }


def settings_by_hand(name: str, root: Path, *, subset: bool, rows: Sequence[Path] = ()) -> dict[str, Any]:
    """Settings of a benchmark for a program that is run by hand on the data below `root`."""
    row = AllRows(rows).benchmarks.get(name, "--benchmark")
    return benchmark_settings(row, measured_sequences(row, "present" if subset else None, root))
