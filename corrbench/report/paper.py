""" "Paper against reproduced": every published row of a benchmark beside what was measured here."""

from __future__ import annotations

from typing import Any

import pandas as pd

from corrbench.config import Config
from corrbench.report.table import markdown_table
from corrbench.report.targets import read_targets, target_of

_BOXES = {"precision": "precision", "success": "success"}


def paper_tables(config: Config, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """For every benchmark with published numbers: all its rows, once for every entry that reproduces it, or `not run`."""
    targets = read_targets(config)
    reproduced: dict[str, list[Any]] = {}
    rows_by_key = {(row["benchmark"], row["entry"]): row for row in table.to_dict("records")}
    for entry in config.entries:
        target = target_of(entry, targets, subset=config.is_subset(entry.benchmark))
        if target is not None and entry.benchmark["scoring"] != "server":
            found = reproduced.setdefault(target.values["id"], [])
            found.insert(
                0 if entry.source == "released" else len(found), rows_by_key[entry.benchmark["name"], entry.id]
            )
    tables: dict[str, list[dict[str, Any]]] = {}
    for target in targets:
        values = target.values
        measured = {"J&F": "J&F", "J-Mean": "J-mean", "F-Mean": "F-mean"} if "J&F" in values else _BOXES
        for ours in reproduced.get(values["id"], [None]):
            tables.setdefault(target.benchmark, []).append({
                "row": values["label"], "protocol": values["protocol"] or "its own",
                **{f"{name} published": values.get(name) for name in measured},
                **{f"{name} reproduced": ours[column] if ours else None for name, column in measured.items()},
                "delta": ours["delta"] if ours else None, "verdict": ours["verdict"] if ours else "not run",
                "entry": ours["entry"] if ours else None, "grade": values["grade"], "source": values["source"], "note": values.get("note"),
            })  # fmt: skip
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def paper_markdown(benchmark: str, frame: pd.DataFrame) -> str:
    """One table as a Markdown page."""
    return "\n".join([
        f"# Paper against reproduced: {benchmark}", "", markdown_table(frame), "",
        "Percent. Grades: S printed by the authors for their released weights; R another official repository; P the paper's own table; "
        "X printed by somebody else.",
        "Verdict: reproduced within 0.3 of the published number (J&F; success and precision of boxes), close within 1.0; of what was trained here, reproduced within 1.0. `not run` when no entry of this config has the "
        "method, weights and protocol hash on the whole benchmark.", "",
    ])  # fmt: skip
