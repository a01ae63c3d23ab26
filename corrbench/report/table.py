"""All scores of a config as one table, after checking that each was made by the settings of the config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from corrbench.config import Config
from corrbench.entries import Entry
from corrbench.errors import Refusal
from corrbench.files import file_hash, read_json
from corrbench.pretraining.recipe import pretrain_code
from corrbench.provenance import code_version
from corrbench.report.targets import Target, read_targets, target_of
from corrbench.workflow import content_version, data_files

COLUMNS = (
    "entry", "method", "backbone", "weights", "tier", "benchmark", "protocol", "protocol_hash", "grid",
    "J&F", "J-mean", "J-recall", "J-decay", "F-mean", "F-recall", "F-decay", "precision", "success",
    "published", "delta", "verdict", "target_grade", "fps", "peak_gpu_mb", "peak_ram_mb", "gpu_seconds",
    "weights_sha256", "data_fingerprint", "code_version", "torch", "device",
)  # fmt: skip
_OFFICIAL = {
    "J&F": "J&F-Mean", "J-mean": "J-Mean", "J-recall": "J-Recall", "J-decay": "J-Decay",
    "F-mean": "F-Mean", "F-recall": "F-Recall", "F-decay": "F-Decay",
}  # fmt: skip
IN_MARKDOWN = ("entry", "benchmark", "protocol_hash", "J&F", "J-mean", "J-recall", "J-decay", "F-mean", "F-recall",
               "F-decay", "published", "delta", "verdict", "target_grade", "fps")  # fmt: skip


def entry_folder(config: Config, entry: Entry) -> Path:
    """Where the results of an entry lie."""
    return config.results / entry.benchmark["name"] / entry.id


def load_results(config: Config) -> dict[tuple[str, str], dict[str, Any]]:
    """The propagation summary and scores of every entry by (benchmark, id).

    Raises Refusal that names every result which other settings, weights, data or code made: Snakemake would have made
    them again, unless its own records were lost or the files came from elsewhere.
    """
    results, stale = {}, []
    for entry in config.entries:
        folder = entry_folder(config, entry)
        summary = read_json(folder / "propagation.json")
        scored = entry.benchmark["scoring"] != "server"
        scores = read_json(folder / "scores" / "scores.json") if scored else None
        why = _why_stale(config, entry, summary, scores)
        if why:
            stale.append((folder / "propagation.json", why))
        results[entry.key] = {"summary": summary, "scores": scores}
    if stale:
        lines = "\n    ".join(f"{path}: {why}" for path, why in stale)
        raise Refusal(
            f"results that do not belong to this config:\n    {lines}",
            expected="results made by the settings, weights, data and code of now",
            do=f"your snakemake command with  --forcerun {' '.join(str(path) for path, _ in stale)} --  before the target",
        )
    return results


def _why_stale(config: Config, entry: Entry, summary: dict[str, Any], scores: dict[str, Any] | None) -> str:
    record = summary["record"]
    weights = [read_json(config.results / "weights" / w.path / "report.json")["sha256"] for w in entry.weights]
    data = config.results / entry.benchmark["name"] / "data"
    inputs, annotations = (read_json(data / f"{kind}.json") for kind in ("inputs", "annotations"))
    checks = {
        "checkpoint, converted from another file": source_hashes(config, entry),
        "pretraining": pretraining_identity(config, entry),
        "files of the data set": ([inputs["version"], annotations["version"]], data_versions(config, entry.benchmark)),
        "settings of propagation": (record["settings"], entry.propagate_settings()),
        "weights": (record["weights_sha256"], weights),
        "images or first annotations": (record["inputs"], inputs["fingerprint"]),
        "code of propagation": (record["code"], code_version("scripts/propagate.py")),
    }
    if scores is not None:
        made = scores["record"]
        masks = made["masks"]
        checks |= {
            "decode settings": (masks["settings"], entry.postprocess_settings()),
            "code of postprocess": (masks["code"], code_version("scripts/postprocess.py")),
            "masks of another propagation": (masks["propagation"], summary["key"]),
            "annotations": (made["annotations"], annotations["fingerprint"]),
            "code of the metric": (made["code"], code_version("scripts/evaluate.py")),
        }
    return ", ".join(name for name, (then, expected) in checks.items() if then != expected)


def pretraining_identity(config: Config, entry: Entry) -> tuple[list[Any], list[Any]]:
    """Recipe and code of the runs that an entry's weights come from, then and now."""
    then, now = [], []
    for weights in entry.weights:
        if weights.tier is not None:
            name = config.methods.get(weights.method, "weights")["recipe"]
            made = read_json(config.run_folder(name, *weights.tier) / "recipe.json")
            recipe = config.recipe(name, weights.tier[0])
            then.append((made["recipe"], made["seed"], made["code"]))
            now.append((recipe.settings(), weights.tier[1], pretrain_code(recipe.method)))
    return then, now


def data_versions(config: Config, benchmark: Mapping[str, Any]) -> list[str]:
    """Content versions of what propagation and the metric read, now; empty for data that the workflow makes."""
    if config.is_generated(benchmark) or config.is_downloaded(benchmark):
        return ["", ""]
    root, names = config.data_root(benchmark), config.sequences(benchmark)
    cache = config.results / ".versions"
    kinds: tuple[Literal["inputs", "annotations"], ...] = ("inputs", "annotations")
    return [content_version(data_files(root, benchmark, names, kind), cache) for kind in kinds]


def source_hashes(config: Config, entry: Entry) -> tuple[list[str], list[str]]:
    """sha256 of the checkpoints that an entry's weights were converted from, and of the files that lie there now.

    A released file that was removed since to save space is no contradiction.
    """
    then, now = [], []
    for weights in entry.weights:
        path = config.checkpoint_path(weights)
        if path is not None and path.is_file():
            then.append(read_json(config.results / "weights" / weights.path / "report.json")["source"]["sha256"])
            now.append(file_hash(path))
    return then, now


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
    grids = sorted({s["grid"] for s in summary["sequences"].values()})
    row |= {
        "entry": entry.id, "method": entry.method["method"], "backbone": entry.method["backbone"],
        "weights": entry.source, "tier": entry.tier, "benchmark": config.benchmark_label(entry.benchmark),
        "protocol": entry.protocol.name, "protocol_hash": entry.protocol.hash, "grid": "/".join(grids),
        "fps": summary["fps"], "peak_gpu_mb": summary["peak_gpu_mb"], "peak_ram_mb": summary["peak_ram_mb"],
        "gpu_seconds": summary["gpu_seconds"], "weights_sha256": "+".join(h[:12] for h in summary["record"]["weights_sha256"]) or None,
        "data_fingerprint": summary["record"]["inputs"][:12], "torch": summary["libraries"]["torch"], "device": summary["device"],
        "code_version": summary["record"]["code"],
    }  # fmt: skip
    if scores is not None:
        row |= {name: 100 * scores["global"][official] for name, official in _OFFICIAL.items()}
        row["code_version"] += f"+{scores['record']['code']}"
        target = target_of(entry, targets, subset=config.is_subset(entry.benchmark))
        if target is not None:
            row |= {
                "published": target.score, "delta": row["J&F"] - target.score,
                "verdict": target.verdict(row["J&F"]), "target_grade": target.values["grade"],
            }  # fmt: skip
    return row


def read_table(path: Path) -> pd.DataFrame:
    """A written table.csv. Hashes stay text: pandas alone would read 4189172563e7 as a number."""
    text = ("protocol_hash", "weights_sha256", "data_fingerprint", "code_version", "torch")
    return pd.read_csv(path, dtype=dict.fromkeys(text, str))


def to_csv(table: pd.DataFrame) -> str:
    """CSV with two decimals."""
    return table.to_csv(index=False, float_format="%.2f")


def to_markdown(table: pd.DataFrame) -> str:
    """The main columns as Markdown, one list per benchmark and protocol hash: other rules are never ranked together."""
    out = ["# Results", ""]
    groups = table.groupby(["benchmark", "protocol_hash"], sort=False)
    for (benchmark, protocol_hash), group in groups:
        names = ", ".join(dict.fromkeys(group["protocol"]))
        out += [f"## {benchmark}, protocol {names} ({protocol_hash})", ""]
        part = group.sort_values("J&F", ascending=False)[
            [c for c in IN_MARKDOWN if c not in ("benchmark", "protocol_hash")]
        ]
        out += [markdown_table(part), ""]
    out += [
        "J&F, J and F are means over objects, in percent, as davis2017-evaluation computes them (first and last frame left out).",
        "Rows of different protocol hashes were measured by different rules and are listed apart.",
        "published: the number of the paper or repository; verdict: reproduced within 0.3 J&F, close within 1.0.", "",
    ]  # fmt: skip
    return "\n".join(out)


def markdown_table(frame: pd.DataFrame) -> str:
    """A data frame as a Markdown table; numbers with two decimals, missing values empty."""

    def cell(value: Any) -> str:
        if value is None or (isinstance(value, float) and pd.isna(value)):
            return ""
        return f"{value:.2f}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(str(c) for c in frame.columns) + " |", "|" + "---|" * len(frame.columns)]
    lines += ["| " + " | ".join(cell(v) for v in row) + " |" for row in frame.itertuples(index=False)]
    return "\n".join(lines)
