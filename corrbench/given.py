"""Masks that somebody else made, as rows of the table: what a config says of them. They are read by `corrbench.datasets.given_masks`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from corrbench.errors import Refusal
from corrbench.files import digest
from corrbench.reading import is_litter

SOURCE = "masks"
"""What stands in the column `weights` of the table."""


@dataclass(frozen=True, eq=False)
class GivenMasks:
    """What stands in the place of a protocol for masks that were made elsewhere: nothing is known of the rules."""

    name = "given"
    copy = False
    row: Mapping[str, Any]
    """The row of config/masks/ or of `masks:` in the config."""

    @property
    def fetched(self) -> bool:
        """True for masks that the workflow downloads."""
        return "path" not in self.row and bool(self.row["addresses"])

    def path(self, results: Path) -> Path:
        """The folder or archive. What the row calls ``x`` may also have been placed as ``x.zip``."""
        if "path" in self.row:
            return Path(self.row["path"])
        path = results / "downloads" / "masks" / self.row["file"]
        zipped = path.with_name(f"{path.name}.zip")
        return zipped if zipped.is_file() and not path.exists() else path

    @property
    def published(self) -> str | None:
        """Id of the published row (config/targets/) that these masks have."""
        return self.row.get("published")

    def settings(self) -> dict[str, Any]:
        """Where the masks are inside what was given; nothing else but the masks themselves decides the numbers."""
        return {"masks": "given", **({"inside": self.row["inside"]} if "inside" in self.row else {})}

    @property
    def hash(self) -> str:
        """12 hex digits for this row alone: nothing says that two rows follow the same rules, so they are not ranked in one list."""
        return digest({"masks": "given", "name": self.row["name"]})


def mask_files(path: Path) -> dict[str, Path]:
    """The files that given masks are made of, by name: an archive, or every PNG of a folder."""
    if not path.is_dir():
        return {"masks": path}
    found = {}
    for place, _, names in os.walk(path, followlinks=True):
        for name in names:
            if name.lower().endswith(".png") and not is_litter(name):
                whole = Path(place, name)
                found[whole.relative_to(path).as_posix()] = whole
    return found


def check_given(row: Mapping[str, Any], where: str) -> None:
    """Raise Refusal for a row of masks that leads nowhere, or out of the masks that count."""
    inside = PurePosixPath(row.get("inside", "."))
    if inside.is_absolute() or ".." in inside.parts:
        raise Refusal(
            f"{where}: inside: {row['inside']}", expected="a folder inside the masks", do="correct `inside:` or `path:`"
        )
    if "path" in row and "file" in row:
        raise Refusal(f"{where}: path and file", expected="one of them", do="remove one")
    if row["addresses"] and "/" in row["file"]:
        raise Refusal(
            f"{where}: file: {row['file']}, with addresses",
            expected="a plain name of an archive where it is downloaded",
            do="correct `file:`",
        )
