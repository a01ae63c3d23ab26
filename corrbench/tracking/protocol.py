"""A probe: everything that decides how an encoder is probed by tracking, from a row of ``config/probes/``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from corrbench.errors import Refusal
from corrbench.files import digest
from corrbench.pretraining.recipe import Recipe
from corrbench.rows import Rows


@dataclass(frozen=True)
class Figures:
    """Of the tracker (VFS siamfc/default_config_base.py); sizes of crops are the recipe's."""

    scales: int = 3
    step: float = 1.0375
    """Ratio of neighboring scales."""
    rate: float = 0.59
    """How far the size follows the best scale."""
    penalty: float = 0.9745
    """Factor on the responses of the changed scales; it raises negative ones, as in the reference."""
    window: float = 0.176
    """Weight of the Hann window."""
    response: int = 17
    """Cells that one response is said to have. The map has 18: displacements come out 17/18 of their true size, as in
    the reference."""
    upsample: int = 16


@dataclass(frozen=True)
class Probe:
    """Rules of a row of the table on a tracking benchmark."""

    name: str
    kind: Literal["siamfc", "stay"]
    """`stay`: the first box in every frame, the floor of the benchmark."""
    head: Literal["trained", "released"] | None
    """`released`: the layer that a released tracking checkpoint holds; nothing is trained."""
    seed: int
    recipe: Recipe | None
    figures: Figures

    @classmethod
    def from_row(cls, row: Mapping[str, Any], recipes: Rows) -> Probe:
        """The probe of a checked row; its recipe comes from `recipes`."""
        if row["kind"] == "stay":
            return cls(row["name"], "stay", None, 0, None, Figures())
        recipe = Recipe.from_row(recipes.get(row["recipe"], f"probe {row['name']}: recipe"), row["tier"])
        if recipe.method != "probe":
            raise Refusal(
                f"probe {row['name']}: recipe {recipe.name} has method {recipe.method}",
                expected="a recipe with method probe",
                do="start yours with `base: otb-probe-r18`",
            )
        return cls(row["name"], "siamfc", row["head"], row["seed"], recipe, Figures(**row["tracker"]))

    def for_encoder(self, encoder: Mapping[str, Any]) -> Probe:
        """The probe of one network: its backbone pads as that network does (reflect for CRW), which is another hash."""
        if self.recipe is None or encoder.get("padding", "zeros") == "zeros":
            return self
        options = {**self.recipe.options, "padding": encoder["padding"]}
        return replace(self, recipe=replace(self.recipe, options=options))

    @property
    def copy(self) -> bool:
        """True if no network takes part."""
        return self.kind == "stay"

    def settings(self) -> dict[str, Any]:
        """Everything that decides the numbers, as plain data."""
        if self.recipe is None:
            return {"kind": self.kind}
        # a released layer was trained elsewhere: of the recipe only the network's figures matter
        recipe = self.recipe.settings() if self.head == "trained" else {"options": self.recipe.options}
        return {
            "kind": self.kind,
            "head": self.head,
            "seed": self.seed,
            "recipe": recipe,
            "tracker": asdict(self.figures),
        }

    @property
    def hash(self) -> str:
        """12 hex digits over `settings`; the name is no part of it."""
        return digest(self.settings())

    def track_settings(self) -> dict[str, Any]:
        """What the track stage reads; the training is known by the file it made."""
        if self.recipe is None:
            return {"kind": self.kind}
        return {"kind": self.kind, "head": self.head, "options": self.recipe.options, "tracker": asdict(self.figures)}


def own_probe(method: Mapping[str, Any]) -> str:
    """The probe that `own` means for a method row: that of its network."""
    encoder = method["encoder"]
    if encoder["arch"] == "resnet18_hr":
        return "siamfc-hr-position" if encoder["position_map"] else "siamfc-hr"
    known = {"resnet18": "siamfc-r18", "resnet50": "siamfc-r50", "none": "stay"}
    if encoder["arch"] not in known:
        raise Refusal(
            f"method {method['name']} on a benchmark of boxes",
            expected="one network of features",
            do="probe the members of a fusion",
        )
    return known[encoder["arch"]]


def check_probe(probe: Probe, method: Mapping[str, Any], source: str, place: str) -> None:
    """Raise Refusal for a probe of another network than the method's, or a released layer that the method has not."""
    if probe.recipe is None:
        return
    options, encoder = probe.recipe.options, method["encoder"]
    own = (encoder["arch"], encoder.get("position_map", False))
    wanted = (options.get("arch", "resnet18"), options.get("position_map", False))
    if own[0] != "none" and own != wanted:
        raise Refusal(
            f"{place}: probe {probe.name} (for {wanted[0]}) with {method['name']}, a {own[0]}",
            expected=own_probe(method),
            do="correct the run; `own` is the probe of the method's network",
        )
    odd = [key for key in ("block", "color") if key in encoder and encoder[key] not in ("rgb", "lab")]
    if odd:
        raise Refusal(
            f"{place}: probe {probe.name} with {method['name']}, whose network has encoder.{odd[0]}: {encoder[odd[0]]}",
            expected="a whole layer of a network that reads RGB or Lab: the tracker's backbone is no other",
            do="measure this row on masks",
        )
    family = method.get("released", {}).get("family")
    made_here = source.startswith(("random", "smoke", "short", "paper"))
    if probe.head == "released" and (made_here or (source == "released" and family != "vfs-tracking")):
        raise Refusal(
            f"{place}: probe {probe.name} with {method['name']}, weights {source}, which hold no layer of a tracker",
            expected="a method with a released tracking checkpoint: vfs-r18-object, vfs-r50-object",
            do=f"use {own_probe(method)}, which trains the layer",
        )
