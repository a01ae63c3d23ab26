"""Propagation of one entry in several jobs: which sequences a part has, and the parts as one summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corrbench.errors import Refusal
from corrbench.files import file_hash
from corrbench.propagation.scoremaps import ScoreReader


def part_numbers(text: str) -> tuple[int, int]:
    """``1/4`` as (1, 4). Raises Refusal for anything else."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal()):
        raise Refusal(f"--part {text}", expected="I/K, for example 0/4", do="correct --part")
    return int(part), int(parts)


def part_of(sequences: Sequence[str], part: int, parts: int) -> list[str]:
    """Every `parts`-th sequence from `part` (0-based): long and short ones spread about evenly."""
    if not 0 <= part < parts:
        raise Refusal(f"part {part} of {parts}", expected=f"0 to {parts - 1}", do="correct --part")
    return list(sequences[part::parts])


def unfit(summary: Mapping[str, Any], wanted: Mapping[str, Any], labels: Path) -> str:
    """Why a part is not one of the wanted propagation; empty if it is.

    `wanted`: entries that its record must have. `labels`: the folder whose score files must be the part's own.
    """
    differing = [name for name, value in wanted.items() if summary["record"].get(name) != value]
    if differing:
        return "other " + ", ".join(differing)
    for name in summary["sequences"]:
        try:
            if file_hash(labels / f"{name}.npz") != summary["sequences"][name]["sha256"]:
                return f"{name}.npz was replaced or damaged since"
            if ScoreReader(labels / f"{name}.npz").record.get("key") != summary["key"]:
                return f"{name}.npz was replaced by another run"
        except Refusal as refusal:
            return str(refusal)
    return ""


def merge(summaries: Sequence[Mapping[str, Any]], sequences: Sequence[str]) -> dict[str, Any]:
    """The summary that one job over all `sequences` would have written.

    Raises Refusal when the parts were not made alike (settings, weights, data, code, device) or do not add up.
    """
    first = summaries[0]
    for other in summaries[1:]:
        differing = [k for k in first["record"] if other["record"].get(k) != first["record"][k]]
        if other["key"] != first["key"] or differing:
            values = [f"{k}: {first['record'][k]} and {other['record'].get(k)}" for k in differing]
            raise Refusal(
                f"parts of {first['entry']} were not made alike: {'; '.join(values)}",
                expected="parts of one set of settings, weights, data, code and device",
                do="ask for one GPU model for all parts (or take `shards` out of the config) and run again",
            )
    found = {name: d for summary in summaries for name, d in summary["sequences"].items()}
    if sorted(found) != sorted(sequences):
        missing = sorted(set(sequences) - set(found))
        raise Refusal(
            f"parts of {first['entry']} hold {len(found)} sequences, {missing} are missing",
            expected=f"the {len(sequences)} of the benchmark",
            do="run the workflow again: the parts will be made again",
        )
    done = {name: found[name] for name in sequences}
    return {**first, **totals(done), "sequences": done}


def totals(done: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Frames, seconds, rate and peaks over all sequences.

    `seconds` is the time of the job, reading and writing included; `fps` the rate of the network and the engine alone.
    """
    rates = [(d["frames"] - 1, d["fps"]) for d in done.values() if d.get("fps")]
    busy = sum(frames / fps for frames, fps in rates)
    seconds = sum(d["seconds"] for d in done.values())

    def peak(name: str) -> float | None:
        return max((d[name] for d in done.values() if d.get(name) is not None), default=None)

    return {
        "frames": sum(d["frames"] for d in done.values()),
        "seconds": seconds,
        "fps": sum(frames for frames, _ in rates) / busy if busy else None,
        "peak_ram_mb": peak("peak_ram_mb"),
        "peak_gpu_mb": peak("peak_gpu_mb"),
        "gpu_seconds": seconds if peak("peak_gpu_mb") is not None else None,
    }
