"""Find the network in a checkpoint: which entry holds it, and what a tool has put before its names.

Every place where the names of a family begin is a candidate: an entry of the outer dictionary (`state_dict`, `teacher`, ...)
and a prefix (``module.backbone.``). `convert` tries them all and takes one only if nothing else fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from corrbench.errors import Refusal, few
from corrbench.weights.families import detect, fitting, prefixes

FIRST = ("model", "state_dict", None)
"""Entries in which a network is looked for first: those of the published code. What stands beside them (`state_dict_ema`,
`model_ema`, ...) is another set of numbers, taken only by name."""
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
"""Parts of names that torch.compile, FSDP, activation checkpointing and Lightning's strategies insert, at any depth."""
DEPTH = 3
"""How deep inside entries tensors are looked for, to say where they are."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A place in a checkpoint where the names of a family begin."""

    container: str | None
    """Entry of the outer dictionary (``a.b`` for one inside another); None is the file itself."""
    prefix: str
    """What stands before the family's names."""
    tensors: dict[str, Tensor] = field(repr=False)
    """By the family's names."""
    outside: int
    """Tensors of the entry that do not have the prefix."""
    wrappers: tuple[str, ...]
    """Which of `WRAPPERS` were taken out of the names."""

    def __str__(self) -> str:
        place = f"entry {self.container!r}" if self.container else "the top level"
        return f"{place}, prefix {self.prefix!r}" if self.prefix else place

    @property
    def choice(self) -> str:
        """The name under which `choose` finds it."""
        return self.container or self.prefix.rstrip(".") or "."


def entries(raw: Any, path: Path) -> dict[str | None, dict[str, Tensor]]:
    """The dictionaries of tensors in a checkpoint: the file itself (None) and its entries, in the order in which they count.

    Raises Refusal when there are none.
    """
    found: dict[str | None, dict[str, Tensor]] = {}
    if isinstance(raw, Mapping):
        found = {None: _tensors(raw), **{str(k): _tensors(v) for k, v in raw.items() if isinstance(v, Mapping)}}
        found = {k: v for k, v in found.items() if v}
    order = [k for k in FIRST if k in found] + [k for k in found if k not in FIRST]
    if order:
        return {k: found[k] for k in order}
    deeper = [name for name, _ in _nested(raw)]
    kind = "a tensor" if torch.is_tensor(raw) else f"a {type(raw).__name__}"
    raise Refusal(
        f"{path}: no tensors found" + (f" at the top ({kind} without names)" if not isinstance(raw, Mapping) else "")
        + (f" in its entries {few([str(k) for k in raw])}" if isinstance(raw, Mapping) and raw else ""),
        expected="tensors with names, at the top level or in an entry such as `model` or `state_dict`",
        do=f"they lie deeper: add --container {deeper[0]}" if deeper else "check that this is a checkpoint of a model",
    )  # fmt: skip


def _tensors(mapping: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(k): v for k, v in mapping.items() if torch.is_tensor(v) and not v.is_nested}


def _nested(value: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """All dictionaries of tensors that lie inside entries, by the names that lead there, joined with dots."""
    if not isinstance(value, Mapping) or depth > DEPTH:
        return
    if depth > 1 and (own := _tensors(value)):
        yield place, own
    for name, inner in value.items():
        if isinstance(name, str):
            yield from _nested(inner, f"{place}.{name}" if place else name, depth + 1)


def candidates(raw: Any, path: Path, container: str | None = None) -> list[Candidate]:
    """All places of a checkpoint where the names of one family begin, in the order in which they count.

    `container`: only those in this entry (``a.b`` for one inside another), or under this prefix. Raises Refusal when there
    are none, and when several families fit one place.
    """
    if container is None:
        places = entries(raw, path)
    else:
        inner = {name: tensors for name, tensors in _nested(raw) if name == container}
        places = {container: found} if (found := inner.get(container)) else entries(raw, path)  # type: ignore[dict-item]
    found_in = [c for name, tensors in places.items() for c in _places(name, tensors)]
    if container is not None:
        chosen = [c for c in found_in if c.container == container]
        under = [c for c in found_in if c.prefix.startswith(f"{container}.") or (container == "." and c.choice == ".")]
        if not (chosen or under):
            raise Refusal(
                f"nothing that fits a known checkpoint family in the entry or under the prefix {container!r}",
                expected="one of " + (few(sorted({c.choice for c in found_in}), 9) or few([str(p) for p in places], 9)),
                do="correct --container",
            )
        return chosen or under
    if found_in:
        return found_in
    deeper = [name for name, tensors in _nested(raw) if list(_places(name, tensors))]
    if deeper:
        raise Refusal(
            f"no known checkpoint family at the top, but inside {few(deeper)}",
            expected="tensors at the top level or in an entry of it",
            do=f"if that is the network, add --container {deeper[0]}",
        )
    name, tensors = next(iter(places.items()))
    detect(tensors, name)
    raise AssertionError("a family was detected that no place had")


def _places(name: str | None, tensors: Mapping[str, Tensor]) -> Iterator[Candidate]:
    clean, wrappers = _unwrapped(tensors)
    taken: list[str] = []
    for prefix in prefixes(clean):
        if any(prefix.startswith(outer) for outer in taken):
            continue  # its names are that family's own
        inside = {key[len(prefix) :]: value for key, value in clean.items() if key.startswith(prefix)}
        if fitting(inside, name):
            taken.append(prefix)
            yield Candidate(name, prefix, inside, len(clean) - len(inside), wrappers)


def _unwrapped(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors without `WRAPPERS` in their names, and which there were."""
    clean: dict[str, Tensor] = {}
    there = []
    for key, value in tensors.items():
        parts = key.split(".")
        there += [p for p in parts if p in WRAPPERS]
        name = ".".join(p for p in parts if p not in WRAPPERS)
        if name in clean:
            raise Refusal(
                f"two tensors become {name!r} without {', '.join(WRAPPERS)} in their names",
                expected="one source per tensor",
                do="remove the duplicate from the checkpoint",
            )
        clean[name] = value
    return clean, tuple(dict.fromkeys(there))
