"""The folder of score files that propagation writes: what in it is finished, what is ours, what is not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corrbench.errors import Refusal, few
from corrbench.files import file_hash, read_record, write_record
from corrbench.propagation.scoremaps import ScoreReader
from corrbench.reading import is_litter


def finish(path: Path, key: str, costs: Mapping[str, Any]) -> dict[str, Any]:
    """Note beside a score file that it is complete: what run it is of, the hash of its bytes, and its costs."""
    done = {**costs, "sha256": file_hash(path)}
    write_record(path.with_suffix(".json"), {"sequence": path.stem, "key": key, "done": done})
    return done


def finished(path: Path, key: str) -> dict[str, Any] | None:
    """What `finish` noted of a score file of this run; None when the sequence must be computed, also for a damaged file."""
    try:
        note = read_record(path.with_suffix(".json"))
        if (note["sequence"], note["key"]) == (path.stem, key) and file_hash(path) == note["done"]["sha256"]:
            return dict(note["done"])
    except (Refusal, KeyError, TypeError):
        pass
    return None


def check_score_file(path: Path, sha256: str, summary: Path) -> ScoreReader:
    """Open a score file that a summary lists. Raises Refusal when its bytes are not those that were written."""
    reader = ScoreReader(path)
    if file_hash(path) != sha256 or reader.record.get("sequence") != path.stem:
        raise Refusal(
            f"{path}: is not the file that {summary} lists",
            expected=f"the scores of {path.stem} with sha256 {sha256[:12]}...",
            do=f"remove {summary} and run the same command again: what is damaged is then propagated again",
        )
    return reader


def refuse_foreign_labels(folder: Path) -> None:
    """Raise Refusal when a folder holds files that no propagation of ours wrote, before anything in it is touched."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise Refusal(f"{folder}: a file", expected="a folder, or nothing", do="remove it, or name another folder")
    foreign = sorted(p.name for p in folder.iterdir() if not is_litter(p.name) and not _ours(p))
    if foreign:
        raise Refusal(
            f"{folder}: holds files that no propagation wrote ({few(foreign, 3)}); nothing was changed",
            expected="an empty folder, or the score files of an earlier run and nothing else",
            do="name another folder, or move these files elsewhere",
        )


def _ours(path: Path) -> bool:
    if path.suffix == ".json":
        return path.with_suffix(".npz").exists() or _note(path)
    if path.suffix != ".npz" or not path.is_file():
        return False
    return _note(path.with_suffix(".json")) or _readable(path)


def _note(path: Path) -> bool:
    try:
        return "sequence" in read_record(path)
    except Refusal:
        return False


def _readable(path: Path) -> bool:
    try:
        return "key" in ScoreReader(path).record
    except Refusal:
        return False


def remove_strays(folder: Path, names: set[str]) -> None:
    """Remove the score files of sequences that are not measured any more (an earlier, larger selection)."""
    for path in [p for p in folder.iterdir() if p.suffix == ".npz" and p.stem not in names and _ours(p)]:
        path.unlink()
        path.with_suffix(".json").unlink(missing_ok=True)
