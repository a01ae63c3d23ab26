"""Masks with the record that the stage which made them left: what run they are of, and the hash of every file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corrbench.errors import Refusal
from corrbench.files import read_record
from corrbench.images import NOTHING_KNOWN, Known

SUMMARY = ("entry", "key", "record", "sequences")
"""Keys of the summary of a propagation, by which it is known."""


def masks_record(masks: Path, propagation: Path | None) -> tuple[dict[str, Any] | None, Known]:
    """The record of a folder of masks, and its files' hashes; (None, nothing) for masks from elsewhere.

    `propagation` is the summary that they must be of. Raises Refusal when they are of another one, or when the record is
    missing or was altered.
    """
    path, keys = masks / "record.json", ("propagation", "settings", "files")
    again = f"remove {masks} and run the same command again"
    if propagation is None:
        if not path.exists():
            return None, NOTHING_KNOWN
        record = read_record(path, "the record of masks", "remove record.json to score the masks as they are", keys)
    else:
        summary = read_record(
            propagation, "a summary of propagation", f"remove {propagation} and run the same command again", SUMMARY
        )
        record = read_record(path, "the record of masks", again, keys)
        if (record.get("propagation"), record.get("entry")) != (summary["key"], summary["entry"]):
            raise Refusal(
                f"{masks}: masks of another propagation than {propagation}",
                expected=f"masks of {summary['entry']}, decoded from the run with key {summary['key']}",
                do=again,
            )
    return record, Known(masks, record["files"], "annotations")
