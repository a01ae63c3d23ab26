"""One place of a checkpoint against the method's network: every key named, every tensor there, every number possible."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from corrbench.encoders.build import random_tensors
from corrbench.errors import Refusal, few
from corrbench.weights.canonical import Weights, content_hash
from corrbench.weights.families import Family, detect
from corrbench.weights.unwrap import Candidate

ARCHITECTURES = ("resnet18", "resnet50", "resnet18_hr", "stm")
"""Networks that have weights of their own."""


class Damaged(Refusal):
    """Values that no network has: the file is damaged, whatever else it holds."""


@dataclass(frozen=True)
class Fit:
    """A candidate that fits the method's network strictly."""

    candidate: Candidate
    family: Family
    state_dict: dict[str, Tensor]
    extra: dict[str, Tensor]
    counts: dict[str, Any]

    @cached_property
    def numbers(self) -> str:
        """Hash of all tensors."""
        return content_hash(Weights(self.state_dict, self.extra, {}))


def rename(tensors: Mapping[str, Tensor], family: Family) -> tuple[dict[str, Tensor], dict[str, Tensor], Counter[str]]:
    """Sort the keys of a file by the family's rules: encoder tensors, extra tensors, counts of dropped keys by reason."""
    taken: dict[str, Tensor] = {}
    extra: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    dropped: Counter[str] = Counter()
    unknown: list[str] = []
    for key, value in tensors.items():
        for target, rules in ((taken, family.take), (extra, family.extra)):
            found = next(((m, new) for old, new in rules if (m := re.match(old, key))), None)
            if found:
                name = found[0].expand(found[1])
                if name in origin:
                    raise Refusal(
                        f"keys {origin[name]!r} and {key!r} both become {name!r}",
                        expected="one source per tensor",
                        do="remove the duplicate from the checkpoint",
                    )
                origin[name] = key
                frame = family.flat and value.ndim == 5 and value.shape[2] == 1
                target[name] = value.squeeze(2) if frame else value
                break
        else:
            reason = next((why for old, why in family.drop if re.match(old, key)), None)
            if reason is None:
                unknown.append(key)
            else:
                dropped[reason] += 1
    if unknown:
        raise Refusal(
            f"{len(unknown)} unexpected key(s) in a {family.name} checkpoint: {few(unknown)}",
            expected="only keys that the family's rules name",
            do="check the origin of the file",
        )
    return taken, extra, dropped


def architecture(taken: Mapping[str, Tensor], family: Family) -> str:
    """resnet18, resnet50, resnet18_hr or stm, from the renamed keys."""
    if family.arch is not None:
        return family.arch
    return "resnet50" if "layer1.0.conv3.weight" in taken else "resnet18"


def expected_shapes(arch: str, *, position_map: bool = False) -> tuple[dict[str, torch.Size], dict[str, torch.Size]]:
    """Names and shapes that the encoder needs: state dict and extra."""
    state, extra = random_tensors({"arch": arch, "position_map": position_map}, 0)
    return {k: v.shape for k, v in state.items()}, {k: v.shape for k, v in extra.items()}


def check(taken: dict[str, Tensor], extra: Mapping[str, Tensor], arch: str, *, position_map: bool) -> dict[str, Any]:
    """Demand every tensor of the architecture in its shape.

    Two gaps are allowed, each only as a whole: the BN counters of old files (filled with 0) and layer4 (the test
    features end at layer3). Returns the counts; raises Refusal naming the key otherwise.
    """
    wanted, outside = expected_shapes(arch, position_map=position_map)
    counters = {k for k in wanted if k.endswith("num_batches_tracked")}
    missing = set(wanted) - set(taken)
    deepest = {k for k in wanted if k.startswith("layer4.")}
    layer4 = True
    if (
        arch in ("resnet18", "resnet50")
        and deepest <= missing | counters
        and not any(k.startswith("layer4.") for k in taken)
    ):
        layer4 = False
        missing -= deepest
        counters -= deepest
    filled = 0
    if counters and counters <= missing:
        filled = len(counters)
        taken.update({k: torch.zeros((), dtype=torch.int64) for k in counters})
        missing -= counters
    missing |= set(outside) - set(extra)
    if missing:
        raise Refusal(
            f"{len(missing)} missing key(s) of {arch}: {few(sorted(missing))}",
            expected="every tensor of the encoder",
            do="check the origin of the file; nothing is left random",
        )
    unexpected = sorted(set(taken) - set(wanted))
    if unexpected:
        raise Refusal(
            f"{len(unexpected)} unexpected key(s) for {arch}: {few(unexpected)}",
            expected="only tensors of the encoder",
            do="check the architecture of the checkpoint",
        )
    for name, shape in {**wanted, **outside}.items():
        value = taken.get(name, extra.get(name))
        if value is not None and value.shape != shape:
            raise Refusal(
                f"{name} has shape {tuple(value.shape)}",
                expected=f"{tuple(shape)} in a {arch}",
                do="check that the checkpoint belongs to this method",
            )
    return {"matched": len(taken) - filled, "counters_filled": filled, "layer4": layer4}


def numbers_of(name: str, value: Tensor) -> Tensor:
    """A tensor as it is kept: float32, counters int64, on the CPU. Raises Damaged for values that no network has.

    float16, bfloat16, float64 and float8 are converted; a number that float32 cannot hold counts as not finite.
    """
    dtype = str(value.dtype).removeprefix("torch.")
    kind = (
        "without values (meta)" if value.is_meta
        else f"quantized ({dtype})" if value.is_quantized
        else "sparse" if value.layout is not torch.strided or value.is_nested
        else None
    )  # fmt: skip
    counter = name.endswith("num_batches_tracked")
    if kind is not None or not (value.is_floating_point() or (counter and not value.is_complex())):
        raise Damaged(
            f"{name} is {kind or 'of type ' + dtype}",
            expected="an integer counter" if counter else "dense floating-point numbers",
            do="save the network as it was trained, before it is quantized or converted",
        )
    value = value.detach().cpu()
    if counter and not value.is_floating_point():
        return value.to(torch.int64).clone()
    value = value.to(torch.float32, copy=True).contiguous()
    if not torch.isfinite(value).all():
        raise Damaged(
            f"{name} holds values that are not finite",
            expected="finite numbers",
            do="the file is damaged or its training diverged: get another",
        )
    # channels that are always 0 have a variance of 0, also in trained networks
    if name.endswith("running_var") and (value < 0).any():
        raise Damaged(
            f"{name} holds variances that are negative",
            expected="variances of 0 or more",
            do="the file is damaged: get another",
        )
    if counter and (value != value.round()).any():
        raise Damaged(
            f"{name} is no whole number", expected="an integer counter", do="the file is damaged: get another"
        )
    return value.to(torch.int64) if counter else value


def fit(candidate: Candidate, *, encoder: Mapping[str, Any], method: str, family: str | None) -> Fit:
    """Fit one place of a checkpoint to the method's network. Raises Refusal that says what is in the way."""
    found = detect(candidate.tensors, candidate.container)
    if family is not None and found.name != family:
        raise Refusal(
            f"a {found.name} checkpoint",
            expected=f"a {family} checkpoint for the method {method}",
            do="name the method that this file belongs to",
        )
    taken, extra, dropped = rename(candidate.tensors, found)
    arch = architecture(taken, found)
    if arch != encoder["arch"]:
        raise Refusal(
            f"weights of a {arch}",
            expected=f"weights of a {encoder['arch']} for the method {method}",
            do="name the method that this file belongs to",
        )
    counts = check(taken, extra, arch, position_map=bool(encoder.get("position_map", False)))
    if candidate.outside:
        dropped[f"without the prefix {candidate.prefix}"] = candidate.outside
    state, more = ({k: numbers_of(k, v) for k, v in sorted(tensors.items())} for tensors in (taken, extra))
    return Fit(candidate, found, state, more, {**counts, "extra": len(extra), "dropped": dict(dropped)})
