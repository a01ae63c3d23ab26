"""A checkpoint.pth that pretraining wrote, against the recipe.json beside it, which records its hash; and what a run starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corrbench.errors import Refusal
from corrbench.files import SEAL, file_hash, read_json, read_record
from corrbench.tensors import load_tensors
from corrbench.weights.canonical import is_canonical, weights_of

HASH = "checkpoint_sha256"
"""Key of recipe.json."""
_OURS = {"recipe", "seed", "steps"}


def check_trained(path: Path) -> None:
    """Raise Refusal when a checkpoint.pth is not the file that the recipe.json beside it records. Any other file is not judged."""
    record = path.with_name("recipe.json")
    if path.name != "checkpoint.pth" or not path.is_file() or not record.is_file():
        return
    do = (
        "run the pretraining (or probe) again with the same command: it goes on from last.pt and writes both files anew; "
        "a checkpoint whose origin you know can be used as a copy under another name"
    )
    found = read_json(record)
    if not isinstance(found, dict) or not (set(found) >= _OURS or SEAL in found):
        return  # somebody else's file of this name
    made = read_record(record, "the record of a pretraining", do)
    if made.get(HASH) != (actual := file_hash(path)):
        raise Refusal(
            f"{path}: sha256 {actual[:12]}, but {record.name} beside it records {str(made.get(HASH))[:12]}",
            expected="the file that the pretraining wrote",
            do=do,
        )


def read_trained(path: Path, what: str) -> dict[str, Any]:
    """The content of a checkpoint.pth of a pretraining or a probe. `what` says in a refusal what it should be.

    Raises Refusal for a file that is damaged, altered or no dictionary.
    """
    check_trained(path)
    raw = load_tensors(path, what, "run the pretraining (or probe) again, or name another file")
    if not isinstance(raw, dict):
        raise Refusal(f"{path}: a {type(raw).__name__}", expected=what, do="name another file")
    return raw


def read_start(path: Path) -> tuple[dict[str, Any], str]:
    """What a run starts from, a canonical weights file or another run's checkpoint.pth, and its hash.

    The hash of a weights file is that of its tensors, so a copy made again is the same start.
    """
    raw = read_trained(path, "a checkpoint.pth of pretraining, or a weights file")
    if is_canonical(raw):
        return raw, str(weights_of(raw, path).meta["sha256"])
    return raw, file_hash(path)
