"""Everything that was measured for a config, after checking that each result was made by the settings of the config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corrbench.config import Config
from corrbench.entries import Entry
from corrbench.errors import Refusal
from corrbench.report.audit import audit
from corrbench.report.records import AGAIN, read_intact
from corrbench.report.server import read_server


def entry_folder(config: Config, entry: Entry) -> Path:
    """Where the results of an entry lie."""
    return config.results / entry.benchmark["name"] / entry.id


def load_results(config: Config) -> dict[tuple[str, str], dict[str, Any]]:
    """The summary of propagation or tracking, and the scores, of every entry by (benchmark, id).

    Raises Refusal that names every result which is missing or damaged, or which other settings, weights, data or code made.
    """
    results = {}
    for entry in config.entries:
        folder = entry_folder(config, entry)
        scored = entry.measured_on.scored_here
        results[entry.key] = {
            "summary": read_intact(folder / entry.summary),
            "scores": read_intact(folder / "scores" / "scores.json") if scored else None,
            "server": None if scored else read_server(folder, entry.benchmark),
        }
        for weights in entry.weights:
            read_intact(config.results / "weights" / weights.path / "report.json")
        for kind in ("inputs", "annotations"):
            read_intact(config.results / entry.benchmark["name"] / "data" / f"{kind}.json")
    stale = audit(config)
    if stale:
        lines = "\n    ".join(f"{path}: {why}" for path, why in stale.items())
        raise Refusal(
            f"results that do not belong to this config:\n    {lines}",
            expected="results made by the settings, weights, data and code of now",
            do=AGAIN.format(" ".join(str(path) for path in stale)),
        )
    return results
