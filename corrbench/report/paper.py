""" "Paper against reproduced": every published row of a benchmark beside what was measured here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from corrbench.config import Config
from corrbench.metrics.columns import METRICS
from corrbench.report.table import markdown_table
from corrbench.report.targets import Target, read_targets, target_of

COLUMNS = {**{c.key: c.name for metric in METRICS for c in metric.columns}, "fps": "fps"}
"""What papers print, by the key of a target, and the column of the table that has it."""


def paper_tables(config: Config, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """All published rows of every benchmark, each once for every entry that reproduces it.

    It has the columns that some row has a published number for. A row without a result says why in `verdict`.
    """
    targets = read_targets(config)
    found: dict[str, list[dict[str, Any]]] = {}
    rows_by_key = {
        (row["benchmark"], row["entry"]): {str(k): v for k, v in row.items()} for row in table.to_dict("records")
    }
    for entry in config.entries:
        target = target_of(entry, targets, subset=config.is_subset(entry.benchmark))
        if target is not None:
            ours = rows_by_key[entry.benchmark["name"], entry.id]
            if not entry.measured_on.scored_here and pd.isna(ours[entry.measured_on.metric.headline.name]):
                ours = {"entry": entry.id, "fps": ours["fps"], "verdict": "packed for the evaluation server"}
            of_target = found.setdefault(target.values["id"], [])
            of_target.insert(0 if entry.source == "released" else len(of_target), ours)
    for waits in config.waiting:
        part = waits.entry.benchmark["name"] in config.values["subsets"]
        target = target_of(waits.entry, targets, subset=part)
        if target is not None:
            found.setdefault(target.values["id"], []).append({"entry": waits.entry.id, "verdict": waits.verdict})
    tables: dict[str, list[dict[str, Any]]] = {}
    for target in sorted(targets, key=_nobody_can_run):
        values = target.values
        for ours in found.get(values["id"]) or [{"verdict": _why_not(target, targets, found)}]:
            tables.setdefault(target.benchmark, []).append({
                "row": values["label"], "protocol": values["protocol"] or "its own",
                **{
                    f"{name} {side}": value
                    for name, column in COLUMNS.items()
                    for side, value in (("published", values.get(name)), ("reproduced", ours.get(column)))
                },
                **{name: ours.get(name) for name in ("delta", "verdict", "entry")},
                "grade": values["grade"], "source": values["source"], "note": values.get("note"),
            })  # fmt: skip
    return {name: _printed(pd.DataFrame(rows)) for name, rows in tables.items()}


def _nobody_can_run(target: Target) -> bool:
    return target.values["method"] is None or target.values["protocol"] is None


def _why_not(target: Target, targets: list[Target], found: Mapping[str, Any]) -> str:
    """Why no entry reproduces a row."""
    if target.values["method"] is None:
        return "no such network here"
    if target.values["protocol"] is None:
        return "its rules are not known"
    key = (target.benchmark, target.values["method"], target.values["weights"], target.protocol_hash)
    for other in targets:
        same = (other.benchmark, other.values["method"], other.values["weights"], other.protocol_hash) == key
        if same and (rows := found.get(other.values["id"])):
            waits = all(str(row["verdict"]).startswith("waiting") for row in rows)
            return str(rows[0]["verdict"]) if waits else f"measured as: {other.values['label']}"
    return "not run"


def _printed(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the columns that no row has a published number for."""
    names = [name for name in COLUMNS if frame[f"{name} published"].isna().all()]
    return frame.drop(columns=[f"{name} {side}" for name in names for side in ("published", "reproduced")])


def paper_markdown(benchmark: str, frame: pd.DataFrame) -> str:
    """One table as a Markdown page."""
    return "\n".join([
        f"# Paper against reproduced: {benchmark}", "", markdown_table(frame), "",
        "Percent. Grades: S printed by the authors for their released weights; R another official repository; P the paper's own table; "
        "X printed by somebody else.",
        "Verdict: reproduced within 0.3 of the published number (J&F; success and precision of boxes), close within 1.0; of what was trained here, reproduced within 1.0. `not run`: no entry of this config has the "
        "method, weights and protocol hash on the whole benchmark. `no such network here`: corrbench does not have it. "
        "`its rules are not known`: the source does not state them. `waiting for`: its data "
        "or file has to be placed first. `packed for the evaluation server`: upload its submission.zip, and note what comes back with scripts.server_scores.",
        "fps: published on the authors' GPU, reproduced on this machine; the two do not compare.", "",
    ])  # fmt: skip
