"""Published numbers and the verdict on a reproduced one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corrbench.config import Config
from corrbench.entries import Entry
from corrbench.errors import Refusal, nearest
from corrbench.metrics.columns import METRICS, Metric
from corrbench.propagation.protocol import Protocol
from corrbench.rows import read_yaml, validate
from corrbench.segmentation.protocol import MaskPropagation
from corrbench.tracking.protocol import Probe

if TYPE_CHECKING:
    import pandas as pd  # planning reads this module and must not wait for pandas

BAND, TRAINED_BAND = (0.3, 1.0), (1.0, 1.0)
"""J&F within the first number of the target is `reproduced`, within the second `close`, else `differs`. Two runs of the
same weights by two harnesses differ by 0.18 (CRW's and SFC's READMEs). What was trained here, the layer of a probe included, has
the second band: runs of one recipe differ by 0.5 (VFS issue 10), and CRW trained again gave 66.9 for 67.6 (videowalk issue 9).
Success and precision of boxes have the same bands."""


@dataclass(frozen=True)
class Target:
    """One published row."""

    benchmark: str
    values: Mapping[str, Any]
    protocol_hash: str | None

    @property
    def metric(self) -> Metric:
        """The metric whose deciding columns the row has."""
        return next(m for m in METRICS if all(c.key in self.values for c in m.deciding))

    @property
    def headline(self) -> str:
        """The column that `score` is compared with."""
        return self.metric.headline.name

    @property
    def score(self) -> float:
        """The published number by which rows are ranked, in percent."""
        return float(self.values[self.metric.headline.key])

    def verdict(self, reproduced: Mapping[str, Any], band: tuple[float, float]) -> str:
        """`reproduced`, `close` or `differs`, from the band; of several columns the one that is furthest off counts."""
        near, far = band
        distances = (abs(round(reproduced[c.name] - float(self.values[c.key]), 6)) for c in self.metric.deciding)
        distance = max(distances)
        return "reproduced" if distance <= near else "close" if distance <= far else "differs"


def band_of(entry: Entry) -> tuple[float, float]:
    """The band of an entry."""
    return TRAINED_BAND if entry.trained_here else BAND


def target_files(config: Config) -> list[Path]:
    """All files of published numbers, in a stable order."""
    return [p for folder in config.rows.folders for p in sorted((folder / "targets").glob("*.yaml"))]


def read_targets(config: Config) -> list[Target]:
    """All published rows; a protocol named by one must exist."""
    found = []
    for path in target_files(config):
        table = validate(read_yaml(path), "targets", str(path))
        for row in table["rows"]:
            name = row["protocol"]
            found.append(Target(table["benchmark"], row, _hash(config, name, f"{path}: {row['id']}") if name else None))
    return found


def check_published(config: Config) -> None:
    """Raise Refusal for given masks that name a published row which their benchmark does not have."""
    asked = [e for e in config.entries if e.given is not None and e.given.published is not None]
    tables = [read_yaml(path) for path in target_files(config)] if asked else []
    for entry in asked:
        benchmark = entry.benchmark["name"]
        known = [row["id"] for table in tables if table["benchmark"] == benchmark for row in table["rows"]]
        if entry.given is not None and (published := entry.given.published) not in known:
            raise Refusal(
                f"masks {entry.method['name']}: published: no row {published!r} on {benchmark}",
                expected=nearest(str(published), known),
                do="correct it, or leave `published:` out",
            )


def _hash(config: Config, name: str, where: str) -> str:
    if name in config.rows.probes:
        return Probe.from_row(config.rows.probes.get(name, where), config.rows.recipes).hash
    if name in config.rows.segmentation:
        return MaskPropagation.from_row(config.rows.segmentation.get(name, where)).hash
    return Protocol.from_row(config.rows.protocols.get(name, where)).hash


def coverage(config: Config) -> dict[str, dict[str, list[str]]]:
    """The published rows of every paper by what becomes of them: {paper: {"run": ids, "wait": ids, "not asked for": ids}}."""
    targets = read_targets(config)
    run = {
        t.values["id"]
        for e in config.entries
        if e.given is None and (t := target_of(e, targets, subset=config.is_subset(e.benchmark)))
    }
    wait = {
        t.values["id"]
        for w in config.waiting
        if w.entry.given is None
        and (t := target_of(w.entry, targets, subset=w.entry.benchmark["name"] in config.values["subsets"]))
    }
    found: dict[str, dict[str, list[str]]] = {}
    for target in targets:
        name = target.values["id"]
        if paper := target.values.get("paper"):
            what = "run" if name in run else "wait" if name in wait else "not asked for"
            found.setdefault(paper, {}).setdefault(what, []).append(name)
    return found


def covered(config: Config) -> str:
    """`coverage` in a line; empty for a config without a published row, and where a file of targets is refused: the table says so."""
    try:
        found = coverage(config)
    except Refusal:
        return ""
    if not any("run" in rows or "wait" in rows for rows in found.values()):
        return ""
    said = [
        f"{paper} " + ", ".join(f"{len(ids)} {what}" for what, ids in rows.items()) for paper, rows in found.items()
    ]
    return f"Published rows: {'; '.join(said)}."


def main_metric(table: pd.DataFrame) -> str:
    """The column by which the rows of one benchmark are ranked: that of the first metric which has a number there."""
    names = [metric.headline.name for metric in METRICS]
    return next((name for name in names if table[name].notna().any()), names[0])


def target_of(entry: Entry, targets: Iterable[Target], *, subset: bool) -> Target | None:
    """The published row that this entry reproduces: same benchmark, method, kind of weights and protocol hash.

    A part of a benchmark reproduces nothing. Of several such rows that of the same protocol name is the reference, else
    the first in the file.
    """
    if subset:
        return None
    if entry.given is not None:
        named = (entry.benchmark["name"], entry.given.published)
        return next((t for t in targets if (t.benchmark, t.values["id"]) == named), None)
    # a faithful run of a recipe is measured against what its authors' weights reached; smoke and short against nothing
    faithful = entry.source.split("-")[0] == "paper"
    kind = "released" if faithful else entry.source if entry.source in ("released", "none") else None
    wanted = (entry.benchmark["name"], entry.method["name"], kind, entry.protocol.hash)
    same = [t for t in targets if (t.benchmark, t.values["method"], t.values["weights"], t.protocol_hash) == wanted]
    preferred = [t for t in same if t.values["protocol"] == entry.protocol.name]
    return next(iter(preferred or same), None)
