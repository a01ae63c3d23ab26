"""All scores of a config as one table."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from corrbench.config import Config
from corrbench.entries import Entry
from corrbench.errors import Refusal, few
from corrbench.files import file_hash
from corrbench.metrics.columns import JF, METRICS, all_columns
from corrbench.reading import read_text
from corrbench.report.records import read_intact
from corrbench.report.targets import Target, band_of, main_metric, read_targets, target_of
from corrbench.waiting import Waiting

COLUMNS = (
    "entry", "method", "backbone", "weights", "tier", "trained_on", "benchmark", "protocol", "protocol_hash", "grid",
    *all_columns(), "server_date", "published", "delta", "verdict", "band", "target_grade", "fps", "peak_gpu_mb", "peak_ram_mb", "gpu_seconds",
    "weights_sha256", "data_fingerprint", "code_version", "torch", "device",
)  # fmt: skip
SHOWN = ("server_date", "published", "delta", "verdict", "target_grade", "trained_on", "fps")
"""Columns that people read besides the metric's, where some row has a value."""


def build_table(config: Config, results: dict[tuple[str, str], dict[str, Any]]) -> pd.DataFrame:
    """One row per entry with the columns of `COLUMNS`; quality in percent; empty where a figure does not apply.

    `results` as `load_results` gives them.
    """
    targets = read_targets(config)
    rows = [_row(config, entry, results[entry.key], targets) for entry in config.entries]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(config: Config, entry: Entry, result: dict[str, Any], targets: list[Target]) -> dict[str, Any]:
    summary, scores = result["summary"], result["scores"]
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    grids = sorted({s["grid"] for s in summary["sequences"].values() if "grid" in s})
    row |= {
        "entry": entry.id, "method": entry.method["method"], "backbone": entry.method["backbone"],
        "weights": entry.source, "tier": entry.tier, "trained_on": trained_on(config, entry), "benchmark": config.benchmark_label(entry.benchmark),
        "protocol": entry.protocol.name, "protocol_hash": entry.protocol.hash, "grid": "/".join(grids) or None,
        "fps": summary["fps"], "peak_gpu_mb": summary["peak_gpu_mb"], "peak_ram_mb": summary["peak_ram_mb"],
        "gpu_seconds": summary["gpu_seconds"], "weights_sha256": "+".join(h[:12] for h in summary["record"]["weights_sha256"]) or None,
        "data_fingerprint": summary["record"]["inputs"][:12], "torch": summary["libraries"].get("torch"), "device": summary["device"],
        "code_version": summary["record"]["code"],
    }  # fmt: skip
    server = result.get("server")
    if scores is not None or server is not None:
        if scores is not None:
            columns = (c for c in entry.measured_on.metric.columns if c.official is not None)
            row |= {c.name: 100 * scores["global"][c.official] for c in columns}
            row["code_version"] += f"+{scores['record']['code']}"
        elif server is not None:
            row |= {**server["scores"], "server_date": server["date"]}
        target = target_of(entry, targets, subset=config.is_subset(entry.benchmark))
        if target is not None:
            band = band_of(entry)
            row |= {
                "published": target.score, "delta": row[target.headline] - target.score,
                "verdict": target.verdict(row, band), "band": band[0], "target_grade": target.values["grade"],
            }  # fmt: skip
    return row


def trained_on(config: Config, entry: Entry) -> str | None:
    """How many videos each training of an entry had, the first stage first: ``kinetics400: 238112 of 240000``.

    None where nothing was trained here.
    """
    runs = [
        (recipe, config.training.run_folder(recipe.name, *w.tier))
        for w in entry.weights
        if w.tier is not None
        for recipe in reversed(config.training.chain(w))
    ]
    folder = config.probe_folder(entry)
    if folder is not None and entry.probe is not None and entry.probe.recipe is not None:
        runs.append((entry.probe.recipe, folder))
    said = []
    for recipe, place in runs:
        whole = config.rows.datasets.get(recipe.data, "data").get("videos", {}).get("whole")
        count = read_intact(place / "recipe.json")["videos"]
        said.append(f"{recipe.data}: {count}" + (f" of {whole}" if whole else ""))
    return "; ".join(dict.fromkeys(said)) or None


_TEXT = ("entry", "method", "backbone", "weights", "tier", "trained_on", "benchmark", "protocol", "protocol_hash", "grid", "verdict", "target_grade", "server_date",
         "weights_sha256", "data_fingerprint", "code_version", "torch", "device")  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
"""First characters that a spreadsheet takes for a formula, and the apostrophe that is put before them (OWASP, CSV injection)."""


def read_table(path: Path) -> pd.DataFrame:
    """A written table.csv. Text stays text: pandas alone would read the hash 4189172563e7 as a number.

    Raises Refusal for a file that is missing, no CSV, or without the columns of a table.
    """
    try:
        table = pd.read_csv(io.StringIO(read_text(path)), dtype=dict.fromkeys(_TEXT, str), keep_default_na=False, na_values=[""])  # fmt: skip
        if missing := [name for name in COLUMNS if name not in table.columns]:
            raise ValueError(f"no column {few(missing)}")
        if text := [c for c in COLUMNS if c not in _TEXT and not pd.api.types.is_numeric_dtype(table[c])]:
            raise ValueError(f"no numbers in {few(text)}")
    except ValueError as error:  # pandas' errors of parsing are such, too
        raise Refusal(
            f"{path}: not a table ({' '.join(str(error).split())[:200]})", expected="table.csv as it was written", do=_AGAIN.format(path)
        ) from error  # fmt: skip
    for name in _TEXT:
        table[name] = table[name].map(lambda v: v.removeprefix("'") if isinstance(v, str) else v)
    return table


_AGAIN = "make the table again (your snakemake command with  --forcerun {} --  before the target)"


def read_checked_table(path: Path) -> tuple[pd.DataFrame, str]:
    """A table.csv and its sha256, after provenance.json beside it has vouched for both table.csv and table.md.

    Raises Refusal for a table that was altered since it was made, or that nothing vouches for.
    """
    table, sha256 = read_table(path), file_hash(path)
    record = read_intact(path.with_name("provenance.json"), "where every row came from")
    made = record.get("made") or {}
    markdown = path.with_name("table.md")
    for file, key in ((path, "csv"), (markdown, "markdown")):
        if (file == path or file.exists()) and made.get(key) != file_hash(file):
            raise Refusal(
                f"{file}: not the file of which {path.with_name('provenance.json')} says where its rows came from",
                expected="the file as it was written",
                do=_AGAIN.format(path),
            )
    return table, sha256


def check_rows(config: Config, table: pd.DataFrame, path: Path) -> None:
    """Raise Refusal for a table that has other rows than the config asks for."""
    asked = [(config.benchmark_label(e.benchmark), e.id) for e in config.entries]
    rows = list(zip(table["benchmark"], table["entry"], strict=True))
    if rows != asked:
        odd = [" ".join(map(str, row)) for row in [*dict.fromkeys([*rows, *asked])] if (row in rows) != (row in asked)]
        raise Refusal(
            f"{path}: rows of other entries than the config's ({few(odd) or 'in another order'})",
            expected="one row for every entry of the config",
            do=_AGAIN.format(path),
        )


def to_csv(table: pd.DataFrame) -> str:
    """CSV with two decimals. A text that a spreadsheet would take for a formula gets an apostrophe; `read_table` takes it away."""
    safe = table.map(lambda v: f"'{v}" if isinstance(v, str) and v.startswith(_FORMULA) else v)
    return safe.to_csv(index=False, float_format="%.2f", lineterminator="\n")


def to_markdown(table: pd.DataFrame, waiting: Sequence[Waiting] = ()) -> str:
    """The main columns as Markdown, one list per benchmark and protocol hash: other rules are never ranked together."""
    out = ["# Results", ""]
    groups = table.groupby(["benchmark", "protocol_hash"], sort=False)
    for (benchmark, protocol_hash), group in groups:
        names = ", ".join(dict.fromkeys(group["protocol"]))
        out += [f"## {benchmark}, protocol {names} ({protocol_hash})", ""]
        part = shown_columns(group)
        out += [markdown_table(part), ""]
    out += [
        JF.note,
        "Rows of different protocol hashes were measured by different rules and are listed apart.",
        *(metric.note for metric in METRICS if metric.note and metric is not JF),
        "published: the number of the paper or repository (J&F, or success); verdict: reproduced within 0.3, close within 1.0; trained here: reproduced within 1.0.",
        "fps: frames per second of the network and the engine; on a CPU it depends on what else the machine does.", "",
    ]  # fmt: skip
    if waiting:
        out += [
            "## Waiting",
            "",
            markdown_table(waiting_table(waiting)),
            "",
            "`python -m scripts.plan` says where to get it.",
            "",
        ]
    return "\n".join(out)


def waiting_table(waiting: Sequence[Waiting]) -> pd.DataFrame:
    """The entries that wait, and what for."""
    rows = [
        {
            "entry": w.entry.id,
            "benchmark": w.entry.benchmark["name"],
            "waiting for": " and ".join(n.title + (f" ({n.size})" if n.size else "") for n in w.needs),
        }
        for w in waiting
    ]
    return pd.DataFrame(rows, columns=["entry", "benchmark", "waiting for"])


def shown_columns(group: pd.DataFrame) -> pd.DataFrame:
    """The columns that people read of the rows of one benchmark and protocol, best first."""
    metric = main_metric(group)
    names = ["entry", *all_columns(), *SHOWN]
    shown = [name for name in names if name in ("entry", metric) or group[name].notna().any()]
    return group.sort_values(metric, ascending=False)[shown]


def markdown_table(frame: pd.DataFrame) -> str:
    """A data frame as a Markdown table; numbers with two decimals, missing values empty."""

    def cell(value: Any) -> str:
        if value is None or (isinstance(value, float) and pd.isna(value)):
            return ""
        return f"{value:.2f}" if isinstance(value, float) else " ".join(str(value).split()).replace("|", "\\|")

    lines = ["| " + " | ".join(str(c) for c in frame.columns) + " |", "|" + "---|" * len(frame.columns)]
    lines += ["| " + " | ".join(cell(v) for v in row) + " |" for row in frame.itertuples(index=False)]
    return "\n".join(lines)
