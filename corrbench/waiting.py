"""What entries of a config wait for: data and files that no program can fetch.

With ``missing: skip`` such entries do not run, the table names them with what they wait for, and everything else runs. With
``missing: refuse`` nothing runs before all of it is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corrbench.datasets.source import archives_for, how_to_get
from corrbench.entries import Entry, WeightsId

if TYPE_CHECKING:
    from corrbench.config import Config


@dataclass(frozen=True)
class Need:
    """One thing that somebody has to get."""

    name: str
    """What tables say: the name of a data set, or of a file."""
    title: str
    do: str
    size: str = ""
    """How large it is, as its source says; empty where it does not."""

    def __str__(self) -> str:
        size = f" ({self.size})" if self.size else ""
        return f"{self.title}{size}: {self.do}"


@dataclass(frozen=True)
class Waiting:
    """An entry that cannot run yet."""

    entry: Entry
    needs: tuple[Need, ...]

    @property
    def verdict(self) -> str:
        """What stands in place of its result: ``waiting for otb100``."""
        return f"waiting for {' and '.join(need.name for need in self.needs)}"


def split(config: Config, entries: Iterable[Entry]) -> tuple[list[Entry], list[Waiting]]:
    """The entries of a config that can run, and those that wait. A folder that the config names is taken to be there."""
    ready, waiting = [], []
    known: dict[Any, list[Need]] = {}
    for entry in entries:
        found: list[Need] = []
        for about in _parts(config, entry):
            if about not in known:
                known[about] = list(_needs(config, *about))
            found += [need for need in known[about] if need not in found]
        if found:
            waiting.append(Waiting(entry, tuple(found)))
        else:
            ready.append(entry)
    return ready, waiting


def restore(entries: Iterable[Entry], noted: Iterable[Mapping[str, Any]]) -> tuple[list[Entry], list[Waiting]]:
    """The same as `split` found it before, from what `note` made of it."""
    needs = {(row["benchmark"], row["entry"]): tuple(Need(**need) for need in row["needs"]) for row in noted}
    found = [(entry, needs.get(entry.key)) for entry in entries]
    return [e for e, n in found if n is None], [Waiting(e, n) for e, n in found if n is not None]


def note(waiting: Iterable[Waiting]) -> list[dict[str, Any]]:
    """What waits, for the programs of a run: they must not look again, and find it otherwise."""
    return [
        {"benchmark": w.entry.benchmark["name"], "entry": w.entry.id, "needs": [vars(need) for need in w.needs]}
        for w in waiting
    ]


def told(waiting: Sequence[Waiting]) -> str:
    """What a person has to get, each thing once with the entries that wait for it; empty when nothing waits."""
    by_need: dict[Need, list[str]] = {}
    for w in waiting:
        for need in w.needs:
            by_need.setdefault(need, []).append("/".join(w.entry.key))
    lines = []
    names: dict[Need, set[str]] = {}
    for w in waiting:
        if w.entry.given is not None and "/" in w.entry.given.row.get("file", ""):
            folder, name = w.entry.given.row["file"].split("/", 1)
            for need in w.needs:
                if need.name == folder:
                    names.setdefault(need, set()).add(name)
    for need, entries in by_need.items():
        lines.append(f"  {need.title}{f', {need.size}' if need.size else ''}")
        lines += [f"    {line.strip()}" for line in need.do.splitlines() if line.strip()]
        if need in names:
            lines += [f"    They are {', '.join(sorted(names[need]))}."]
        lines += [f"    {len(entries)} {'rows wait' if len(entries) > 1 else 'row waits'}: {', '.join(entries)}"]
    return "\n".join(["Waiting for what no program can fetch; everything else runs:", *lines]) if lines else ""


def _parts(config: Config, entry: Entry) -> list[tuple[str, Any]]:
    """What an entry needs, as (kind, name) pairs that `_needs` looks into."""
    recipes = [recipe for weights in entry.weights for recipe in config.training.chain(weights)]
    if entry.probe is not None and entry.probe.recipe is not None and entry.probe.head == "trained":
        recipes.append(entry.probe.recipe)
    starts = [WeightsId(recipe.start, "released") for recipe in recipes if recipe.start]
    return [
        ("benchmark", entry.benchmark["name"]),
        *([("masks", entry.given)] if entry.given is not None else []),
        *(("weights", weights) for weights in dict.fromkeys([*entry.weights, *starts])),
        *(("training", name) for recipe in recipes for name in config.training.roots_of(recipe.data)),
    ]


def _needs(config: Config, kind: str, what: Any) -> Iterable[Need]:
    if kind == "weights":
        if config.must_be_placed(what):
            released = config.rows.methods.get(what.method, "weights")["released"]
            path = config.checkpoint_path(what)
            yield Need(
                released["file"],
                f"the released file of {what.method}",
                f"place it as {path}. {_where(released)}".strip(),
            )
        return
    if kind == "masks":
        if not what.fetched and not what.path(config.results).exists():
            path = what.path(config.results)
            shared = "file" in what.row and "/" in what.row["file"]
            place = f"place its folders, or zip files of them, below {path.parent}" if shared else f"place it as {path}"
            name = path.parent.name if shared else path.name
            yield Need(name, f"masks that others made, {name}", f"{what.row['instructions'].strip()}\nThen {place}")
        return
    if kind == "benchmark":
        row = config.rows.benchmarks.get(what, "benchmarks")
        name, splits = row["data"], {row.get("split", "")}
        if config.is_generated(row):
            return
    else:
        name, splits = what, {"train"}
        if "videos" in config.rows.datasets.get(name, "data") and config.training.are_videos_generated(name):
            return
    given = config.values["data"].get(name)
    if given not in (None, "download"):
        return
    source = config.rows.datasets.get(name, "data")
    if given is None or (given == "download" and not archives_for(source, splits)):
        yield Need(
            name,
            source["title"],
            f"{how_to_get(source)}\nThen name its root: `data: {{{name}: /path}}`",
            source.get("size", ""),
        )


def _where(released: Mapping[str, Any]) -> str:
    return str(released.get("instructions", "")).strip()
