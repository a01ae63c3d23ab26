"""Where data sets come from (rows of config/datasets/) and whether one lies as it should."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corrbench.errors import Refusal


def check_layout(row: Mapping[str, Any], root: Path) -> list[str]:
    """One line per part of the layout. Raises Refusal with the row's instructions when a part is missing or too small."""
    lines, wrong = [], []
    for part in row["layout"]:
        found = sum(1 for _ in root.glob(part["files"])) if root.is_dir() else 0
        exact = part.get("count")
        wanted = f"{exact}" if exact else f"at least {part['at_least']}"
        right = found == exact if exact else found >= part["at_least"]
        line = f"{part['what']} ({part['files']}): {found}, expected {wanted}"
        lines.append(line)
        if not right:
            wrong.append(line)
    if wrong:
        raise Refusal(
            f"{root} is not {row['title']} as it should be:\n    " + "\n    ".join(wrong),
            expected="the layout of config/datasets/" + row["name"] + ".yaml",
            do=how_to_get(row),
        )
    return lines


def how_to_get(row: Mapping[str, Any]) -> str:
    """What a user does to have this data set."""
    text = row["instructions"].strip().replace("\n", "\n    ")
    if row["archives"]:
        return f"set `data: {{{row['name']}: download}}`, or by hand: {text}"
    return text


def archives_for(row: Mapping[str, Any], splits: set[str]) -> list[Mapping[str, Any]]:
    """The archives that hold these splits."""
    return [a for a in row["archives"] if splits & set(a["splits"])]
