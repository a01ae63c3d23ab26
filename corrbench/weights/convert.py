"""Any checkpoint of a known family to the canonical weights file, with strict checks and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from corrbench.encoders.build import random_tensors
from corrbench.errors import Refusal, few
from corrbench.files import file_hash
from corrbench.weights.canonical import Weights, content_hash
from corrbench.weights.fit import ARCHITECTURES, Damaged, Fit, fit, numbers_of
from corrbench.weights.opening import read_checkpoint
from corrbench.weights.trained import check_trained
from corrbench.weights.unwrap import FIRST, Candidate, candidates

CONVERTER_VERSION = 1


def choose(found: Sequence[Candidate], **wanted: Any) -> tuple[Fit, list[str]]:
    """The one candidate that fits, and notes on others that fit with other numbers.

    In the entries of the published code (`FIRST`) a fit is taken whatever stands beside it; anywhere else only if all
    that fit have the same numbers. Raises Refusal when none fits, or several with different numbers do.
    """
    fits: list[Fit] = []
    refused: list[tuple[Candidate, Refusal]] = []
    for candidate in found:
        try:
            fits.append(fit(candidate, **wanted))
        except Refusal as refusal:
            refused.append((candidate, refusal))
    first = next((c for c in FIRST if any(f.candidate.container == c for f in fits)), "")
    preferred = [f for f in fits if f.candidate.container == first] or fits
    taken = preferred[0] if preferred else None
    before = found[: found.index(taken.candidate)] if taken and first != "" else found
    for candidate, why in refused:
        if isinstance(why, Damaged) and candidate in before:
            raise why
    if taken is None:
        (_, why), *rest = refused
        others = "; ".join(f"{c}: {str(r).splitlines()[0]}" for c, r in rest[:3])
        raise Refusal(f"{why}\n  other places: {others}") if others else why
    if len({f.numbers for f in preferred}) > 1:
        names = list(dict.fromkeys(f.candidate.choice for f in preferred))
        dino = " (DINO evaluates its teacher)" if {"student", "teacher"} <= set(names) else ""
        raise Refusal(
            f"{len(preferred)} networks fit, with different numbers: {few([str(f.candidate) for f in preferred], 9)}",
            expected="one network, or a word which",
            do=f"name one: --container {' or --container '.join(names)}{dino}, with scripts.score and scripts.convert, "
            "`container:` beside its path in a config; or save that one alone in a file of its own",
        )
    notes = [
        f"{f.candidate} fits as well, with other numbers; --container {f.candidate.choice} takes it"
        for f in fits
        if f.numbers != taken.numbers
    ]
    return taken, notes


def convert(
    path: Path,
    *,
    encoder: Mapping[str, Any],
    method: str,
    family: str | None = None,
    claim: Mapping[str, str] | None = None,
    trust_pickle: bool = False,
    container: str | None = None,
) -> Weights:
    """Convert one checkpoint file. `encoder`: the method's encoder row; `family`: refuse any other than this one.

    `claim` is a published hash, ``{algorithm, value, on_mismatch}``; value may be a prefix. A mismatch is refused, or
    with `warn` noted in the report (published prefixes that nobody could confirm yet). `container` names the entry (or
    the prefix) to take where several fit. A file of our own pretraining must be the one that its recipe.json records.
    """
    if encoder.get("arch") not in ARCHITECTURES:
        raise no_network(method, encoder)
    check_trained(path)
    sha256 = file_hash(path) if path.is_file() else ""  # the reader says what else it is
    raw = read_checkpoint(path, trust_pickle=trust_pickle)
    try:
        taken, notes = choose(candidates(raw, path, container), encoder=encoder, method=method, family=family)
    except Refusal as refusal:
        raise refusal if str(path) in str(refusal) else Refusal(f"{path}: {refusal}") from refusal
    place = taken.candidate
    meta: dict[str, Any] = {
        "arch": encoder["arch"],
        "method": method,
        "family": taken.family.name,
        "container": place.container,
        "stripped": [*place.wrappers, *([place.prefix] if place.prefix else [])],
        "notes": notes,
        "source": {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256},
        "counts": taken.counts,
        "encoder": _plain(encoder),
        "converter_version": CONVERTER_VERSION,
    }
    if claim:
        actual = file_hash(path, claim["algorithm"])
        matches = actual.startswith(claim["value"])
        if not matches and claim.get("on_mismatch", "refuse") != "warn":
            raise Refusal(
                f"{path}: {claim['algorithm']} is {actual}, published is {claim['value']}",
                expected="the published hash",
                do="do not use this file as the released one: it was altered or replaced",
            )
        meta["source"]["claim"] = {**claim, "found": actual, "matches": matches}
    if file_hash(path) != sha256:
        raise Refusal(
            f"{path}: changed while it was read",
            expected="a checkpoint that nobody writes",
            do="wait until it is written, or convert a copy of it",
        )
    return _finish(taken.state_dict, taken.extra, meta)


def no_network(method: str, encoder: Mapping[str, Any]) -> Refusal:
    """The refusal for a method without a network of its own."""
    fusion = encoder.get("arch") == "fusion"
    return Refusal(
        f"method {method}: "
        + ("a fusion of other methods' networks" if fusion else f"no network ({encoder.get('arch')})"),
        expected="a method with a network: resnet18, resnet50, resnet18_hr or stm",
        do="convert its members by their own methods" if fusion else "name another --method; this one needs no weights",
    )


def random_weights(encoder: Mapping[str, Any], *, method: str, seed: int) -> Weights:
    """Seeded, untrained weights in the canonical format: the floor that every method must beat."""
    if encoder.get("arch") not in ARCHITECTURES:
        raise no_network(method, encoder)
    made = random_tensors(encoder, seed)
    state, extra = ({k: numbers_of(k, v) for k, v in sorted(tensors.items())} for tensors in made)
    meta = {"arch": encoder["arch"], "method": method, "family": "random", "seed": seed,
            "encoder": _plain(encoder), "converter_version": CONVERTER_VERSION}  # fmt: skip
    return _finish(state, extra, meta)


def _finish(state: Mapping[str, Tensor], extra: Mapping[str, Tensor], meta: dict[str, Any]) -> Weights:
    weights = Weights(dict(state), dict(extra), meta)
    meta["sha256"] = content_hash(weights)
    return weights


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in row.items()}
