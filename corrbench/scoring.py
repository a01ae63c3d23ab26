"""The config that `scripts/score.py` keeps in its results folder: earlier rows stay, new ones are added."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corrbench.config import Config
from corrbench.entries import RANDOM, Entry
from corrbench.errors import Refusal
from corrbench.files import file_hash, read_json
from corrbench.pretraining.recipe import PRETRAINED
from corrbench.rows import AllRows, read_yaml

KEYWORDS = ("released", "none", "own", "random")


def plain_name(path: Path) -> str:
    """A name for the rows of a checkpoint: the stem of its file, with what `files:` of a config allows."""
    stem = re.sub(r"(\.(pth|pt|tar|ckpt|bin|pkl|t7|npz|safetensors))+$", "", path.name.lower())
    name = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")
    if not name or not name[0].isalpha() or name in KEYWORDS or RANDOM.match(name) or PRETRAINED.match(name):
        name = f"my-{name}".strip("-")
    return name


def earlier(path: Path) -> dict[str, Any]:
    """The config of an earlier call, without defaults; empty where there is none. Raises Refusal for a file that is none."""
    if not path.exists():
        return {}
    values = read_yaml(path)
    try:
        Config(copy.deepcopy(values), str(path))
    except Refusal as refusal:
        raise Refusal(
            f"{refusal}\n(of an earlier call on this results folder)",
            do=f"say --rows as that call did, correct or remove {path}, or name another --results",
        ) from refusal
    return dict(values)


def add(before: Mapping[str, Any], asked: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """A config with the rows of both, `asked` taking precedence in all that is said once for a folder; and notes for the user.

    Raises Refusal when a name in `asked` belongs to another file before.
    """
    notes = []
    values = {**copy.deepcopy(dict(before)), "results": asked["results"], "device": asked["device"]}
    values["rows"] = list(dict.fromkeys([*before.get("rows", []), *asked["rows"]]))
    for key, root in asked["data"].items():
        old = before.get("data", {}).get(key)
        if old not in (None, root):
            notes.append(f"data.{key} is now {root}, for all rows of the table (it was {old})")
    values["data"] = {**before.get("data", {}), **asked["data"]}
    files = {**before.get("files", {})}
    for name, file in asked["files"].items():
        _check_name(name, files.get(name), file, Path(asked["results"]))
        files[name] = file
    values["files"] = files
    measured = {b for run in asked["runs"] for b in run["benchmarks"]}
    values["subsets"] = {k: v for k, v in before.get("subsets", {}).items() if k not in measured} | asked["subsets"]
    entries: dict[tuple[str, str], Entry] = {}
    for part in (before, asked):
        if part:  # read with all rows and files: a name that one of them lacks is in the other
            known = {
                **values,
                "runs": copy.deepcopy(part.get("runs", [])),
                "masks": copy.deepcopy(part.get("masks", [])),
            }
            entries |= {e.key: e for e in Config(copy.deepcopy(known), where).entries if e.given is None}
    values["masks"] = before.get("masks", [])
    values["runs"] = [
        {"methods": [e.method["name"]], "weights": [e.source], "protocols": [e.protocol.name], "benchmarks": [e.benchmark["name"]]}
        for e in sorted(entries.values(), key=lambda e: bool(e.weights))  # what has no network comes first
    ]  # fmt: skip
    return values, notes


def _check_name(name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any], results: Path) -> None:
    if old is not None and old.get("container") != new.get("container"):
        raise Refusal(
            f"{new['path']}: the rows named {name!r} of this results folder are those of its entry {old.get('container') or 'taken by itself'}",
            expected="a name of its own for every network",
            do=f"add --name, for example --name {name}-{new.get('container') or '2'}, or name another --results",
        )
    if old is None or old["path"] == new["path"]:
        return
    path, hashes = Path(old["path"]), set[Any]()
    if path.is_file():
        hashes.add(file_hash(path))
    else:
        for report in results.glob(f"weights/*/{name}/report.json"):
            hashes.add((read_json(report).get("source") or {}).get("sha256"))
    if hashes == {file_hash(Path(new["path"]))}:
        return  # the same file, moved or copied
    raise Refusal(
        f"{new['path']}: the rows named {name!r} of this results folder are those of another file, {path}",
        expected="a name of its own for every file",
        do=f"add --name, for example --name {name}-2, or name another --results",
    )


def leave_out_lost(values: dict[str, Any]) -> list[str]:
    """Remove the rows that cannot be measured now: of checkpoints that are gone and were never converted, of data sets
    whose disk is not there. Returns notes for the user."""
    results, notes = Path(values["results"]), []
    rows = AllRows([Path(path) for path in values["rows"]], "command line").benchmarks
    for key, root in list(values["data"].items()):
        if root == "download" or Path(root).is_dir():
            continue
        away = {b for run in values["runs"] for b in run["benchmarks"] if rows.get(b, "runs")["data"] == key}
        values["runs"] = [run for run in values["runs"] if not away & set(run["benchmarks"])]
        values["subsets"] = {k: v for k, v in values["subsets"].items() if k not in away}
        del values["data"][key]
        notes.append(
            f"data.{key}: {root} is not there; rows of {', '.join(sorted(away))} are left out. What was measured of them is "
            "kept in the results folder: score them again when the disk is back"
        )
    for name, file in list(values["files"].items()):
        if Path(file["path"]).is_file():
            continue
        runs = [run for run in values["runs"] if name in run["weights"]]
        lost = [r for r in runs if not (results / "weights" / r["methods"][0] / name / "weights.pt").is_file()]
        if lost:
            values["runs"] = [run for run in values["runs"] if run not in lost]
            notes.append(f"{name}: {file['path']} is gone and was never converted; its rows are left out")
        if len(lost) == len(runs):
            del values["files"][name]
    return notes
