"""What lies in a results folder against what a config asks: every file that does not belong there, with the reason in words.

Everything is judged by the records that the results themselves carry, never by what Snakemake remembers: a results folder may
come from another clone, another config or another computer. The workflow makes again what is named here; the table refuses it.
Nothing is said of what is missing. Planning calls this, so torch is imported only where trained weights lie there, and
files are hashed once (see `corrbench.workflow.Notes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corrbench.benchmarks.registry import benchmark_of, code_of
from corrbench.changes import differences, plain
from corrbench.config import Config
from corrbench.entries import Entry, WeightsId
from corrbench.errors import Refusal, few
from corrbench.given import GivenMasks, mask_files
from corrbench.images import Kind
from corrbench.pretraining.recipe import Recipe, pretrain_code
from corrbench.provenance import code_version
from corrbench.report.masks import altered_masks
from corrbench.report.records import content, read_intact, weights_meta
from corrbench.report.server import NAME as SERVER
from corrbench.report.training import data_fingerprint, head_of
from corrbench.workflow import Notes

KINDS: tuple[Kind, ...] = ("inputs", "annotations")


class Audit:
    """One look at a results folder. `found` has the reasons by path, once `run` has been called."""

    def __init__(self, config: Config, notes: Notes | None = None, *, thorough: bool = False) -> None:
        """`thorough`: hash weights files, too; else only what they say of themselves is compared."""
        self.config, self.thorough = config, thorough
        self.notes = notes or Notes(config.results / ".versions")
        self.found: dict[Path, str] = {}
        self._records: dict[Path, dict[str, Any] | None] = {}

    def run(self) -> dict[Path, str]:
        """Look at everything that the table is made of."""
        config = self.config
        for name, wanted in config.made_data().items():
            self._made_data(name, wanted)
        for benchmark in config.all_benchmarks():
            for kind in KINDS:
                self._data(benchmark, kind)
        for weights in config.all_weights():
            for recipe in config.training.chain(weights):
                assert weights.tier is not None
                self._training(recipe, *weights.tier)
            self._weights(weights)
        for entry in config.entries:
            self._probe(entry)
            self._summary(entry)
            self._masks(entry)
            self._boxes(entry)
            self._scores(entry)
        return self.found

    def record(self, path: Path) -> dict[str, Any] | None:
        """A record, None where it is missing; one that is damaged is noted as such."""
        if path not in self._records:
            self._records[path] = None
            if path.exists():
                try:
                    self._records[path] = read_intact(path)
                except Refusal as refusal:
                    self.found[path] = _short(refusal, path)
        return self._records[path]

    def _note(self, path: Path, checks: Mapping[str, tuple[Any, Any]]) -> None:
        """Note what differs: pairs of what the record says and what is asked, by what they are."""
        said = [_phrase(what, then, now) for what, (then, now) in checks.items() if plain(then) != plain(now)]
        if said:
            self.found[path] = ", ".join([*([self.found[path]] if path in self.found else []), *said])

    def _made_data(self, name: str, wanted: Mapping[str, Any]) -> None:
        path = self.config.results / "data" / f"{name}.settings.json"
        made = self.record(path)
        if made is not None and not path.with_name(name).is_dir():
            self.found[path] = f"the folder {path.with_name(name)} is gone"
        elif made is not None:
            self._note(path, {"settings of the data": (made.get("settings"), wanted["settings"]),
                              "code of the generator": (made.get("code"), wanted["code"])})  # fmt: skip

    def _data(self, benchmark: Mapping[str, Any], kind: Kind) -> None:
        path = self.config.results / benchmark["name"] / "data" / f"{kind}.json"
        made = self.record(path)
        if made is None:
            return
        settings = self.config.benchmark_settings(benchmark)
        checks: dict[str, tuple[Any, Any]] = {"benchmark": ({key: made.get(key) for key in settings}, settings),
                                              "kind": (made.get("kind"), kind),}  # fmt: skip
        if "code" in made:  # the first edition did not note it
            checks["code of the doctor"] = (made["code"], code_of("doctor", benchmark))
        version = self._version(benchmark, kind)
        if made.get("version") != version:
            checks["files of the data set changed"] = (None, "changed")
        self._note(path, checks)

    def _version(self, benchmark: Mapping[str, Any], kind: Kind) -> str:
        """Content version of what propagation (inputs) or the metric reads, now; empty for data that the workflow makes."""
        config = self.config
        if config.is_generated(benchmark) or config.is_downloaded(benchmark):
            return ""
        files = benchmark_of(benchmark).files(config.data_root(benchmark), config.sequences(benchmark), kind)
        return self.notes.version(files)

    def _training(self, recipe: Recipe, tier: str, seed: int) -> None:
        config, folder = self.config, self.config.training.run_folder(recipe.name, tier, seed)
        made = self.record(folder / "recipe.json")
        if made is None:
            return
        before = None  # what it started from, as it lies there now
        if recipe.start is not None:
            report = self.record(config.results / "weights" / recipe.start / "released/report.json")
            before = report and report["sha256"]
        elif recipe.init is not None:
            before = self.notes.sha256(config.training.run_folder(recipe.init, tier, seed) / "checkpoint.pth") or None
        checks = {"seed": (made.get("seed"), seed), **self._recipe(made, recipe)}
        if before is not None or recipe.start is recipe.init is None:
            checks["it started from other weights"] = (made.get("init"), before)
        self._note(folder / "recipe.json", checks)

    def _recipe(self, made: Mapping[str, Any], recipe: Recipe) -> dict[str, tuple[Any, Any]]:
        checks = {"recipe": (made.get("recipe"), recipe.settings()),
                  "code of the training": (made.get("code"), pretrain_code(recipe.method))}  # fmt: skip
        if (self.config.results / "frames" / recipe.data / "index.csv").is_file():
            checks["trained on other videos"] = (made.get("data"), data_fingerprint(self.config, recipe, self.notes))
        return checks

    def _weights(self, weights: WeightsId) -> None:
        config, folder = self.config, self.config.results / "weights" / weights.path
        report = self.record(folder / "report.json")
        if report is None:
            return
        row = config.rows.methods.get(weights.method, "weights")
        checks: dict[str, tuple[Any, Any]] = {
            "method": (report.get("method"), weights.method),
            "encoder": (report.get("encoder"), row["encoder"]),
        }
        if weights.seed is not None:
            checks["seed"] = (report.get("seed"), weights.seed)
        if weights.source == "released":
            released, source = row["released"], mapping(report.get("source"))
            published = mapping(released.get("hash"))
            checks["family"] = (report.get("family"), released["family"])
            checks["released file"] = (source.get("file"), released["file"])
            checks["its published hash"] = (mapping(source.get("claim")).get("value"), published.get("value"))
        path = config.checkpoint_path(weights)
        if "code" in report and (path is None or path.is_file()):  # else nothing could convert it again
            checks["code of the conversion"] = (report["code"], code_version("scripts/convert.py"))
        if path is not None and (
            now := self.notes.sha256(path)
        ):  # one that was removed to save space contradicts nothing
            source = mapping(report.get("source"))
            if source.get("sha256") != now:
                checks[f"converted from another file than {path}"] = (None, now)
        file = folder / "weights.pt"
        if file.exists():
            try:
                pair = (weights_meta(file).get("sha256"), report.get("sha256"))
                if self.thorough and "weights_file_sha256" in report:
                    pair = (self.notes.sha256(file), report["weights_file_sha256"])
                checks["weights.pt is not the file that it names"] = pair
            except Refusal as refusal:
                self.found[folder / "report.json"] = _short(refusal, file)
        self._note(folder / "report.json", checks)

    def hashes(self, entry: Entry) -> list[Any]:
        """sha256 of the numbers of an entry's weights, as their reports say; None for a report that is missing."""
        reports = [self.record(self.config.results / "weights" / w.path / "report.json") for w in entry.weights]
        return [report and report.get("sha256") for report in reports]

    def _probe(self, entry: Entry) -> None:
        folder, probe = self.config.probe_folder(entry), entry.probe
        if folder is None or probe is None or probe.recipe is None:
            return
        made = self.record(folder / "recipe.json")
        if made is not None:
            checks = {"seed": (made.get("seed"), probe.seed), **self._recipe(made, probe.recipe)}
            self._note(
                folder / "recipe.json", {**checks, "trained on other weights": ([made.get("init")], self.hashes(entry))}
            )

    def _folder(self, entry: Entry) -> Path:
        return self.config.results / entry.benchmark["name"] / entry.id

    def _fingerprint(self, entry: Entry, kind: Kind) -> str | None:
        data = self.record(self.config.results / entry.benchmark["name"] / "data" / f"{kind}.json")
        return None if data is None else str(data.get("fingerprint"))

    def _summary(self, entry: Entry) -> None:
        """How labels were propagated, masks predicted or targets tracked; of a benchmark in parts every part as well."""
        folder = self._folder(entry)
        count = self.config.values["shards"].get(entry.benchmark["name"], 0) if entry.stage == "propagate" else 0
        parts = [folder / "parts" / f"{i}of{count}.json" for i in range(count)]
        for path in (folder / entry.summary, *parts):
            summary = self.record(path)
            if summary is None:
                continue
            record = mapping(summary.get("record"))
            stage = entry.stage
            checks = {
                "entry": (summary.get("entry"), entry.id),
                f"settings of {stage}": (record.get("settings"), entry.stage_settings),
                f"code of {stage}": (record.get("code"), entry.stage_code),
                **_named("made with other weights", record.get("weights_sha256"), self.hashes(entry)),
                **_named(
                    "made from other images or first annotations",
                    record.get("inputs"),
                    self._fingerprint(entry, "inputs"),
                ),
            }
            if entry.probe is not None:
                checks |= _named(
                    "made with another layer of the probe", record.get("head"), head_of(self.config, entry, self.notes)
                )
            if entry.given is not None:
                checks |= self._given(entry.given, mapping(record.get("given")), record.get("version"))
            self._note(path, checks)

    def _given(self, given: GivenMasks, record: Mapping[str, Any], version: Any) -> dict[str, tuple[Any, Any]]:
        """What was given, against what lies there now; masks that are gone after they were read contradict nothing."""
        path = given.path(self.config.results)
        if now := "" if given.fetched else self.notes.version(mask_files(path)):
            return {"masks that were given changed": (version, now)}
        checks: dict[str, tuple[Any, Any]] = {
            "published hash of the masks": (mapping(record.get("claim")).get("value"), mapping(given.row.get("hash")).get("value")),
        }  # fmt: skip
        if "file" in given.row:
            checks["file of the masks"] = (record.get("name"), path.name)
        if path.is_file():
            checks["masks that were given changed"] = (record.get("sha256"), self.notes.sha256(path))
        return checks

    def _decoding(self, entry: Entry) -> tuple[Any, str]:
        """Settings and code of what wrote the masks."""
        if entry.stage == "propagate":
            return entry.postprocess_settings(), code_version("scripts/postprocess.py")
        return entry.stage_settings, entry.stage_code

    def _mask_checks(self, entry: Entry, made: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        summary = self.record(self._folder(entry) / entry.summary)
        settings, code = self._decoding(entry)
        checks = {"decode settings": (made.get("settings"), settings), "code of the masks": (made.get("code"), code)}
        if summary is not None:
            checks |= _named("masks of another propagation", made.get("propagation"), summary.get("key"))
        return checks

    def _masks(self, entry: Entry) -> None:
        path = self._folder(entry) / "masks" / "record.json"
        made = self.record(path) if entry.probe is None else None
        if made is None:
            return
        checks = self._mask_checks(entry, made)
        if "entry" in made:
            checks["entry"] = (made["entry"], entry.id)
        self._note(path, checks)
        if path not in self.found and (altered := altered_masks(path.parent, made, self.notes)):
            self.found[path] = f"masks that were changed since: {few(altered)}"

    def _boxes(self, entry: Entry) -> None:
        path = self._folder(entry) / entry.summary
        made = self.record(path) if entry.probe is not None else None
        if made is None or path in self.found:
            return
        boxes = path.parent / "boxes"
        wanted = {name: mapping(done).get("sha256") for name, done in mapping(made.get("sequences")).items()}
        altered = [name for name, sha in wanted.items() if self.notes.sha256(boxes / f"{name}.txt") != sha]
        if altered:
            self.found[path] = f"boxes that were changed since: {few(altered)}"

    def _scores(self, entry: Entry) -> None:
        path = self._folder(entry) / "scores" / "scores.json"
        scores = self.record(path) if entry.measured_on.scored_here else None
        if scores is None:
            return
        made = mapping(scores.get("record"))
        program = entry.measured_on.metric.program
        checks = {
            "code of the metric": (made.get("code"), code_version(f"scripts/{program}.py")),
            **_named(
                "scored against other annotations", made.get("annotations"), self._fingerprint(entry, "annotations")
            ),
        }
        said = scores.get("entry", made.get("entry"))
        if said is not None:
            checks["entry"] = (said, entry.id)
        if entry.probe is not None:
            summary = self.record(self._folder(entry) / entry.summary)
            if summary is not None:
                checks |= _named("scores of other boxes", made.get("tracking"), summary.get("key"))
        else:
            masks = mapping(made.get("masks"))
            checks |= self._mask_checks(entry, masks)
            record = self.record(self._folder(entry) / "masks" / "record.json")
            if record is not None:
                checks |= _named(
                    "scores of other masks", content(_shared(masks, record)), content(_shared(record, masks))
                )
        self._note(path, checks)

    def row_records(self, entry: Entry) -> dict[str, str | None]:
        """Digests of the records that a row of the table is made of; None for one that is missing."""
        folder = self._folder(entry)
        paths = {"summary": folder / entry.summary}
        if entry.measured_on.scored_here:
            paths["scores"] = folder / "scores" / "scores.json"
        paths |= {w.path: self.config.results / "weights" / w.path / "report.json" for w in entry.weights}
        found = {name: self.record(path) for name, path in paths.items()}
        digests = {name: None if record is None else content(record) for name, record in found.items()}
        if not entry.measured_on.scored_here:  # what somebody noted; nothing is no fault
            digests["server"] = self.notes.sha256(folder / SERVER) or "none"
        return digests


def audit(config: Config, notes: Notes | None = None) -> dict[Path, str]:
    """Every file that a table would be made of and that does not belong to the config, data, weights and code of now: why, by path.

    Masks for an evaluation server are left out: the workflow may be writing them at the same time, and server.yaml is
    compared with the zip by those who read it.
    """
    found = Audit(config, notes, thorough=True).run()
    for entry in config.entries:
        if not entry.measured_on.scored_here:
            found.pop(config.results / entry.benchmark["name"] / entry.id / "masks" / "record.json", None)
    return found


def mapping(value: Any) -> Mapping[str, Any]:
    """A part of a record that ought to be a mapping; an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}


def _named(what: str, then: Any, now: Any) -> dict[str, tuple[Any, Any]]:
    """A check that says only `what` it is, not the two hashes; none where nothing is known of now (it is made first)."""
    if now is None or (isinstance(now, list) and None in now) or then == now:
        return {}
    return {what: (None, True)}


def _shared(record: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key in other and not key.endswith("_sha256")}


def _phrase(what: str, then: Any, now: Any) -> str:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        return f"{what}: " + "; ".join(differences(plain(then), plain(now))[:8])
    if what.startswith("code of"):
        return f"{what} changed"
    told = ("entry", "method", "seed", "family", "kind", "released file", "its published hash")
    return f"{what}: {then!r} -> {now!r}" if what in told else what


def _short(refusal: Refusal, path: Path) -> str:
    return str(refusal).splitlines()[0].removeprefix(f"{path}: ")
