"""The folder of box files that tracking writes: what in it is finished, what is ours, what is not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corrbench.datasets.boxes import Boxes, read_boxes
from corrbench.errors import Refusal, few
from corrbench.files import file_hash
from corrbench.outputs import RunRecord
from corrbench.reading import is_litter


def _record(folder: Path) -> RunRecord:
    return RunRecord(folder, "the record of tracked boxes", ("key", "sequences"))


def begin(folder: Path, key: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Targets that a run with this key finished. The folder is emptied of any other run's boxes, and says whose it is now.

    Raises Refusal, before anything is touched, when it holds files that no tracking wrote.
    """
    record_file = _record(folder)
    there = sorted(p for p in folder.rglob("*") if p.is_file() and not is_litter(p.name)) if folder.is_dir() else []
    found = record_file.read()
    ours = {p for p in there if _is_boxes(folder, p)} if found else set()
    foreign = [
        p.relative_to(folder).as_posix() for p in there if p not in ours and (p != record_file.path or not found)
    ]
    if foreign:
        raise Refusal(
            f"{folder}: holds files that no tracking wrote ({few(foreign, 3)}); nothing was changed",
            expected="an empty folder, or the boxes of an earlier run (with record.json) and nothing else",
            do="name another folder, or move these files elsewhere",
        )
    if found.get("key") != key:
        for old in ours:
            old.unlink()
        note(folder, key, record, {})
        return {}
    return {n: d for n, d in found["sequences"].items() if _intact(folder / f"{n}.txt", d["sha256"])}


def note(folder: Path, key: str, record: Mapping[str, Any], done: Mapping[str, Any], *, complete: bool = False) -> None:
    """Write down which targets are finished; `complete`: all of them."""
    _record(folder).note({"key": key, "record": record, "sequences": done}, complete=complete)


def read_tracked(folder: Path, name: str, tracking: Mapping[str, Any] | None, summary: Path | None) -> Boxes:
    """The boxes of a target. With the summary of tracking, raises Refusal when they are not those that it lists."""
    path = folder / f"{name}.txt"
    if tracking is not None:
        listed = tracking["sequences"].get(name)
        if listed is None or file_hash(path) != listed["sha256"]:
            raise Refusal(
                f"{path}: changed since it was tracked",
                expected=f"the boxes that {summary} lists",
                do=f"remove {summary} and run the same command again: what is damaged is then tracked again",
            )
    return read_boxes(path)


def _is_boxes(folder: Path, path: Path) -> bool:
    """True for the names that tracking gives: ``<target>.txt`` with four numbers a line, ``times/<target>_time.txt``."""
    if path.parent == folder / "times":
        return path.name.endswith("_time.txt")
    if path.parent != folder or path.suffix != ".txt":
        return False
    return (folder / "times" / f"{path.stem}_time.txt").is_file()


def _intact(path: Path, sha256: str) -> bool:
    return path.is_file() and file_hash(path) == sha256
