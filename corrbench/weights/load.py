"""A canonical weights file into the network that it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from corrbench.encoders.build import build
from corrbench.encoders.fusion import Fusion
from corrbench.encoders.zero_pass import zero_image_pass
from corrbench.errors import Refusal
from corrbench.weights.canonical import load_weights


def load_encoder(
    encoder: Mapping[str, Any], files: Sequence[Path], device: torch.device, *, sha256: Sequence[str] = ()
) -> nn.Module:
    """Build the network, load the weights strictly, and put it on the device in eval mode.

    With `zero_image_pass` in the row (of a fusion: in each member's) the batch norm statistics move as in SFC's harness.
    `files`: one weights file, or for `arch: fusion` those of the fine-grained and the semantic member. The module maps
    ``[B, 3, H, W]`` to ``[B, C, h, w]`` and has the attribute `stride`. Raises Refusal for weights of another network, and
    for a file whose numbers are not those with the hash in `sha256` (one for each file), which a record already names.
    """
    hashes: list[str | None] = [*sha256] or [None] * len(files)
    if encoder["arch"] == "fusion":
        members = [
            load_encoder(m, [f], device, sha256=[h] if h else [])
            for m, f, h in zip(encoder["members"], files, hashes, strict=True)
        ]
        return Fusion(members[0], members[1], weight=encoder["weight"]).eval()
    (path,) = files
    weights = load_weights(path)
    check_unchanged(path, weights.meta["sha256"], hashes[0])
    if weights.meta["arch"] != encoder["arch"]:
        raise Refusal(
            f"{path}: weights of a {weights.meta['arch']}",
            expected=f"weights of a {encoder['arch']}",
            do="name the method that these weights belong to",
        )
    net = build(encoder)
    try:
        net.load_weights(weights.state_dict, weights.extra)
    except RuntimeError as error:
        raise Refusal(
            f"{path}: {str(error).splitlines()[-1].strip()}",
            expected=f"the tensors of {encoder}",
            do="use a checkpoint that holds every layer of this encoder",
        ) from error
    if encoder.get("zero_image_pass", False):
        zero_image_pass(net)
    return net.to(device).eval().requires_grad_(False)


def check_unchanged(path: Path, found: str, recorded: str | None) -> None:
    """Raise Refusal when a file has other numbers than a record that was just made of it."""
    if recorded is not None and found != recorded:
        raise Refusal(
            f"{path}: was replaced while it was read",
            expected=f"weights with sha256 {recorded[:12]}...",
            do="run the same command again, while nothing else writes there",
        )
