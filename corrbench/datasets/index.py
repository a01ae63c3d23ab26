"""The table that lists what a data set of videos or clips holds: a row each, in a stable order.

Beside ``index.csv`` lies ``index.json``, a record with the sha256 of the table, by which a table that was cut or altered is
known. A table that a user made by hand needs none: its values are checked all the same.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Generic, Self, TypeVar

from corrbench.errors import Refusal, few
from corrbench.files import SEAL, atomic, digest, read_json, read_record, write_record
from corrbench.reading import read_bytes, read_text

Row = TypeVar("Row")
REMEDY = "make it again (python -m scripts.frames)"


def _path(text: str) -> str:
    path = PurePosixPath(text)
    if not text or "\0" in text or path.is_absolute() or ".." in path.parts:
        raise ValueError("no path below the root")
    return text


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError("no number of at least 0")
    return value


READ: dict[str, Callable[[str], Any]] = {"str": _path, "int": int, "float": _number}


@dataclass(frozen=True)
class Table(Generic[Row]):
    """Rows of one dataclass, whose fields (str: a path below the root, int, float) are the columns."""

    row: ClassVar[Any]
    least: ClassVar[dict[str, int]]
    """Smallest value of every column of whole numbers."""
    once: ClassVar[str | None] = None
    """Column in which no value stands twice."""
    videos: tuple[Row, ...]

    @property
    def fingerprint(self) -> str:
        """12 hex digits over all fields of all rows."""
        return digest([astuple(v) for v in self.videos])  # type: ignore[call-overload]

    def write(self, path: Path) -> None:
        """Write the table and its record, each atomically."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow([f.name for f in fields(self.row)])
        writer.writerows(astuple(v) for v in self.videos)  # type: ignore[call-overload]
        write_table(path, text.getvalue())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a table that `write` made, or one of the same columns.

        Raises Refusal by name for a file that is missing, altered since it was written, no such table, or without rows,
        and with its line for a value that cannot be: no number, a count below 1, a path that leaves the root.
        """
        names = [f.name for f in fields(cls.row)]
        reader = csv.DictReader(io.StringIO(read_table(path), newline=""))
        try:
            missing = [name for name in names if name not in (reader.fieldnames or ())]
            if missing:
                raise wrong_table(path, f"has no column {few(missing)}", f"the columns {', '.join(names)}")
            rows = [cls._row(path, reader.line_num, r) for r in reader]
        except csv.Error as error:
            raise wrong_table(path, f"line {reader.line_num}: {error}", "a table with commas") from error
        if not rows:
            raise wrong_table(path, "lists nothing", "a row for every video, clip or image")
        if cls.once is not None:
            seen: set[str] = set()
            for row in rows:
                if (value := getattr(row, cls.once)) in seen:
                    raise wrong_table(path, f"{cls.once} {value} stands there twice", f"every {cls.once} once")
                seen.add(value)
        return cls(tuple(rows))

    @classmethod
    def _row(cls, path: Path, line: int, found: dict[str, Any]) -> Any:
        values = {}
        for field in fields(cls.row):
            text = found[field.name]
            try:
                if not isinstance(text, str) or None in found:
                    raise ValueError("the line has another number of values than the header")
                value = READ[str(field.type)](text)
                if value.__class__ is int and value < cls.least[field.name]:
                    raise ValueError(f"below {cls.least[field.name]}")
            except (ValueError, OverflowError) as error:
                raise wrong_table(
                    path, f"line {line}: {field.name} is {str(text)[:80]!r} ({error})", "a value that can be"
                ) from error
            values[field.name] = value
        return cls.row(**values)


def write_table(path: Path, text: str) -> None:
    """Write the text of a table, and the record of its digest beside it: the record first, the table says that all is there."""
    data = text.encode()
    write_record(path.with_suffix(".json"), {"table": path.name, "sha256": hashlib.sha256(data).hexdigest()})
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def read_table(path: Path) -> str:
    """The text of a table. Raises Refusal when it is not what was written, as far as a record beside it tells."""
    text = read_text(path)
    record = path.with_suffix(".json")
    if record.exists():
        if not _is_record(record):
            return text  # a file of the user's with that name
        known = read_record(record, "the record of a table", f"remove it and {path.name}, and {REMEDY}")
        if known.get("table") == path.name and known.get("sha256") != hashlib.sha256(read_bytes(path)).hexdigest():
            raise Refusal(
                f"{path}: its content is not what was written (its sha256 is not that of {record.name})",
                expected="the index as the frames stage wrote it",
                do=f"{REMEDY}; if you changed it yourself, remove {record}",
            )
    return text


def _is_record(path: Path) -> bool:
    """False for JSON that is clearly something else than the record of a table; a damaged file counts as one."""
    try:
        found = read_json(path)
    except Refusal:
        return True
    return isinstance(found, dict) and bool({"table", "sha256", SEAL} & found.keys())


def wrong_table(path: Path, found: str, expected: str) -> Refusal:
    """The refusal for a table that cannot be read as an index."""
    return Refusal(f"{path}: {found}", expected=expected, do=REMEDY)
