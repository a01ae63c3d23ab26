"""The canonical weights file: ``{state_dict, extra, meta}``, loadable with ``weights_only=True``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from corrbench.errors import Refusal
from corrbench.files import save_tensors
from corrbench.tensors import load_tensors


@dataclass(frozen=True)
class Weights:
    """One concrete set of numbers for an encoder, float32 on the CPU (counters stay integers)."""

    state_dict: dict[str, Tensor]
    """torchvision names (``layer1.0.conv1.weight``), no classifier."""
    extra: dict[str, Tensor]
    """Tensors beside the ResNet: ``post_convolution.*``, ``pos_embed1``, ``selfsim_fc.*``, ``head.*``, ..."""
    meta: dict[str, Any]
    """arch, family, source file and hashes, counts, the encoder row: plain data only."""


def content_hash(weights: Weights) -> str:
    """sha256 over names, types, shapes and bytes of all tensors: equal weights hash alike whatever file held them."""
    hasher = hashlib.sha256()
    for group in ("state_dict", "extra"):
        tensors: dict[str, Tensor] = getattr(weights, group)
        for name in sorted(tensors):
            value = tensors[name].detach().cpu().contiguous()
            hasher.update(f"{group}/{name}:{value.dtype}:{tuple(value.shape)}\n".encode())
            hasher.update(value.numpy().tobytes())
    return hasher.hexdigest()


def save_weights(path: Path, weights: Weights) -> None:
    """Write the file atomically."""
    save_tensors(path, {"state_dict": weights.state_dict, "extra": weights.extra, "meta": weights.meta})


def is_canonical(raw: Any) -> bool:
    """Whether the content of a file has the entries of the canonical format."""
    return isinstance(raw, dict) and set(raw) == {"state_dict", "extra", "meta"}


def load_weights(path: Path) -> Weights:
    """Read a canonical file. Raises Refusal when it is missing, unreadable, not canonical, damaged or altered."""
    if not path.is_file():
        raise Refusal(
            f"{path}: {'a folder' if path.is_dir() else 'no such weights file'}",
            expected="a file that convert.py wrote",
            do="run the convert stage, or correct the path",
        )
    again = "convert the checkpoint again: python -m scripts.convert --help"
    return weights_of(load_tensors(path, "a weights file of scripts/convert.py", again), path)


def weights_of(raw: Any, path: Path) -> Weights:
    """The weights in the content of a canonical file; `path` is for the refusal."""
    if not is_canonical(raw):
        raise Refusal(
            f"{path}: not in the canonical format",
            expected="the entries state_dict, extra and meta",
            do="convert it first: python -m scripts.convert --help",
        )
    meta = raw["meta"]
    tensors = [t for group in ("state_dict", "extra") for t in _values(raw[group])]
    if not (
        isinstance(meta, dict)
        and set(meta) >= {"arch", "encoder", "sha256"}
        and tensors
        and all(map(_is_plain, tensors))
    ):
        raise Refusal(
            f"{path}: entries that scripts/convert.py does not write",
            expected="dense float32 and int64 tensors, and a report with arch, encoder and sha256",
            do="convert the checkpoint again",
        )
    weights = Weights(raw["state_dict"], raw["extra"], meta)
    if content_hash(weights) != meta["sha256"]:
        raise Refusal(
            f"{path}: the tensors do not have the hash that the file records",
            expected=str(meta["sha256"]),
            do="convert the checkpoint again",
        )
    return weights


def _values(group: Any) -> list[Any]:
    return list(group.values()) if isinstance(group, dict) else [group]


def _is_plain(value: Any) -> bool:
    return (
        torch.is_tensor(value)
        and value.layout is torch.strided
        and not value.is_meta
        and value.dtype in (torch.float32, torch.int64)
    )
