"""A checkpoint.pth that pretraining wrote, against the recipe.json beside it, which records its hash."""

from __future__ import annotations

from pathlib import Path

from corrbench.errors import Refusal
from corrbench.files import SEAL, file_hash, read_json, read_record

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
