"""From a config to entries: the rows that it names, where data and weights lie, and the grid of what is measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corrbench.datasets.benchmark import benchmark_label, benchmark_settings, is_part, measured_sequences
from corrbench.datasets.opening import is_tracking, is_youtube_vos
from corrbench.datasets.source import archives_for, how_to_get
from corrbench.entries import RANDOM, Entry, WeightsId
from corrbench.errors import Refusal, nearest
from corrbench.pretraining.recipe import PRETRAINED, TIERS, Recipe, check_options, network_of
from corrbench.propagation.protocol import Protocol
from corrbench.provenance import ROOT
from corrbench.rows import Rows, read_yaml, validate
from corrbench.segmentation.protocol import MaskPropagation
from corrbench.tracking.protocol import Probe, check_probe, own_probe
from corrbench.training import Training


class Config:
    """A validated config and the rows that it names."""

    def __init__(self, values: dict[str, Any], where: str = "config") -> None:
        self.values = validate(values, "config", where)
        folders = [ROOT / "config", *(Path(p) for p in self.values["rows"])]
        for folder in folders:
            if not folder.is_dir():
                raise Refusal(
                    f"{where}: rows: no folder {folder}",
                    expected="a folder with methods/, protocols/, ...",
                    do="correct the path",
                )
        self.folders = folders
        self.methods = Rows(folders, "methods", "method")
        self.protocols = Rows(folders, "protocols", "protocol")
        self.benchmarks = Rows(folders, "benchmarks", "benchmark")
        self.datasets = Rows(folders, "datasets", "dataset")
        self.recipes = Rows(folders, "recipes", "recipe")
        self.probes = Rows(folders, "probes", "probe")
        self.segmentation = Rows(folders, "segmentation", "segmentation")
        for key in self.values["data"]:
            if key not in (known := ["synthetic", *self.datasets]):
                raise Refusal(
                    f"{where}: data: no data set {key!r}", expected=nearest(key, known), do="correct the name"
                )
        for name in self.values["shards"]:
            self.benchmarks.get(name, f"{where}: shards")
        self.results = Path(self.values["results"])
        self.training = Training(self.methods, self.recipes, self.datasets, self.values["data"], self.results)
        self._sequences: dict[str, list[str]] = {}
        self.entries = self._entries(where)

    @classmethod
    def read(cls, path: Path | str) -> Config:
        """Read and check a config file."""
        values = read_yaml(Path(path))
        if not isinstance(values, dict):
            raise Refusal(f"{path}: not a mapping", expected="keys such as runs and data", do="see config/config.yaml")
        return cls(values, str(path))

    @classmethod
    def from_argument(cls, text: str) -> Config:
        """A config from a command line: a path, or the config itself as JSON."""
        return cls(json.loads(text), "--config") if text.lstrip().startswith("{") else cls.read(text)

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
            return self.results / "data" / key / self.datasets.get(key, "data")["root"]
        if key not in self.values["data"]:
            raise Refusal(
                f"the benchmark {benchmark['name']} needs data.{key}",
                expected=f"`data: {{{key}: /path}}` in the config, the root of {benchmark['title']}",
                do=how_to_get(self.datasets.get(key, "data")) if key != "synthetic" else "name its root",
            )
        return Path(self.values["data"][key])

    def is_downloaded(self, benchmark: Mapping[str, Any]) -> bool:
        """True if the workflow fetches this benchmark's data: `data: {...: download}`."""
        return self.values["data"].get(benchmark["data"]) == "download"

    def archives(self, dataset: str) -> list[Mapping[str, Any]]:
        """The archives of a data set that the config's benchmarks need.

        Raises Refusal with the instructions for a data set that no program can fetch.
        """
        row = self.datasets.get(dataset, "data")
        splits = {b.get("split", "") for b in self.all_benchmarks() if b["data"] == dataset}
        found = archives_for(row, splits)
        if not found:
            raise Refusal(
                f"data.{dataset}: download: no archive of {row['title']} can be fetched by a program",
                expected="the root of your copy",
                do=how_to_get(row),
            )
        return found

    def check_data(self) -> None:
        """Raise Refusal when a benchmark has no data root, an own checkpoint is missing, or a subset names what its split lacks."""
        for weights in self.all_weights():
            path = self.checkpoint_path(weights)
            if weights.source in self.values["files"] and path is not None and not path.is_file():
                raise Refusal(f"files.{weights.source}: no file {path}", expected="a checkpoint", do="correct the path")
        for recipe in self.all_recipes():
            check_options(recipe)
            for name, root in self.training.video_roots(recipe.data).items():
                if not self.training.are_videos_generated(recipe.data) and not root.is_dir():
                    raise Refusal(f"data.{name}: no folder {root}", expected="its root", do="correct the path")
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
            row = self.methods.get(weights.method, "weights")
            return self.results / "downloads" / weights.method / row["released"]["file"]
        if weights.tier is not None:
            recipe = self.methods.get(weights.method, "weights")["recipe"]
            return self.training.run_folder(recipe, *weights.tier) / "checkpoint.pth"
        return None

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

    def _entries(self, where: str) -> list[Entry]:
        self._by_key: dict[tuple[str, str], Entry] = {}
        for i, run in enumerate(self.values["runs"]):
            place = f"{where}: runs[{i}]"
            for benchmark in run["benchmarks"]:
                for method in run["methods"]:
                    for source in run["weights"]:
                        for protocol in run["protocols"]:
                            self._add(method, source, protocol, benchmark, place)
        return list(self._by_key.values())

    def _add(self, method: str, source: str, protocol: str, benchmark: str, place: str) -> None:
        row = self.methods.get(method, f"{place}.methods")
        measured = self.benchmarks.get(benchmark, f"{place}.benchmarks")
        encoder, members = dict(row["encoder"]), [method]
        if encoder["arch"] == "fusion":
            members = encoder["members"]
            encoder["members"] = [self.methods.get(m, f"method {method}: encoder.members")["encoder"] for m in members]
            kinds = {(m["arch"] == "resnet18_hr", m.get("colour"), str(m.get("strides"))) for m in encoder["members"]}
            if len(kinds) > 1 or any(m["arch"] in ("fusion", "none", "stm") for m in encoder["members"]):
                raise Refusal(
                    f"method {method}: members {' and '.join(members)} cannot be fused",
                    expected="two plain networks of one grid and one colour space",
                    do="correct `members:`",
                )
        rules: Protocol | Probe | MaskPropagation
        if is_tracking(measured):
            name = own_probe(row) if protocol == "own" else protocol
            rules = Probe.from_row(self.probes.get(name, f"{place}.protocols (on {benchmark})"), self.recipes)
            check_probe(rules, row, source, place)
        else:
            name = row["protocol"] if protocol == "own" else protocol
            if protocol == "own" and row["encoder"]["arch"] == "stm" and is_youtube_vos(measured):
                name = "mivos-ytvos"
            rules = self._mask_rules(name, row, measured, f"{place}.protocols")
        weights = self._weights(row, members, source, place)
        if (encoder["arch"] == "none") != rules.copy:
            raise Refusal(
                f"{place}: method {method} with protocol {name}",
                expected="method identity with protocol identity (stay on a benchmark of boxes), and no other mixture",
                do="give the identity row a run of its own",
            )
        entry = Entry(row, source, rules, measured, weights, encoder)
        if entry.key in self._by_key:
            raise Refusal(
                f"{place}: two entries with the id {entry.id} on {benchmark}",
                expected="every entry once",
                do="remove one of the runs",
            )
        self._by_key[entry.key] = entry

    def _mask_rules(
        self, name: str, method: Mapping[str, Any], benchmark: Mapping[str, Any], place: str
    ) -> Protocol | MaskPropagation:
        """The protocol of an encoder, or the rules of an STM network, which reads memories."""
        if method["encoder"]["arch"] == "stm":
            rules = MaskPropagation.from_row(self.segmentation.get(name, f"{place} (of an STM network)"))
            if is_youtube_vos(benchmark) and rules.size == "native":
                raise Refusal(
                    f"{place}: {name} on {benchmark['name']} at the videos' own size",
                    expected="a short side of 480, as every published number has",
                    do="use mivos-ytvos, mivos-ytvos-km, or a row of yours with `size: short_side`",
                )
            return rules
        if is_youtube_vos(benchmark):
            raise Refusal(
                f"{place}: {method['name']} on {benchmark['name']}, whose objects start in different frames",
                expected="an STM network (mivos-s012, mivos-s02, random-stm)",
                do="measure encoders on DAVIS",
            )
        return Protocol.from_row(self.protocols.get(name, place))

    def _weights(self, row: Mapping[str, Any], members: list[str], source: str, place: str) -> tuple[WeightsId, ...]:
        if row["encoder"]["arch"] == "none":
            if source != "none":
                raise Refusal(
                    f"{place}.weights: {source!r} for {row['name']}",
                    expected="none: it has no network",
                    do="write `weights: [none]`",
                )
            return ()
        for name in self.values["files"]:
            if name in ("released", "none", "own") or RANDOM.match(name) or PRETRAINED.match(name):
                raise Refusal(
                    f"files: a checkpoint named {name!r}",
                    expected="a name that means nothing else in `weights:`",
                    do="rename it",
                )
        known = ["released", "random", *TIERS, *self.values["files"]]
        if source not in known and not RANDOM.match(source) and not PRETRAINED.match(source):
            raise Refusal(
                f"{place}.weights: {source!r}",
                expected=nearest(source, known),
                do="correct the name, or add it to `files:`",
            )
        if source in self.values["files"] and len(members) > 1:
            raise Refusal(
                f"{place}: one file for the fusion {row['name']}",
                expected="released or random weights",
                do="score the members one by one",
            )
        if PRETRAINED.match(source):
            rows = {member: self.methods.get(member, place) for member in members}
            trained = [member for member, r in rows.items() if "recipe" in r]
            if not trained:
                raise Refusal(
                    f"{place}: {row['name']} has no recipe", expected="`recipe:` in its row", do="correct the run"
                )
            for member in trained:
                recipe = self.training.recipe(rows[member]["recipe"], PRETRAINED.match(source)[1])  # type: ignore[index]
                if recipe.method == "probe" or network_of(recipe) != rows[member]["encoder"]["arch"]:
                    raise Refusal(
                        f"{place}: method {member}, a {rows[member]['encoder']['arch']}, with recipe {recipe.name}",
                        expected=f"a recipe that trains a {rows[member]['encoder']['arch']}; this one trains a {network_of(recipe)}",
                        do="correct `recipe:` of the method",
                    )
            # of a fusion the members without a recipe are the released ones, as in SFC
            return tuple(WeightsId(member, source if member in trained else "released") for member in members)
        for member in members:
            if source == "released" and "released" not in self.methods.get(member, place):
                raise Refusal(
                    f"{place}: {member} has no released weights",
                    expected="random or a name of `files:`",
                    do="correct the run",
                )
        return tuple(WeightsId(member, source) for member in members)
