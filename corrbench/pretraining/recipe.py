"""A recipe: everything that decides a pretraining run, from a row of ``config/recipes/`` and a tier."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import ModuleType
from typing import Any

from corrbench.errors import Refusal, nearest
from corrbench.files import digest
from corrbench.provenance import code_version
from corrbench.resources import file_of
from corrbench.rows import merge, validate

TIERS = ("smoke", "short", "paper")
PRETRAINED = re.compile(r"(smoke|short|paper)(?:-seed(\d+))?$")
"""Names of weights that a recipe makes: ``short`` is seed 0, ``short-seed1`` seed 1."""


@dataclass(frozen=True)
class Recipe:
    """One recipe at one tier."""

    name: str
    tier: str
    method: str
    """Module of ``corrbench/pretraining/``, `probe` (``corrbench/tracking/probe.py``) or `stm`
    (``corrbench/segmentation/train.py``)."""
    data: str
    """Row of ``config/datasets/``."""
    batch: int
    """Samples per step over all processes."""
    epochs: int
    steps: int | None
    """Stop after so many steps; None: after `epochs`."""
    drop_last: bool
    optimizer: dict[str, Any]
    """kind (adam, sgd), lr, weight_decay, momentum."""
    schedule: dict[str, Any]
    """kind (constant, cosine, steps, samples) and its figures."""
    batchnorm: str
    """`process`: statistics of each process; `sync`: of the whole batch."""
    precision: str
    """`float32`, or `bf16`: autocast of the networks; affinities and losses stay float32."""
    init: str | None
    """Recipe whose result this one starts from."""
    start: str | None
    """Method whose released weights this one starts from."""
    options: dict[str, Any]
    """Figures of the method, checked by its `Options`."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any], tier: str) -> Recipe:
        """The recipe of a row at a tier: `smoke` and `short` replace what stands under `tiers:`, `paper` replaces nothing."""
        changes = row.get("tiers", {}).get(tier, {})
        merged = merge({k: v for k, v in row.items() if k != "tiers"}, changes)
        validate(merged, "recipe", f"recipe {row['name']}, tier {tier}")
        if merged["init"] and merged["start"]:
            raise Refusal(
                f"recipe {row['name']}, tier {tier}: init: {merged['init']} and start: {merged['start']}",
                expected="one start: the result of a recipe, or a method's released weights",
                do="write `init: null` beside `start`, or `start: null` beside `init`",
            )
        merged = {k: v for k, v in merged.items() if k in {f.name for f in fields(cls)}}
        return cls(**{**merged, "tier": tier})

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Recipe:
        """What `settings` gave. Raises Refusal for anything else."""
        if not isinstance(settings, Mapping) or set(settings) != (names := {f.name for f in fields(cls)}):
            differing = sorted(set(settings) ^ names) if isinstance(settings, Mapping) else [type(settings).__name__]
            raise Refusal(f"--settings: not those of a recipe ({', '.join(differing[:5])})",
                          expected="JSON of Recipe.settings()", do="correct --settings, or give --recipe")  # fmt: skip
        return cls(**settings)

    def settings(self) -> dict[str, Any]:
        """Everything that decides the run, as plain data."""
        return asdict(self)

    @property
    def hash(self) -> str:
        """12 hex digits over `settings`."""
        return digest(self.settings())

    @property
    def module(self) -> ModuleType:
        """The method's file; imported by name so that one method's code is no part of another's version."""
        return importlib.import_module(method_module(self.method))


def method_module(method: str) -> str:
    """The module that trains a method."""
    elsewhere = {"probe": "corrbench.tracking.probe", "stm": "corrbench.segmentation.train"}
    return elsewhere.get(method, f"corrbench.pretraining.{method}")


def option_names(method: str) -> list[str]:
    """Names of a method's options, read from its file: planning imports no torch."""
    tree = ast.parse(file_of(method_module(method).replace(".", "/") + ".py").read_text())
    kind = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Options")
    return [
        node.target.id for node in kind.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


def check_options(recipe: Recipe) -> None:
    """Raise Refusal for an option or a precision that the method does not have."""
    if recipe.method == "stm" and recipe.precision != "float32":
        raise Refusal(
            f"recipe {recipe.name}: precision: {recipe.precision}",
            expected="float32: STM's reference trains without mixed precision, and its log-odds have no room in 16 bits",
            do="remove `precision:`",
        )
    known = option_names(recipe.method)
    for name in recipe.options:
        if name not in known:
            raise Refusal(
                f"recipe {recipe.name}: options: unknown option {name!r}", expected=nearest(name, known), do="correct or remove it"
            )  # fmt: skip


def check_gpus(recipe: Recipe, gpus: int) -> None:
    """Raise Refusal for a batch that so many GPUs cannot share. Said while planning, before frames are extracted."""
    share = recipe.batch // gpus
    clips = recipe.options.get("bn_clips")
    if recipe.batch % gpus:
        fitting = [n for n in range(1, gpus) if recipe.batch % n == 0]
        raise Refusal(
            f"pretraining.gpus: {gpus}: the batch of {recipe.batch} of the recipe {recipe.name} cannot be shared by them",
            expected=f"a number that divides it, such as {fitting[-1]}",
            do="change `gpus`, or the recipe's `batch` in a row of yours",
        )
    if isinstance(clips, int) and clips and share % clips:
        raise Refusal(
            f"pretraining.gpus: {gpus}: {share} clips each of the recipe {recipe.name}, {clips} per batch-norm batch (bn_clips)",
            expected="a multiple of bn_clips for each",
            do="use fewer GPUs (two for CRW's published recipe), or change bn_clips in a row of yours",
        )


def network_of(recipe: Recipe) -> str:
    """The network that a recipe trains, as `arch` of a method's encoder."""
    fixed = {"crw": "resnet18", "mast": "resnet18_hr", "liir": "resnet18_hr", "stm": "stm"}
    return fixed.get(recipe.method, recipe.options.get("arch", "resnet18"))


def pretrain_code(method: str) -> str:
    """Code version of a run: the program and the loop, then the method's file. Another method's code is no part of it."""
    return "+".join(
        code_version(path) for path in ("scripts/pretrain.py", method_module(method).replace(".", "/") + ".py")
    )


def options_of(kind: type, values: Mapping[str, Any], where: str) -> Any:
    """A method's `Options` from a recipe. Raises Refusal for an unknown or missing option."""
    known = [f.name for f in fields(kind)]
    for name in values:
        if name not in known:
            raise Refusal(f"{where}: unknown option {name!r}", expected=nearest(name, known), do="correct or remove it")
    try:
        return kind(**values)
    except TypeError as error:
        raise Refusal(
            f"{where}: {error}", expected=f"the options {', '.join(known)}", do="add what is missing"
        ) from error
