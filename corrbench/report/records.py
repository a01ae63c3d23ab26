"""The records that lie in a results folder, each checked to be what was written."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

from corrbench.errors import Refusal, of_system
from corrbench.files import SEAL, digest, read_json, read_record
from corrbench.reading import regular

AGAIN = (
    "your snakemake command with  --forcerun {0} --  before the target; or remove {0} and run the same command again"
)
"""What to do about a file that a rule makes."""


def read_intact(path: Path, what: str = "a record") -> dict[str, Any]:
    """A record, without its own digest. Raises Refusal when it is missing, cut, no record, or altered since it was written.

    A record without a digest, as the first edition wrote them, is taken as it is.
    """
    do = AGAIN.format(path)
    value = read_json(path)
    if not isinstance(value, dict):
        raise Refusal(f"{path}: not a record", expected=what, do=do)
    if SEAL in value:
        value = read_record(path, what, do)
    return {key: inner for key, inner in value.items() if key != SEAL}


def content(record: dict[str, Any]) -> str:
    """A digest of what a record says, by which another one names it."""
    return digest({key: inner for key, inner in record.items() if key != SEAL}, 64)


def weights_meta(path: Path) -> dict[str, Any]:
    """The `meta` of a canonical weights file, read without torch and without its tensors. Raises Refusal for any other file."""
    try:
        with zipfile.ZipFile(regular(path)) as archive:
            name = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
            with archive.open(name) as file:
                meta = _Plain(file).load()["meta"]
        if not isinstance(meta, dict):
            raise TypeError("no record")
        return dict(json.loads(json.dumps(meta)))
    except OSError as error:
        raise of_system(error, path) from error
    except Refusal:
        raise
    except Exception as error:  # bytes that are no pickle fail in many ways
        raise Refusal(
            f"{path}: not a weights file ({type(error).__name__})",
            expected="a file that convert.py wrote",
            do=AGAIN.format(path),
        ) from error


class _Plain(pickle.Unpickler):
    """Reads plain data; tensors and everything that would be called become nothing."""

    def find_class(self, module: str, name: str) -> Any:
        return dict if (module, name) == ("collections", "OrderedDict") else _Nothing

    def persistent_load(self, pid: Any) -> Any:
        return None


class _Nothing:
    """Stands for a tensor."""

    def __init__(self, *values: Any) -> None:
        pass


def mark(table_sha256: str) -> str:
    """The line of a page that names the table.csv which it shows."""
    return f"<meta name='corrbench-table' content='{table_sha256}'>"


def table_of_page(path: Path) -> str | None:
    """sha256 of the table.csv that a page shows, as it says itself; None for any other file."""
    try:
        with path.open("rb") as file:
            found = re.search(mark("([0-9a-f]*)"), file.read(1000).decode(errors="replace"))
    except OSError as error:
        raise of_system(error, path) from error
    return found[1] if found else None
