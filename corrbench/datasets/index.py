"""The table that lists what a data set of videos or clips holds: a row each, in a stable order."""

from __future__ import annotations

import csv
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from corrbench.files import atomic, digest

Row = TypeVar("Row")
READ = {"str": str, "int": int, "float": float}


@dataclass(frozen=True)
class Table(Generic[Row]):
    """Rows of one dataclass, whose fields (str, int, float) are the columns."""

    row: ClassVar[Any]
    videos: tuple[Row, ...]

    @property
    def fingerprint(self) -> str:
        """12 hex digits over all fields of all rows."""
        return digest([astuple(v) for v in self.videos])  # type: ignore[call-overload]

    def write(self, path: Path) -> None:
        """Write the table, atomically."""
        with atomic(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([f.name for f in fields(self.row)])
            writer.writerows(astuple(v) for v in self.videos)  # type: ignore[call-overload]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a table that `write` made."""
        with path.open(newline="") as file:
            return cls(
                tuple(
                    cls.row(**{f.name: READ[str(f.type)](r[f.name]) for f in fields(cls.row)})
                    for r in csv.DictReader(file)
                )
            )
