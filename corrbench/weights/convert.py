"""Any checkpoint of a known family to the canonical weights file, with strict checks and a report."""

from __future__ import annotations

import argparse
import pickle
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from corrbench.encoders.build import random_tensors
from corrbench.errors import Refusal, few
from corrbench.files import file_hash
from corrbench.weights.canonical import Weights, content_hash
from corrbench.weights.families import Family, detect

CONVERTER_VERSION = 1


def read_checkpoint(path: Path, *, trust_pickle: bool = False) -> Any:
    """Open a checkpoint with ``weights_only=True`` and a one-name allow-list (argparse.Namespace, plain data).

    `trust_pickle` opens anything, and therefore runs any code in it: only for a file whose origin is known.
    """
    if not path.is_file():
        raise Refusal(
            f"{path}: no such checkpoint file",
            expected="the checkpoint named in the config",
            do="correct the path, or let the download rule fetch it",
        )
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        raise Refusal(
            f"{path}: holds more than tensors and plain data ({str(error).splitlines()[0]})",
            expected="a checkpoint that torch opens with weights_only=True",
            do="check that it is a checkpoint; if you know its origin, `trust_pickle: true` (or --trust-pickle) opens it and runs its code",
        ) from error
    except Exception as error:  # bytes that are no pickle fail in many ways: KeyError, struct.error, ...
        raise Refusal(
            f"{path}: not a readable checkpoint ({type(error).__name__}: {' '.join(str(error).split())[:200]})",
            expected="a file that torch.save wrote",
            do="download it again",
        ) from error


def tensors_of(raw: Any, path: Path) -> tuple[dict[str, Tensor], str | None]:
    """The dictionary of tensors in a checkpoint, and the entry that held it."""
    if isinstance(raw, Mapping):
        for container in ("model", "state_dict"):
            inner = raw.get(container)
            if isinstance(inner, Mapping) and any(torch.is_tensor(v) for v in inner.values()):
                return {str(k): v for k, v in inner.items() if torch.is_tensor(v)}, container
        flat = {str(k): v for k, v in raw.items() if torch.is_tensor(v)}
        if flat:
            return flat, None
    raise Refusal(
        f"{path}: no tensors found",
        expected="tensors at the top level or under `model` or `state_dict`",
        do="check that this is a checkpoint of a model",
    )


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
                target[name] = value
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
    """Demand every tensor of the architecture in its shape, finite, with positive variances.

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
    for name, value in {**taken, **extra}.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise Refusal(
                f"{name} holds values that are not finite",
                expected="finite numbers",
                do="the file is damaged or its training diverged: get another",
            )
        if name.endswith("running_var") and not (value > 0).all():
            raise Refusal(
                f"{name} holds variances that are not positive",
                expected="positive variances",
                do="the file is damaged: get another",
            )
    return {"matched": len(taken) - filled, "counters_filled": filled, "layer4": layer4}


def convert(
    path: Path,
    *,
    encoder: Mapping[str, Any],
    method: str,
    family: str | None = None,
    claim: Mapping[str, str] | None = None,
    trust_pickle: bool = False,
) -> Weights:
    """Convert one checkpoint file. `encoder`: the method's encoder row; `family`: refuse any other than this one.

    `claim` is a published hash, ``{algorithm, value, on_mismatch}``; value may be a prefix. A mismatch is refused, or
    with `warn` noted in the report (published prefixes that nobody could confirm yet).
    """
    tensors, container = tensors_of(read_checkpoint(path, trust_pickle=trust_pickle), path)
    try:
        found = detect(tensors, container)
        if family is not None and found.name != family:
            raise Refusal(
                f"a {found.name} checkpoint",
                expected=f"a {family} checkpoint for the method {method}",
                do="name the method that this file belongs to",
            )
        taken, extra, dropped = rename(tensors, found)
        arch = architecture(taken, found)
        if arch != encoder["arch"]:
            raise Refusal(
                f"weights of a {arch}",
                expected=f"weights of a {encoder['arch']} for the method {method}",
                do="name the method that this file belongs to",
            )
        position_map = bool(encoder.get("position_map", False))
        counts = check(taken, extra, arch, position_map=position_map)
    except Refusal as refusal:
        raise Refusal(f"{path}: {refusal}") from refusal
    meta: dict[str, Any] = {
        "arch": arch,
        "method": method,
        "family": found.name,
        "container": container,
        "source": {"file": path.name, "bytes": path.stat().st_size, "sha256": file_hash(path)},
        "counts": {**counts, "extra": len(extra), "dropped": dict(dropped)},
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
    return _finish(taken, extra, meta)


def random_weights(encoder: Mapping[str, Any], *, method: str, seed: int) -> Weights:
    """Seeded, untrained weights in the canonical format: the floor that every method must beat."""
    state, extra = random_tensors(encoder, seed)
    meta = {"arch": encoder["arch"], "method": method, "family": "random", "seed": seed,
            "encoder": _plain(encoder), "converter_version": CONVERTER_VERSION}  # fmt: skip
    return _finish(state, extra, meta)


def _finish(state: Mapping[str, Tensor], extra: Mapping[str, Tensor], meta: dict[str, Any]) -> Weights:
    def clean(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            k: (v.float() if v.is_floating_point() else v).detach().cpu().clone() for k, v in sorted(tensors.items())
        }

    weights = Weights(clean(state), clean(extra), meta)
    meta["sha256"] = content_hash(weights)
    return weights


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in row.items()}
