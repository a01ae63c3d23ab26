"""What shows results, the table, the plots and the page, against the results that lie there and what a config asks."""

from __future__ import annotations

from pathlib import Path

from corrbench.config import Config
from corrbench.errors import few
from corrbench.files import digest
from corrbench.provenance import code_version
from corrbench.report.audit import Audit, mapping
from corrbench.report.records import table_of_page
from corrbench.report.targets import target_files
from corrbench.waiting import note
from corrbench.workflow import Notes

ANOTHER = "shows another table"


def audit_shown(config: Config, notes: Notes | None = None) -> dict[Path, str]:
    """Every file of a results folder that does not belong to what the config asks, those that show results included: why, by path."""
    look = Audit(config, notes)
    look.run()
    results = config.results
    made = look.record(results / "provenance.json")
    if results / "provenance.json" in look.found:  # a damaged one vouches for nothing
        look.found[results / "table.csv"] = f"provenance.json: {look.found.pop(results / 'provenance.json')}"
    if made is not None and (said := _table(look, made)):
        look.found[results / "table.csv"] = ", ".join(said)
    if made is not None:
        _pictures(look)
    return look.found


def _table(look: Audit, made: dict[str, object]) -> list[str]:
    """What is wrong with the table that `made` (provenance.json) vouches for."""
    config, results = look.config, look.config.results
    listed = made.get("rows")
    parts = [mapping(row) for row in listed] if isinstance(listed, list) else []
    rows = {(str(row.get("benchmark")), str(row.get("entry"))): row.get("records") for row in parts}
    asked = {(config.benchmark_label(e.benchmark), e.id): look.row_records(e) for e in config.entries}
    said = []
    if list(rows) != list(asked):
        said.append("rows of other entries")
    elif other := [key[1] for key, records in asked.items() if None not in records.values() and rows[key] != records]:
        said.append(f"rows of other results: {few(other)}")
    table = {"code of the table changed": ("code", code_version("scripts/table.py")),
             "other published numbers": ("targets", targets_version(config, look.notes)),
             "other rows wait": ("waiting", digest(note(config.waiting))),
             "table.csv is not what was written": ("csv", look.notes.sha256(results / "table.csv")),
             "table.md is not what was written": ("markdown", look.notes.sha256(results / "table.md"))}  # fmt: skip
    return said + [why for why, (key, now) in table.items() if now and mapping(made.get("made")).get(key) != now]


def _pictures(look: Audit) -> None:
    """The page and the plots name the table that they show."""
    results = look.config.results
    table = look.notes.sha256(results / "table.csv")
    page = results / "report.html"
    if page.is_file() and table_of_page(page) != table:
        look.found[page] = ANOTHER
    for name in {e.benchmark["name"] for e in look.config.entries if e.measured_on.scored_here}:
        path = results / "plots" / name / "record.json"
        made = look.record(path)
        if made is not None and made.get("table") != table:
            look.found[path] = ANOTHER


def targets_version(config: Config, notes: Notes) -> str:
    """Content version of all published numbers."""
    return notes.version({f"{i}/{path.name}": path for i, path in enumerate(target_files(config))})
