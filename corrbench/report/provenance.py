"""Where every number of the table came from, as one record per row, and that record in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from corrbench.config import Config
from corrbench.entries import Entry
from corrbench.errors import Refusal, nearest
from corrbench.provenance import libraries
from corrbench.report.audit import Audit
from corrbench.report.records import read_intact


def build_provenance(config: Config, results: Mapping[tuple[str, str], Mapping[str, Any]]) -> dict[str, Any]:
    """The content of ``provenance.json``; `results` as `load_results` gives them, so nothing stale is in it."""
    look = Audit(config)
    rows = [{**_row(config, entry, results[entry.key]), "records": look.row_records(entry)} for entry in config.entries]
    return {"rows": rows, "table_made_with": libraries()}


def _row(config: Config, entry: Entry, result: Mapping[str, Any]) -> dict[str, Any]:
    summary, scores = result["summary"], result["scores"]
    folder = config.results / entry.benchmark["name"]
    data = {kind: read_intact(folder / "data" / f"{kind}.json") for kind in ("inputs", "annotations")}
    record: dict[str, Any] = {
        "entry": entry.id,
        "benchmark": config.benchmark_label(entry.benchmark),
        "protocol": {"name": entry.protocol.name, "hash": entry.protocol.hash, "settings": entry.protocol.settings()},
        "encoder": entry.encoder,
        "weights": [read_intact(config.results / "weights" / w.path / "report.json") for w in entry.weights],
        "pretraining": [
            read_intact(config.training.run_folder(recipe.name, *w.tier) / "recipe.json")
            for w in entry.weights
            for recipe in config.training.chain(w)
            if w.tier is not None
        ],
        "data": {
            "root": str(config.data_root(entry.benchmark)),
            "sequences": config.sequences(entry.benchmark),
            "inputs_fingerprint": data["inputs"]["fingerprint"],
            "annotations_fingerprint": data["annotations"]["fingerprint"],
        },
        "stages": {
            entry.stage: {
                "code": summary["record"]["code"],
                "key": summary["key"],
                "device": summary["device"],
                "libraries": summary["libraries"],
            }
        },
        "again": _config_again(config, entry),
        "result": str(folder / entry.id / "scores" / "scores.json"),
    }
    folder_of_probe = config.probe_folder(entry)
    if folder_of_probe is not None:
        record["probe"] = read_intact(folder_of_probe / "recipe.json")
    if scores is not None:
        made = scores["record"]
        if entry.stage == "propagate":
            record["stages"]["postprocess"] = {key: made["masks"][key] for key in ("code", "settings", "libraries")}
        record["stages"] |= {
            "evaluate": {"code": made["code"], "metric": scores["metric"], "libraries": made["libraries"]},
        }
        record["scores"] = scores["global"]
    if result.get("server") is not None:
        record["server"] = result["server"]
    return record


def _config_again(config: Config, entry: Entry) -> dict[str, Any]:
    """The smallest config that makes this row alone."""
    values, name, key = config.values, entry.benchmark["name"], entry.benchmark["data"]
    again: dict[str, Any] = {"results": "results/again", "device": values["device"]}
    recipes = [recipe for w in entry.weights for recipe in config.training.chain(w)]
    if entry.probe is not None and entry.probe.recipe is not None:
        recipes.append(entry.probe.recipe)
    keys = [key, *(name for r in recipes for name in config.training.video_roots(r.data))]
    roots = {k: values["data"][k] for k in keys if k in values["data"]}
    if roots:
        again["data"] = roots
    if entry.source in values["files"]:
        again["files"] = {entry.source: values["files"][entry.source]}
    if name in values["subsets"]:
        again["subsets"] = {name: config.sequences(entry.benchmark)}
    if values["rows"]:
        again["rows"] = values["rows"]
    if entry.given is not None:
        return {**again, "masks": [dict(entry.given.row)], "runs": []}
    run = {"methods": [entry.method["name"]], "weights": [entry.source], "benchmarks": [name]}
    again["runs"] = [{**run, "protocols": [entry.protocol.name]}]
    return again


def find_row(provenance: Mapping[str, Any], entry: str, benchmark: str | None) -> dict[str, Any]:
    """The record of one row. Raises Refusal when there is none, or one per benchmark and none was named."""
    rows = [r for r in provenance["rows"] if r["entry"] == entry]
    if not rows:
        raise Refusal(
            f"no row {entry!r} in the table",
            expected=nearest(entry, [r["entry"] for r in provenance["rows"]]),
            do="give the first column of table.csv",
        )
    chosen = [r for r in rows if benchmark is None or r["benchmark"].split(" ")[0] == benchmark]
    if len(chosen) != 1:
        names = [r["benchmark"] for r in rows]
        raise Refusal(f"{entry} was measured on {', '.join(names)}", expected="one of them", do="add --benchmark NAME")
    return chosen[0]


def explain(row: Mapping[str, Any]) -> Iterator[str]:
    """How this number was made and how to make it again, line by line."""
    yield f"{row['entry']} on {row['benchmark']}"
    if "scores" in row:
        yield "  " + ", ".join(f"{name} {100 * value:.2f}" for name, value in row["scores"].items())
    elif "server" in row:
        server = ", ".join(f"{name} {value:.2f}" for name, value in row["server"]["scores"].items())
        yield f"  {server}: said by the evaluation server on {row['server']['date']}"
    else:
        yield "  not scored here: the masks are packed for the evaluation server"
    yield "\nWeights"
    for weights in row["weights"]:
        yield f"  {weights['method']}: sha256 {weights['sha256']}"
        said = {k: weights[k] for k in ("family", "seed", "checkpoint", "source") if weights.get(k) is not None}
        yield from (f"    {line}" for line in _yaml(said))
        yield from (f"    warning: {warning}" for warning in weights.get("warnings") or [])
    if not row["weights"]:
        yield "  none: no network here"
    for what, made in [
        *(("Pretraining", m) for m in row["pretraining"]),
        *([("Probe", row["probe"])] if "probe" in row else []),
    ]:
        recipe = made["recipe"]
        yield f"\n{what}: recipe {recipe['name']} ({made['hash']}), tier {recipe['tier']}, seed {made['seed']}"
        yield f"  {made['steps']} steps on {made['videos']} videos ({recipe['data']}, {made['data']}), {made['processes']} process(es), {made['device']}, code {made['code']}"
        yield from (f"  {line}" for line in _yaml(recipe["options"]))
    yield "\nData"
    yield f"  {row['data']['root']}, {len(row['data']['sequences'])} sequences"
    yield f"  images and first annotations {row['data']['inputs_fingerprint'][:12]}, all annotations {row['data']['annotations_fingerprint'][:12]}"
    yield f"\nProtocol {row['protocol']['name']} ({row['protocol']['hash']})"
    yield from (f"  {line}" for line in _yaml(row["protocol"]["settings"]))
    yield "\nEncoder"
    yield from (f"  {line}" for line in _yaml(row["encoder"]))
    yield "\nStages"
    for name, stage in row["stages"].items():
        versions = ", ".join(f"{k} {v}" for k, v in stage["libraries"].items())
        place = f" on {stage['device']}" if stage.get("device") else ""
        yield f"  {name}: code {stage['code']}{place}; {versions}"
    yield "\nTo make it again, write this as again.yaml"
    yield from (f"  {line}" for line in _yaml(row["again"]))
    yield "and run"
    yield "  snakemake results/again/table.csv --cores all --configfile again.yaml"
    if row["weights"]:
        short = "+".join(w["sha256"][:12] for w in row["weights"])
        yield f"The column weights_sha256 must say {short}, the column protocol_hash {row['protocol']['hash']}."


def _yaml(value: Any) -> list[str]:
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=110).splitlines()
