"""Scores that an evaluation server returned for a submission: ``server.yaml`` beside ``submission.zip``.

    date: 2026-11-30
    submission: 5f3c...      # sha256 of the zip that was uploaded
    scores: {J&F: 82.0, J-seen: 80.6, J-unseen: 77.3, F-seen: 84.7, F-unseen: 85.5}

The hash is that of the zip when the scores were noted: one that changes later is not the one that was scored. Note them soon
after the upload; scores of a date before the zip was written are refused.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from corrbench.benchmarks.registry import benchmark_of
from corrbench.errors import Refusal, nearest
from corrbench.files import atomic, file_hash
from corrbench.yamls import read_yaml

NAME = "server.yaml"


def server_columns(benchmark: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns that the server of a benchmark returns."""
    return tuple(column.name for column in benchmark_of(benchmark).metric.columns)


def check_scores(scores: Mapping[str, Any], benchmark: Mapping[str, Any], where: str) -> dict[str, float]:
    """Scores in percent. Raises Refusal for unknown columns, numbers that are none, fractions, and a J&F that is not the mean of its parts."""
    columns = server_columns(benchmark)
    for name, value in scores.items():
        if name not in columns:
            raise Refusal(f"{where}: a score {name!r}", expected=nearest(name, columns), do="correct the name")
        if isinstance(value, bool) or not isinstance(value, int | float) or not -100 <= value <= 100:
            raise Refusal(f"{where}: {name}: {value!r}", expected="a number in percent", do="correct it")
        if name.endswith("-recall") and 0 < value <= 1:
            raise Refusal(
                f"{where}: {name}: {value!r}", expected="percent", do="multiply what the server printed by 100"
            )
    overall = benchmark_of(benchmark).metric.headline.name
    if overall not in scores:
        raise Refusal(f"{where}: no {overall}", expected="the overall score, and what it is the mean of", do="add it")
    if max(abs(value) for value in scores.values()) <= 1:
        raise Refusal(f"{where}: no number above 1", expected="percent", do="multiply what the server printed by 100")
    parts = [column.name for column in benchmark_of(benchmark).metric.parts]
    if all(name in scores for name in parts):
        mean = sum(scores[name] for name in parts) / len(parts)
        if abs(mean - scores[overall]) > 0.11:  # both were rounded to a decimal
            raise Refusal(
                f"{where}: {overall} is {scores[overall]:g}, the mean of {', '.join(parts)} is {mean:.2f}",
                expected="the numbers of one submission",
                do="look at what the server returned",
            )
    return {name: float(value) for name, value in scores.items()}


def read_server(folder: Path, benchmark: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the server said of the submission in a folder, checked against the zip; None where nobody has noted it."""
    path = folder / NAME
    if not path.exists():
        return None
    value = read_yaml(path)
    if (
        not isinstance(value, dict)
        or set(value) != {"date", "submission", "scores"}
        or not isinstance(value["scores"], dict)
    ):
        raise Refusal(f"{path}: not the scores of a server", expected="date, submission and scores", do=_AGAIN)
    zip_path = folder / "submission.zip"
    now = file_hash(zip_path) if zip_path.is_file() else "missing"
    if value["submission"] != now:
        raise Refusal(
            f"{path}: scores of another submission than {zip_path} ({str(value['submission'])[:12]}, now {now[:12]})",
            expected="the zip that was uploaded",
            do=f"upload the zip of now and note its scores, or remove {path}",
        )
    return {"date": str(value["date"]), "scores": check_scores(value["scores"], benchmark, str(path))}


_AGAIN = "write it with  python -m scripts.server_scores"


def write_server(folder: Path, benchmark: Mapping[str, Any], scores: Mapping[str, Any], date: str = "") -> Path:
    """Note what the server said of the submission in a folder, with the hash of the zip; returns the file."""
    zip_path, path = folder / "submission.zip", folder / NAME
    if not zip_path.is_file():
        raise Refusal(
            f"{folder}: no submission.zip",
            expected="the folder of an entry that was packed for a server",
            do="name that folder",
        )
    try:
        day = datetime.date.fromisoformat(date) if date else datetime.date.today()
    except ValueError as error:
        raise Refusal(f"--date {date}: {error}", expected="a date as 2026-11-30", do="correct it") from error
    made = datetime.date.fromtimestamp(zip_path.stat().st_mtime)
    if made > day:
        raise Refusal(
            f"{zip_path}: written on {made}, after it was scored ({day})",
            expected="the zip that was uploaded",
            do="upload the zip of now and note its scores",
        )
    value = {
        "date": day.isoformat(),
        "submission": file_hash(zip_path),
        "scores": check_scores(scores, benchmark, "--scores"),
    }
    with atomic(path) as temporary:
        temporary.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return path
