"""The grid of what is measured: from the runs of a config to entries, with every mixture that cannot be measured refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from corrbench.benchmarks.base import PROPAGATE, TRACK
from corrbench.benchmarks.registry import benchmark_of
from corrbench.entries import RANDOM, Entry, WeightsId
from corrbench.errors import Refusal, nearest
from corrbench.given import SOURCE, GivenMasks, check_given
from corrbench.pretraining.recipe import PRETRAINED, TIERS, network_of
from corrbench.propagation.protocol import Protocol
from corrbench.reading import expand
from corrbench.rows import AllRows, validate
from corrbench.segmentation.protocol import MaskPropagation
from corrbench.tracking.protocol import Probe, check_probe, own_probe
from corrbench.training import Training

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
"""Blocks of layer1 .. layer4."""


def check_same_file(entry: Entry, others: Iterable[Entry], place: str) -> None:
    """Raise Refusal for two rows of masks that call different archives by one name."""
    assert entry.given is not None
    said = {key: entry.given.row.get(key) for key in ("file", "addresses", "size", "hash")}
    for other in others:
        if other.given is not None and said["file"] is not None and other.given.row.get("file") == said["file"]:
            theirs = {key: other.given.row.get(key) for key in said}
            if theirs != said:
                raise Refusal(
                    f"{place}: file: {said['file']}, which {other.method['name']} fetches from elsewhere or expects with another hash",
                    expected="one archive for one name",
                    do="rename `file:` in one of the rows",
                )


def check_block(encoder: Mapping[str, Any], method: str) -> None:
    """Raise Refusal for a block that a layer does not have."""
    if "block" in encoder and encoder["block"] >= (count := BLOCKS[encoder["arch"]][int(encoder["layer"][-1]) - 1]):
        raise Refusal(
            f"method {method}: encoder.block: {encoder['block']} of {encoder['layer']} of a {encoder['arch']}",
            expected=f"a number from 0 to {count - 1}",
            do="correct the row",
        )


class Grid:
    """Makes entries of runs. `files` are the checkpoints that the config names, `tier` is that of weights called `pretrained`."""

    def __init__(self, rows: AllRows, training: Training, files: Mapping[str, Any], tier: str = "paper") -> None:
        self.rows, self.training, self.files, self.tier = rows, training, files, tier

    def entries(
        self, runs: Sequence[Mapping[str, Any]], masks: Sequence[str | Mapping[str, Any]], where: str
    ) -> list[Entry]:
        """methods x weights x protocols x benchmarks of every run, in this order, then the given masks.

        Raises Refusal for what cannot be measured.
        """
        found: dict[tuple[str, str], Entry] = {}
        for i, run in enumerate(runs):
            place = f"{where}: runs[{i}]"
            for benchmark in run["benchmarks"]:
                for method in run["methods"]:
                    for source in run["weights"]:
                        for protocol in run["protocols"]:
                            entry = self._entry(method, source, protocol, benchmark, place)
                            if entry.key in found:
                                raise Refusal(
                                    f"{place}: two entries with the id {entry.id} on {benchmark}",
                                    expected="every entry once",
                                    do="remove one of the runs",
                                )
                            found[entry.key] = entry
        for i, row in enumerate(masks):
            entry = self._given(row, f"{where}: masks[{i}]")
            check_same_file(entry, found.values(), f"{where}: masks[{i}]")
            if entry.key in found:
                raise Refusal(
                    f"{where}: masks[{i}]: two entries with the id {entry.id} on {entry.benchmark['name']}",
                    expected="every name once",
                    do="rename one, or remove it",
                )
            found[entry.key] = entry
        if not found:
            raise Refusal(
                f"{where}: nothing to measure", expected="at least one run, or masks", do="add one to `runs:`"
            )
        return list(found.values())

    def _given(self, row: str | Mapping[str, Any], place: str) -> Entry:
        """The entry of masks that were made elsewhere."""
        values = dict(self.rows.masks.get(row, place)) if isinstance(row, str) else validate(dict(row), "masks", place)
        if "path" in values:
            values["path"] = expand(values["path"])
        check_given(values, place)
        benchmark = self.rows.benchmarks.get(values["benchmark"], f"{place}.benchmark")
        if benchmark_of(benchmark).label != "masks":
            raise Refusal(
                f"{place}: masks on {benchmark['name']}, a benchmark of {benchmark_of(benchmark).label}",
                expected="a benchmark of masks",
                do="score boxes with python -m scripts.evaluate_boxes --boxes FOLDER",
            )
        encoder = {"arch": "none"}
        method = {"name": values["name"], "method": values.get("method", values["name"]), "backbone": values["backbone"], "encoder": encoder}  # fmt: skip
        return Entry(method, SOURCE, GivenMasks(values), benchmark, (), encoder)

    def _entry(self, method: str, source: str, protocol: str, benchmark: str, place: str) -> Entry:
        if source == "pretrained":
            source = self.tier
        row = self.rows.methods.get(method, f"{place}.methods")
        measured = self.rows.benchmarks.get(benchmark, f"{place}.benchmarks")
        encoder, members = dict(row["encoder"]), [method]
        check_block(encoder, method)
        if encoder["arch"] == "fusion":
            members = encoder["members"]
            encoder["members"] = [
                self.rows.methods.get(m, f"method {method}: encoder.members")["encoder"] for m in members
            ]
            kinds = {(m["arch"] == "resnet18_hr", m.get("color"), str(m.get("strides"))) for m in encoder["members"]}
            if len(kinds) > 1 or any(m["arch"] in ("fusion", "none", "stm") for m in encoder["members"]):
                raise Refusal(
                    f"method {method}: members {' and '.join(members)} cannot be fused",
                    expected="two plain networks of one grid and one color space",
                    do="correct `members:`",
                )
        rules: Protocol | Probe | MaskPropagation
        target = benchmark_of(measured)
        if TRACK in target.stages:
            name = own_probe(row) if protocol == "own" else protocol
            probe = Probe.from_row(self.rows.probes.get(name, f"{place}.protocols (on {benchmark})"), self.rows.recipes)
            rules = probe.for_encoder(encoder)
            check_probe(rules, row, source, place)
        else:
            name = row["protocol"] if protocol == "own" else protocol
            if protocol == "own" and row["encoder"]["arch"] == "stm":
                name = target.stm_protocol or name
            rules = self._mask_rules(name, row, measured, f"{place}.protocols")
            if isinstance(rules, Protocol):
                encoder = rules.encoder_row(encoder)
        weights = self._weights(row, members, source, place)
        if (encoder["arch"] == "none") != rules.copy:
            raise Refusal(
                f"{place}: method {method} with protocol {name}",
                expected="method identity with protocol identity (stay on a benchmark of boxes), and no other mixture",
                do="give the identity row a run of its own",
            )
        return Entry(row, source, rules, measured, weights, encoder)

    def _mask_rules(
        self, name: str, method: Mapping[str, Any], benchmark: Mapping[str, Any], place: str
    ) -> Protocol | MaskPropagation:
        """The protocol of an encoder, or the rules of an STM network, which reads memories."""
        if method["encoder"]["arch"] == "stm":
            if name in self.rows.protocols and name not in self.rows.segmentation:
                raise Refusal(
                    f"{place}: {name} with {method['name']}: a protocol of encoders, and this is an STM network",
                    expected=f"a row of segmentation: {', '.join(self.rows.segmentation)}",
                    do="give STM networks a run of their own",
                )
            rules = MaskPropagation.from_row(self.rows.segmentation.get(name, f"{place} (of an STM network)"))
            if PROPAGATE not in benchmark_of(benchmark).stages and rules.size == "native":
                raise Refusal(
                    f"{place}: {name} on {benchmark['name']} at the videos' own size",
                    expected="a short side of 480, as every published number has",
                    do="use mivos-ytvos, mivos-ytvos-km, or a row of yours with `size: short_side`",
                )
            return rules
        if PROPAGATE not in benchmark_of(benchmark).stages:
            raise Refusal(
                f"{place}: {method['name']} on {benchmark['name']}, whose objects start in different frames",
                expected="an STM network (mivos-s012, mivos-s02, random-stm)",
                do="measure encoders on DAVIS",
            )
        if name in self.rows.segmentation and name not in self.rows.protocols:
            raise Refusal(
                f"{place}: {name} with {method['name']}: rules of an STM network, and this is an encoder",
                expected="a row of protocols, or own",
                do="give STM networks a run of their own",
            )
        return Protocol.from_row(self.rows.protocols.get(name, place))

    def _weights(self, row: Mapping[str, Any], members: list[str], source: str, place: str) -> tuple[WeightsId, ...]:
        if row["encoder"]["arch"] == "none":
            if source != "none":
                raise Refusal(
                    f"{place}.weights: {source!r} for {row['name']}",
                    expected="none: it has no network",
                    do="write `weights: [none]`",
                )
            return ()
        for name in self.files:
            if (
                name in ("released", "pretrained", "none", "own", SOURCE)
                or RANDOM.match(name)
                or PRETRAINED.match(name)
            ):
                raise Refusal(
                    f"files: a checkpoint named {name!r}",
                    expected="a name that means nothing else in `weights:`",
                    do="rename it",
                )
        known = ["released", "random", "pretrained", *TIERS, *self.files]
        if source not in known and not RANDOM.match(source) and not PRETRAINED.match(source):
            raise Refusal(
                f"{place}.weights: {source!r}",
                expected=nearest(source, known),
                do="correct the name, or add it to `files:`",
            )
        if source in self.files and len(members) > 1:
            own = self.files[source].get("member")
            if own not in members:
                raise Refusal(
                    f"{place}: the file {source} for the fusion {row['name']}, "
                    + ("which says for no member" if own is None else f"as its member {own}"),
                    expected=f"`member:` of files.{source} to be {' or '.join(members)}; the other member is the released one",
                    do="add or correct `member:`",
                )
            for member in members:
                if member != own and "released" not in self.rows.methods.get(member, place):
                    raise Refusal(
                        f"{place}: the fusion {row['name']} with the file {source} as {own}: {member} has no released weights",
                        expected="a member with released weights beside the file",
                        do="choose another fusion, or give the other member the file",
                    )
            return tuple(WeightsId(member, source if member == own else "released") for member in members)
        if PRETRAINED.match(source):
            rows = {member: self.rows.methods.get(member, place) for member in members}
            trained = [member for member, r in rows.items() if "recipe" in r]
            if not trained:
                raise Refusal(
                    f"{place}: {row['name']} has no recipe", expected="`recipe:` in its row", do="correct the run"
                )
            for member in trained:
                recipe = self.training.recipe(rows[member]["recipe"], PRETRAINED.match(source)[1])  # type: ignore[index]
                padding = recipe.options.get("padding", "reflect") if recipe.method == "crw" else None
                if padding not in (None, rows[member]["encoder"].get("padding", "zeros")):
                    raise Refusal(
                        f"{place}: method {member} reads its network with padding {rows[member]['encoder'].get('padding', 'zeros')}, "
                        f"and the recipe {recipe.name} trains it with {padding}",
                        expected="the same padding in both",
                        do=f"write `encoder: {{padding: {padding}}}` in the method's row, or change the recipe's option",
                    )
                if recipe.method == "probe" or network_of(recipe) != rows[member]["encoder"]["arch"]:
                    raise Refusal(
                        f"{place}: method {member}, a {rows[member]['encoder']['arch']}, with recipe {recipe.name}",
                        expected=f"a recipe that trains a {rows[member]['encoder']['arch']}; this one trains a {network_of(recipe)}",
                        do="correct `recipe:` of the method",
                    )
            # of a fusion the members without a recipe are the released ones, as in SFC
            return tuple(WeightsId(member, source if member in trained else "released") for member in members)
        for member in members:
            if source == "released" and "released" not in self.rows.methods.get(member, place):
                raise Refusal(
                    f"{place}: {member} has no released weights",
                    expected="random or a name of `files:`",
                    do="correct the run",
                )
        return tuple(WeightsId(member, source) for member in members)
