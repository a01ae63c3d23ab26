"""What a config says: the rows that it names, what is measured, and where data and weights lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corrbench.config_files import join_configs, read_config
from corrbench.datasets.benchmark import benchmark_label, benchmark_settings, is_part, measured_sequences
from corrbench.datasets.source import archives_for, how_to_get
from corrbench.entries import Entry, WeightsId
from corrbench.errors import Refusal, nearest
from corrbench.files import json_option, read_json
from corrbench.given import mask_files
from corrbench.grid import Grid
from corrbench.pretraining.recipe import Recipe, check_gpus, check_options
from corrbench.provenance import code_version
from corrbench.reading import expand
from corrbench.rows import AllRows, merge, validate
from corrbench.training import Training
from corrbench.waiting import Waiting, note, restore, split, told
from corrbench.workflow import Notes


def _expanded(values: dict[str, Any]) -> dict[str, Any]:
    """Replace ``~`` and environment variables in paths, as a shell would."""
    values["results"] = expand(values["results"])
    values["rows"] = [expand(path) for path in values["rows"]]
    values["data"] = {key: expand(path) for key, path in values["data"].items()}
    for file in values["files"].values():
        file["path"] = expand(file["path"])
    inline = [row for row in values["masks"] if isinstance(row, dict) and isinstance(row.get("path"), str)]
    for row in inline:
        row["path"] = expand(row["path"])
    paths = [
        values["results"],
        *values["rows"],
        *values["data"].values(),
        *(f["path"] for f in values["files"].values()),
        *(row["path"] for row in inline),
    ]
    for path in paths:
        if not path or any(ord(c) < 32 for c in path):
            raise Refusal(
                f"a path {path!r}", expected="text without control characters", do="correct it, or rename the folder"
            )
    if set("{}") & set(values["results"]):
        raise Refusal(
            f"results: {values['results']}: braces, which snakemake takes for wildcards",
            expected="a results folder without braces in its path",
            do="name another folder",
        )
    return values


class Config:
    """A validated config and the rows that it names."""

    def __init__(self, values: dict[str, Any], where: str = "config") -> None:
        self.values = _expanded(validate(values, "config", where))
        self.rows = AllRows((Path(p) for p in self.values["rows"]), where)
        for key in self.values["data"]:
            if key not in (known := ["synthetic", *self.rows.datasets]):
                raise Refusal(
                    f"{where}: data: no data set {key!r}", expected=nearest(key, known), do="correct the name"
                )
        for name in self.values["shards"]:
            self.rows.benchmarks.get(name, f"{where}: shards")
        for name in self.values["pretraining"]["recipes"]:
            self.rows.recipes.get(name, f"{where}: pretraining.recipes")
        self.results = Path(self.values["results"])
        self.training = Training(self.rows, self.values["data"], self.results)
        self._sequences: dict[str, list[str]] = {}
        grid = Grid(self.rows, self.training, self.values["files"], self.values["tier"])
        entries = grid.entries(self.values["runs"], self.values["masks"], where)
        self.waiting: list[Waiting] = []
        """Entries that cannot run before somebody gets what no program can fetch (`missing: skip`)."""
        if self.values["missing"] == "skip":
            noted = self.values.get("waiting")
            entries, self.waiting = split(self, entries) if noted is None else restore(entries, noted)
            self.values["waiting"] = note(self.waiting)
            if not entries:
                raise Refusal(
                    f"{where}: no entry can run yet. {told(self.waiting)}",
                    expected="at least one entry whose data and files are there or can be fetched",
                    do="get what is listed, or add runs on data that can be fetched, such as davis2017",
                )
        self.entries = entries
        self._by_key = {entry.key: entry for entry in self.entries}

    @classmethod
    def read(cls, path: Path | str) -> Config:
        """Read and check a config file."""
        return cls.of_files([Path(path)])

    @classmethod
    def of_files(cls, paths: Sequence[Path], changes: Mapping[str, Any] | None = None) -> Config:
        """One config of several files (see `join_configs`), with `changes` put over it."""
        joined = join_configs([(str(path), read_config(Path(path))) for path in paths])
        return cls(merge(joined, changes or {}), " and ".join(map(str, paths)) or "config")

    @classmethod
    def from_argument(cls, text: str) -> Config:
        """A config from a command line: a path, or the config itself as JSON."""
        if not text.lstrip().startswith("{"):
            return cls.read(text)
        return cls(json_option(text, "--config", "a path, or a config as JSON"), "--config")

    def benchmark_settings(self, benchmark: Mapping[str, Any]) -> dict[str, Any]:
        """The benchmark as the stages read it. No path of a data root."""
        return benchmark_settings(benchmark, self.sequences(benchmark))

    def entry(self, benchmark: str, entry_id: str) -> Entry:
        """The entry with this key."""
        return self._by_key[benchmark, entry_id]

    def is_generated(self, benchmark: Mapping[str, Any]) -> bool:
        """True if the workflow makes this benchmark's data: it is synthetic and the config names no root for it."""
        return benchmark["data"] == "synthetic" and "synthetic" not in self.values["data"]

    def data_root(self, benchmark: Mapping[str, Any]) -> Path:
        """Root folder of a benchmark's data set."""
        key = benchmark["data"]
        if self.is_generated(benchmark):
            return self.results / "data" / benchmark["name"]
        if self.is_downloaded(benchmark):
            return self.results / "data" / key / self.rows.datasets.get(key, "data")["root"]
        if key not in self.values["data"]:
            raise Refusal(
                f"the benchmark {benchmark['name']} needs data.{key}",
                expected=f"`data: {{{key}: /path}}` in the config, the root of {benchmark['title']}",
                do=how_to_get(self.rows.datasets.get(key, "data")) if key != "synthetic" else "name its root",
            )
        return Path(self.values["data"][key])

    def is_downloaded(self, benchmark: Mapping[str, Any]) -> bool:
        """True if the workflow fetches this benchmark's data: `data: {...: download}`."""
        return self.values["data"].get(benchmark["data"]) == "download"

    def archives(self, dataset: str) -> list[Mapping[str, Any]]:
        """The archives of a data set that the config's benchmarks need.

        Raises Refusal with the instructions for a data set that no program can fetch.
        """
        row = self.rows.datasets.get(dataset, "data")
        splits = {b.get("split", "") for b in self.all_benchmarks() if b["data"] == dataset}
        splits |= {"train"} if dataset in self.downloaded_videos() else set()
        found = archives_for(row, splits)
        if not found:
            raise Refusal(
                f"data.{dataset}: download: no archive of {row['title']} can be fetched by a program",
                expected="the root of your copy",
                do=how_to_get(row),
            )
        return found

    def downloaded_videos(self) -> list[str]:
        """The data sets that are trained on and that the workflow fetches."""
        names = {name for recipe in self.all_recipes() for name in self.training.roots_of(recipe.data)}
        return sorted(name for name in names if self.training.is_downloaded(name))

    def made_data(self) -> dict[str, dict[str, Any]]:
        """What decides each data set that the workflow makes below ``results/data/``, by its folder: settings, and code if it is generated."""
        made: dict[str, dict[str, Any]] = {}
        code = code_version("scripts/synthetic.py")
        for row in self.all_benchmarks():
            if self.is_generated(row):
                settings: Any = {k: v for k, v in row.items() if k != "title"}
                made[row["name"]] = {"settings": settings, "code": code}
            elif self.is_downloaded(row):
                archives = [[a["file"], a.get("hash"), a.get("size")] for a in self.archives(row["data"])]
                made[row["data"]] = {"settings": archives, "code": ""}
        for name in self.downloaded_videos():
            archives = [[a["file"], a.get("hash"), a.get("size")] for a in self.archives(name)]
            made[name] = {"settings": archives, "code": ""}
        for name in {recipe.data for recipe in self.all_recipes()}:
            if self.training.are_videos_generated(name):
                settings = self.rows.datasets.get(name, "data")["videos"]["generate"]
                made[name] = {"settings": settings, "code": code}
        return made

    def check_data(self) -> None:
        """Raise Refusal when a benchmark has no data root, an own checkpoint is missing, or a subset names what its split lacks."""
        kept = self.converted_before()
        for weights in self.all_weights():
            path = self.checkpoint_path(weights)
            own = weights.source in self.values["files"] and weights.source not in kept
            if own and path is not None and not path.is_file():
                before = self._converted_from(weights)
                raise Refusal(
                    f"files.{weights.source}: no file {path}"
                    + (f"; what was converted under this name is {before}" if before else ""),
                    expected="a checkpoint",
                    do="correct the path" + (", or give a new checkpoint a name of its own" if before else ""),
                )
        for recipe in self.all_recipes():
            check_options(recipe)
            if recipe.method != "probe":  # one GPU, as its source
                check_gpus(recipe, self.pretraining(recipe.name)["gpus"])
            for name, root in self.training.video_roots(recipe.data).items():
                if self.training.is_downloaded(name):
                    self.archives(name)
                elif not self.training.are_videos_generated(recipe.data) and not root.is_dir():
                    raise Refusal(f"data.{name}: no folder {root}", expected="its root", do="correct the path")
        for entry in self.entries:
            if entry.given is not None and not entry.given.fetched and not entry.given.path(self.results).exists():
                raise Refusal(
                    f"masks {entry.method['name']}: nothing at {entry.given.path(self.results).absolute()}",
                    expected="a folder of masks, or a zip or tar archive of them",
                    do=entry.given.row["instructions"].strip() or "correct `path:`",
                )
        for benchmark in self.all_benchmarks():
            root = self.data_root(benchmark)
            made = self.is_generated(benchmark) or self.is_downloaded(benchmark)
            if not made and not root.is_dir():
                raise Refusal(
                    f"data.{benchmark['data']}: no folder {root}",
                    expected=f"the root of {benchmark['title']}",
                    do="correct the path; `download` fetches what may be fetched",
                )
            if self.is_downloaded(benchmark):
                self.archives(benchmark["data"])
            self.sequences(benchmark)

    def converted_before(self) -> list[str]:
        """Names of `files:` whose checkpoint is gone, but of which all weights that the config needs were converted from its path."""
        gone: dict[str, bool] = {}
        for weights in self.all_weights():
            path = self.checkpoint_path(weights)
            if weights.source in self.values["files"] and path is not None and not path.is_file():
                there = (self.results / "weights" / weights.path / "weights.pt").is_file()
                from_there = self._converted_from(weights) in (str(path), path.name)
                gone[weights.source] = gone.get(weights.source, True) and there and from_there
        return [name for name, kept in gone.items() if kept]

    def _converted_from(self, weights: WeightsId) -> str | None:
        """The path of the checkpoint that was converted (of an older report the name of the file); None where none was."""
        try:
            report = read_json(self.results / "weights" / weights.path / "report.json")
            return str(report.get("converted_from") or report["source"]["file"])
        except (Refusal, KeyError, TypeError, AttributeError):
            return None

    def files_to_place(self) -> list[Path]:
        """Released files that no program can fetch and that are not there yet: someone must place them."""
        starts = [WeightsId(recipe.start, "released") for recipe in self.all_recipes() if recipe.start]
        weights = [w for w in dict.fromkeys([*self.all_weights(), *starts]) if self.must_be_placed(w)]
        return [path for w in weights if (path := self.checkpoint_path(w)) is not None]

    def must_be_placed(self, weights: WeightsId) -> bool:
        """True for a released file that no program can fetch, and that is neither there nor converted already."""
        path, converted = self.checkpoint_path(weights), self.results / "weights" / weights.path / "weights.pt"
        if weights.source != "released" or path is None or path.is_file() or converted.is_file():
            return False
        return not self.rows.methods.get(weights.method, "weights")["released"]["addresses"]

    def sequences(self, benchmark: Mapping[str, Any]) -> list[str]:
        """The sequences that are measured: all, or the subset that the config names, in the order of the split."""
        name = benchmark["name"]
        if name not in self._sequences:
            subset = self.values["subsets"].get(name)
            self._sequences[name] = measured_sequences(benchmark, subset, self.data_root(benchmark))
        return self._sequences[name]

    def is_subset(self, benchmark: Mapping[str, Any]) -> bool:
        """True if only a part of the split is measured."""
        return is_part(benchmark, self.sequences(benchmark))

    def benchmark_label(self, benchmark: Mapping[str, Any]) -> str:
        """The name in tables; a subset says so: ``davis2016-val (8 of 20)``."""
        return benchmark_label(benchmark, self.sequences(benchmark))

    def checkpoint_path(self, weights: WeightsId) -> Path | None:
        """The file that a weights file is converted from; None for random weights."""
        if weights.source in self.values["files"]:
            return Path(self.values["files"][weights.source]["path"])
        if weights.source == "released":
            row = self.rows.methods.get(weights.method, "weights")
            return self.results / "downloads" / weights.method / row["released"]["file"]
        if weights.tier is not None:
            recipe = self.rows.methods.get(weights.method, "weights")["recipe"]
            return self.training.run_folder(recipe, *weights.tier) / "checkpoint.pth"
        return None

    def masks_version(self, entry: Entry, notes: Notes) -> str:
        """Content version of masks that somebody gave; empty for those that a rule fetches."""
        if entry.given is None or entry.given.fetched:
            return ""
        return notes.version(mask_files(entry.given.path(self.results)))

    def pretraining(self, recipe: str) -> dict[str, int]:
        """GPUs and loading processes of a recipe's job: {"gpus": ..., "workers": ...}."""
        said = self.values["pretraining"]
        return {key: said["recipes"].get(recipe, {}).get(key, said[key]) for key in ("gpus", "workers")}

    def probe_folder(self, entry: Entry) -> Path | None:
        """Where the probe of an entry is trained; None if nothing is."""
        if entry.probe is None or entry.probe.head != "trained":
            return None
        (weights,) = entry.weights
        return self.results / "probe" / weights.path / entry.probe.name

    def all_recipes(self) -> list[Recipe]:
        """Every recipe that some entry needs, those that it starts from and those of probes included, once."""
        found: dict[tuple[str, str], Recipe] = {}
        for weights in self.all_weights():
            found |= {(recipe.name, recipe.tier): recipe for recipe in self.training.chain(weights)}
        for entry in self.entries:
            if entry.probe is not None and entry.probe.recipe is not None and entry.probe.head == "trained":
                found[entry.probe.recipe.name, entry.probe.recipe.tier] = entry.probe.recipe
        return list(found.values())

    def all_weights(self) -> list[WeightsId]:
        """Every weights file that some entry needs, once."""
        return list(dict.fromkeys(w for entry in self.entries for w in entry.weights))

    def all_benchmarks(self) -> list[Mapping[str, Any]]:
        """Every benchmark that some entry names, once."""
        return list({e.benchmark["name"]: e.benchmark for e in self.entries}.values())
