"""One page that shows everything: table, plots, overlays, paper tables; opens from disk without a network."""

from __future__ import annotations

import html
from pathlib import Path

import pandas as pd

from corrbench.benchmarks.registry import benchmark_of
from corrbench.config import Config
from corrbench.metrics.columns import METRICS
from corrbench.report.records import mark
from corrbench.report.table import shown_columns, waiting_table
from corrbench.report.targets import main_metric

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .6rem 0 1.6rem; font-size: 13.5px; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; height: auto; } details { margin: .4rem 0; } code { background: #f3f3f3; padding: 0 .25rem; }
.note { color: #666; font-size: 13.5px; }
"""


def page(config: Config, table: pd.DataFrame, papers: list[str], table_sha256: str = "") -> str:
    """The HTML of the leaderboard page; pictures are linked relative to the results folder."""
    parts = ["<!doctype html><html lang='en'><meta charset='utf-8'><title>corrbench results</title>",
             mark(table_sha256), f"<style>{_STYLE}</style>",
             "<h1>corrbench results</h1>"]  # fmt: skip
    for benchmark in config.all_benchmarks():
        label, name = config.benchmark_label(benchmark), benchmark["name"]
        part = table[table["benchmark"] == label]
        parts.append(f"<h2>{html.escape(label)}</h2>")
        if config.is_subset(benchmark):
            parts.append("<p class='note'>A part of the split: these numbers compare with nothing published.</p>")
        measured = benchmark_of(benchmark)
        if not measured.scored_here:
            parts.append(
                "<p class='note'>Scored by the evaluation server only; upload each entry's <code>submission.zip</code>, and note what it returns with <code>scripts.server_scores</code>.</p>"
            )
            for protocol_hash, group in part[part[main_metric(part)].notna()].groupby("protocol_hash", sort=False):
                names = ", ".join(dict.fromkeys(group["protocol"]))
                parts.append(f"<h3>protocol {html.escape(names)} <code>{protocol_hash}</code></h3>")
                parts.append(_table(shown_columns(group)))
            continue
        parts.append(f"<img src='plots/{name}/leaderboard.png' alt='leaderboard of {name}'>")
        for protocol_hash, group in part.groupby("protocol_hash", sort=False):
            names = ", ".join(dict.fromkeys(group["protocol"]))
            parts.append(f"<h3>protocol {html.escape(names)} <code>{protocol_hash}</code></h3>")
            parts.append(_table(shown_columns(group)))
        if measured.metric.curves:
            parts.append(f"<h3>Curves</h3><img src='plots/{name}/curves.png' alt='success and precision curves'>")
        parts.append(f"<h3>Sequences</h3><img src='plots/{name}/sequences.png' alt='score of each sequence'>")
        parts.append(f"<h3>Cost</h3><img src='plots/{name}/cost.png' alt='quality against cost'>")
        parts.append(f"<h3>{measured.label.capitalize()}</h3>")
        for entry in (e for e in config.entries if e.benchmark["name"] == name):
            source = f"{name}/{entry.id}/overlay.png"
            parts.append(
                f"<details><summary>{html.escape(entry.id)}</summary><img loading='lazy' src='{source}' alt='overlays'></details>"
            )
    if config.waiting:
        parts.append(
            "<h2>Waiting</h2><p class='note'>These rows need what no program can fetch; <code>python -m scripts.plan</code> says where to get it.</p>"
        )
        parts.append(_table(waiting_table(config.waiting)))
    links = " ".join(f"<a href='paper/{p}.md'>{html.escape(p)}</a>" for p in papers)
    parts.append(f"<h2>Paper against reproduced</h2><p>{links}</p>")
    notes = " ".join(html.escape(metric.note) for metric in METRICS if metric.note)
    parts.append(f"<p class='note'>{notes} Rows of different protocol hashes were measured by different rules and are never ranked together.</p></html>")  # fmt: skip
    return "\n".join(parts) + "\n"


def _table(frame: pd.DataFrame) -> str:
    def cell(value: object) -> str:
        if value is None or (isinstance(value, float) and pd.isna(value)):
            return ""
        return html.escape(f"{value:.2f}" if isinstance(value, float) else str(value))

    head = "".join(f"<th>{html.escape(c)}</th>" for c in frame.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell(v)}</td>" for v in row) + "</tr>" for row in frame.itertuples(index=False)
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def write_page(path: Path, config: Config, table: pd.DataFrame, papers: list[str], table_sha256: str = "") -> None:
    """Write the page. `table_sha256`: of the table.csv that it shows."""
    path.write_text(page(config, table, papers, table_sha256), encoding="utf-8")
