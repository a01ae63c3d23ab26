"""The canonical weights file: ``{state_dict, extra, meta}``, loadable with ``weights_only=True``."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from corrbench.errors import Refusal
from corrbench.files import save_tensors


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


def load_weights(path: Path) -> Weights:
    """Read a canonical file. Raises Refusal when it is missing, unreadable, not canonical or altered."""
    if not path.is_file():
        raise Refusal(
            f"{path}: no such weights file",
            expected="a file that convert.py wrote",
            do="run the convert stage, or correct the path",
        )
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise Refusal(
            f"{path}: not a readable weights file ({str(error).splitlines()[0]})",
            expected="a file that convert.py wrote",
            do="convert the checkpoint again",
        ) from error
    if not isinstance(raw, dict) or set(raw) != {"state_dict", "extra", "meta"}:
        raise Refusal(
            f"{path}: not in the canonical format",
            expected="the entries state_dict, extra and meta",
            do="convert it first: python -m scripts.convert --help",
        )
    weights = Weights(raw["state_dict"], raw["extra"], raw["meta"])
    if content_hash(weights) != weights.meta["sha256"]:
        raise Refusal(
            f"{path}: the tensors do not have the hash that the file records",
            expected=weights.meta["sha256"],
            do="convert the checkpoint again",
        )
    return weights
