"""The files that the evaluate stage writes, in the official column names."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import pandas as pd

from corrbench.files import atomic, write_record
from corrbench.metrics.davis import GLOBAL_COLUMNS, METRIC, ObjectScores, global_scores, statistics

FILES = ("global.csv", "per_object.csv", "per_frame.csv.gz", "scores.json")
"""What `write_scores` writes."""


def write_scores(folder: Path, scores: list[ObjectScores], record: dict[str, Any]) -> None:
    """Write ``global.csv``, ``per_object.csv``, ``per_frame.csv.gz`` and ``scores.json`` below `folder`.

    The first two have the columns and the three decimals of the official result files (fractions); the JSON has full
    precision and `record`, which says what was measured and how.
    """
    total = global_scores(scores)
    objects = []
    for one in scores:
        j, f = statistics(one.region), statistics(one.contour)
        objects.append({"Sequence": f"{one.sequence}_{one.number}", "J-Mean": j.mean, "F-Mean": f.mean})
    frames = pd.DataFrame(
        [(s.sequence, s.number, frame, j, f)
         for s in scores for frame, j, f in zip(s.frames, s.region, s.contour, strict=True)],
        columns=["sequence", "object", "frame", "J", "F"],
    )  # fmt: skip
    with atomic(folder / "global.csv") as path:
        pd.DataFrame([total], columns=list(GLOBAL_COLUMNS)).to_csv(path, index=False, float_format="%.3f")
    with atomic(folder / "per_object.csv") as path:
        pd.DataFrame(objects).to_csv(path, index=False, float_format="%.3f")
    with atomic(folder / "per_frame.csv.gz") as path:
        # neither a time nor the temporary name in the archive: equal scores give equal bytes
        packed = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream:
            stream.write(frames.to_csv(index=False, float_format="%.6f").encode())
        path.write_bytes(packed.getvalue())
    write_record(
        folder / "scores.json",
        {"metric": METRIC, "global": total, "objects": objects, "sequences": _by_sequence(objects), "record": record},
    )  # fmt: skip


def _by_sequence(objects: list[dict[str, Any]]) -> dict[str, float]:
    """J&F of every sequence: the mean over its objects."""
    found: dict[str, list[float]] = {}
    for row in objects:
        found.setdefault(row["Sequence"].rpartition("_")[0], []).append((row["J-Mean"] + row["F-Mean"]) / 2)
    return {name: sum(values) / len(values) for name, values in found.items()}
