"""Everything that was measured for a config, after checking that each result was made by the settings of the config."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from corrbench.config import Config
from corrbench.datasets.opening import Kind, data_files
from corrbench.datasets.videos import Index
from corrbench.entries import Entry
from corrbench.errors import Refusal
from corrbench.files import file_hash, read_json
from corrbench.pretraining.recipe import Recipe, method_module, pretrain_code
from corrbench.provenance import code_version
from corrbench.workflow import content_version


def entry_folder(config: Config, entry: Entry) -> Path:
    """Where the results of an entry lie."""
    return config.results / entry.benchmark["name"] / entry.id


def load_results(config: Config) -> dict[tuple[str, str], dict[str, Any]]:
    """The summary of propagation or tracking, and the scores, of every entry by (benchmark, id).

    Raises Refusal that names every result which other settings, weights, data or code made: Snakemake would have made
    them again, unless its own records were lost or the files came from elsewhere.
    """
    results, stale = {}, []
    versions = {
        b["name"]: data_versions(config, b) for b in config.all_benchmarks()
    }  # stats every file: once per benchmark
    for entry in config.entries:
        folder = entry_folder(config, entry)
        path = folder / entry.summary
        summary = read_json(path)
        scored = entry.benchmark["scoring"] != "server"
        scores = read_json(folder / "scores" / "scores.json") if scored else None
        why = _why_stale(config, entry, summary, scores, versions[entry.benchmark["name"]])
        if why:
            stale.append((path, why))
        results[entry.key] = {"summary": summary, "scores": scores}
    if stale:
        lines = "\n    ".join(f"{path}: {why}" for path, why in stale)
        raise Refusal(
            f"results that do not belong to this config:\n    {lines}",
            expected="results made by the settings, weights, data and code of now",
            do=f"your snakemake command with  --forcerun {' '.join(str(path) for path, _ in stale)} --  before the target",
        )
    return results


def _why_stale(
    config: Config, entry: Entry, summary: dict[str, Any], scores: dict[str, Any] | None, versions: list[str]
) -> str:
    record = summary["record"]
    weights = [read_json(config.results / "weights" / w.path / "report.json")["sha256"] for w in entry.weights]
    data = config.results / entry.benchmark["name"] / "data"
    inputs, annotations = (read_json(data / f"{kind}.json") for kind in ("inputs", "annotations"))
    checks = {
        "checkpoint, converted from another file": source_hashes(config, entry),
        "pretraining": pretraining_identity(config, entry),
        "files of the data set": ([inputs["version"], annotations["version"]], versions),
        "weights": (record["weights_sha256"], weights),
        "images or first annotations": (record["inputs"], inputs["fingerprint"]),
    }
    if entry.probe is not None:
        assert scores is not None
        checks |= {
            "settings of tracking": (record["settings"], entry.probe.track_settings()),
            "code of tracking": (record["code"], code_version("scripts/track.py")),
            "training of the probe": probe_identity(config, entry, weights),
            "another layer of the probe": (record["head"], _head(config, entry)),
            "boxes of another run": (scores["record"]["tracking"], summary["key"]),
            "annotations": (scores["record"]["annotations"], annotations["fingerprint"]),
            "code of the metric": (scores["record"]["code"], code_version("scripts/evaluate_boxes.py")),
        }
        return ", ".join(name for name, (then, expected) in checks.items() if then != expected)
    segmenter = entry.segmenter
    program = "scripts/propagate.py" if segmenter is None else "scripts/segment.py"
    settings = entry.propagate_settings() if segmenter is None else segmenter.settings()
    checks |= {
        "settings of propagation": (record["settings"], settings),
        "code of propagation": (record["code"], code_version(program)),
    }
    if scores is not None:
        made = scores["record"]
        masks = made["masks"]
        checks |= {
            "decode settings": (masks["settings"], entry.postprocess_settings() if segmenter is None else settings),
            "code of postprocess": (
                masks["code"],
                code_version("scripts/postprocess.py" if segmenter is None else program),
            ),
            "masks of another propagation": (masks["propagation"], summary["key"]),
            "annotations": (made["annotations"], annotations["fingerprint"]),
            "code of the metric": (made["code"], code_version("scripts/evaluate.py")),
        }
    return ", ".join(name for name, (then, expected) in checks.items() if then != expected)


def pretraining_identity(config: Config, entry: Entry) -> tuple[list[Any], list[Any]]:
    """Recipe and code of the runs that an entry's weights come from, then and now."""
    then, now = [], []
    for weights in entry.weights:
        for recipe in config.training.chain(weights):
            assert weights.tier is not None
            tier, seed = weights.tier
            made = read_json(config.training.run_folder(recipe.name, tier, seed) / "recipe.json")
            before = None  # what it started from, as it lies there now
            if recipe.start is not None:
                before = read_json(config.results / "weights" / recipe.start / "released/report.json")["sha256"]
            elif recipe.init is not None:
                before = file_hash(config.training.run_folder(recipe.init, tier, seed) / "checkpoint.pth")
            then.append((made["recipe"], made["seed"], made["code"], made["data"], made["init"]))
            code, data = pretrain_code(recipe.method), data_fingerprint(config, recipe)
            now.append((recipe.settings(), seed, code, data, before))
    return then, now


def _head(config: Config, entry: Entry) -> str | None:
    folder = config.probe_folder(entry)
    if folder is None:
        return None
    from corrbench.tracking.siamfc import head_hash  # it imports torch, which a table without probes does not need

    return head_hash(folder / "checkpoint.pth")


def probe_identity(config: Config, entry: Entry, weights: list[str]) -> tuple[Any, Any]:
    """Recipe, seed, code and weights of the training that an entry's layer comes from, then and now."""
    folder, probe = config.probe_folder(entry), entry.probe
    if folder is None or probe is None or probe.recipe is None:
        return None, None
    made = read_json(folder / "recipe.json")
    then = (made["recipe"], made["seed"], made["code"], [made["init"]], made["data"])
    data = data_fingerprint(config, probe.recipe)
    return then, (probe.recipe.settings(), probe.seed, pretrain_code(probe.recipe.method), weights, data)


def data_fingerprint(config: Config, recipe: Recipe) -> str:
    """What the index of a recipe's data lists now."""
    return _fingerprint(config.results / "frames" / recipe.data / "index.csv", recipe.method)


@cache
def _fingerprint(index: Path, method: str) -> str:
    module = importlib.import_module(method_module(method))
    opened = getattr(module, "open_reader", None)
    return opened(index.parent, index).index.fingerprint if opened else Index.read(index).fingerprint


def data_versions(config: Config, benchmark: Mapping[str, Any]) -> list[str]:
    """Content versions of what propagation and the metric read, now; empty for data that the workflow makes."""
    if config.is_generated(benchmark) or config.is_downloaded(benchmark):
        return ["", ""]
    root, names = config.data_root(benchmark), config.sequences(benchmark)
    cache = config.results / ".versions"
    kinds: tuple[Kind, ...] = ("inputs", "annotations")
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
