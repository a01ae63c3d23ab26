"""Fetch one file: several addresses in order, resumed after an interruption, size and hash checked, renamed at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from corrbench.errors import Refusal
from corrbench.files import file_hash
from corrbench.progress import Progress

TIMEOUT = 60
"""Seconds without a byte after which an address counts as dead."""


def download(
    addresses: Sequence[str], target: Path, *, size: int | None = None, claim: Mapping[str, Any] | None = None
) -> str | None:
    """Bring the file to `target`. Returns a warning for the report, or None.

    `claim` is ``{algorithm, value, on_mismatch}``; value may be a prefix, on_mismatch is `refuse` or `warn` (published
    hashes that nobody could confirm yet). A partial download is kept as ``<name>.part`` and continued next time.
    Raises Refusal when every address fails, or when the content is not what was promised.
    """
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    origin = target.with_name(target.name + ".from")
    for address in addresses:
        if part.exists() and (not origin.exists() or origin.read_text() != address):
            part.unlink()  # what another address began is not continued from this one
        origin.write_text(address)
        try:
            _fetch(address, part, size)
            break
        except (requests.RequestException, OSError, _Short) as error:
            failures.append(f"{address}: {error}")
    else:
        raise Refusal(
            f"{target.name} could not be downloaded:\n    " + "\n    ".join(failures),
            expected="one of its addresses to answer",
            do=f"run again (what came is kept), or place the file at {target} yourself",
        )
    warning = None
    if claim:
        actual = file_hash(part, claim["algorithm"])
        if not actual.startswith(claim["value"]):
            message = f"{target.name}: {claim['algorithm']} is {actual}, published is {claim['value']}"
            if claim.get("on_mismatch", "refuse") != "warn":
                part.unlink()
                origin.unlink()
                raise Refusal(
                    message, expected="the published hash", do="do not use this file: it was altered or replaced"
                )
            warning = message
    part.replace(target)
    origin.unlink()
    return warning


class _Short(Exception):
    """Fewer or more bytes than promised."""


def _fetch(address: str, part: Path, size: int | None) -> None:
    """Append to `part` until it is complete; start over when the server cannot continue."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    with requests.get(address, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:  # nothing after `start`: the part is complete, or of another file
            total = _total(answer.headers.get("Content-Range", ""))
            if total is not None and total != start:
                part.unlink()
                raise _Short(f"the partial file has {start} bytes, the server's {total}; removed, run again")
            return
        answer.raise_for_status()
        resumed = answer.status_code == 206
        if not resumed:
            start = 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else size
        with (
            part.open("ab" if resumed else "wb") as file,
            Progress(part.stem, total, unit="B", done=start) as bar,
        ):
            for block in answer.iter_content(1 << 16):
                file.write(block)
                bar.advance(len(block))
    got = part.stat().st_size
    for wanted in (total, size):
        if wanted is not None and got != wanted:
            if got > wanted:
                part.unlink()
            raise _Short(f"{got} of {wanted} bytes")


def _total(content_range: str) -> int | None:
    tail = content_range.rpartition("/")[2]
    return int(tail) if tail.isdigit() else None
