"""Where data sets come from (rows of config/datasets/) and whether one lies as it should."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corrbench.errors import Refusal, of_system
from corrbench.reading import is_litter, what_lies_in


def find(root: Path, patterns: str | Sequence[str]) -> list[Path]:
    """What lies below `root` and fits a glob, sorted; of several globs (other layouts of the same data) the first that
    anything fits counts. What systems leave in folders (``._x``, ``__MACOSX``) is passed over.

    Raises Refusal for a folder that cannot be read and for a glob that is none.
    """
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        try:
            found = sorted(p for p in root.glob(pattern) if not _is_left_over(p.relative_to(root)))
            _check_readable(root, found, pattern)
        except OSError as error:
            raise of_system(error, root) from error
        except (ValueError, NotImplementedError) as error:
            raise Refusal(
                f"files: {pattern!r} is no pattern of files ({error})",
                expected="a glob below the root, as `train/*/*.mp4`",
                do="correct `files:` of the data set's row",
            ) from error
        if found:
            return found
    return []


def _check_readable(root: Path, found: Sequence[Path], pattern: str) -> None:
    """Raise OSError for a folder on the way of a glob that cannot be read: the glob passes over it in silence."""
    depth = len(Path(pattern).parts) - 1
    if "**" in pattern:
        places = {p for p in root.rglob("*") if p.is_dir()}
    else:
        places = {p for level in range(1, depth + 1) for p in root.glob("/".join(Path(pattern).parts[:level]))}
    for place in {root, *places}:
        if place.is_dir() and not os.access(place, os.R_OK | os.X_OK) and not _is_left_over(place.relative_to(root)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))


def _is_left_over(path: Path) -> bool:
    """True for litter, and for what lies in a hidden folder. Hidden files are the caller's to judge, but for ``._x``."""
    return any(is_litter(part) for part in path.parts[:-1]) or (
        is_litter(path.name) and (path.name.startswith("._") or not path.name.startswith("."))
    )


def said(patterns: str | Sequence[str]) -> str:
    """A glob or several, for a message."""
    return patterns if isinstance(patterns, str) else " or ".join(patterns)


def check_layout(row: Mapping[str, Any], root: Path, *, shown: Path | None = None) -> list[str]:
    """One line per part of the layout.

    Parts with ``for`` belong to one use of the data set: one use that is complete is enough, and the lines say which are.
    Raises Refusal with the row's instructions when a part is missing or too small; it calls the root `shown`.
    """
    lines, wrong = [], []
    uses: dict[str, bool] = {}
    for part in row["layout"]:
        found = [p for p in find(root, part["files"]) if not is_litter(p.name)] if root.is_dir() else []
        exact = part.get("count")
        wanted = f"{exact}" if exact else f"at least {part['at_least']}"
        right = len(found) == exact if exact else len(found) >= part["at_least"]
        line = f"{part['what']} ({said(part['files'])}): {len(found)}, expected {wanted}"
        lines.append(line)
        if use := part.get("for"):
            uses[use] = uses.get(use, True) and right
        if not right:
            wrong.append((use, line))
    lines += [f"{'complete' if right else 'not complete'} for {use}" for use, right in uses.items()]
    if any(use is None for use, _ in wrong) or (uses and not any(uses.values())):
        lies = what_lies_in(root)
        raise Refusal(
            f"{shown or root} is not {row['title']} as it should be:\n    "
            + "\n    ".join([*(line for _, line in wrong), f"what lies there: {lies}"]),
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
