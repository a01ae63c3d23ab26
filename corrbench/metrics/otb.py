"""Precision and success of boxes as got10k's `ExperimentOTB` defines them (got10k/experiments/otb.py, got10k/utils/metrics.py).

The rules:
- one-pass evaluation; frame 0 is replaced by its ground truth and counted;
- overlap: continuous boxes (no + 1), in [0, 1]; success curve: 21 thresholds 0, .05, ..., 1, share of frames *above* each;
- center error: distance of ``x + (w - 1) / 2``, ``y + (h - 1) / 2``; precision curve: 51 thresholds 0..50 px, share *within* each;
- success = mean of the 21 values (at most 20/21), precision = the curve at 20 px, success rate = the curve at 0.5;
- a box that is not a number counts as a failure in both;
- overall curves are unweighted means over sequences, and scores are taken from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corrbench.datasets.boxes import Boxes
from corrbench.errors import Refusal
from corrbench.files import atomic, write_json, write_record

OVERLAPS = np.linspace(0, 1, 21)
DISTANCES = np.arange(0, 51)
METRIC = "OTB one-pass evaluation (got10k ExperimentOTB)"


@dataclass(frozen=True)
class TrackScores:
    """Curves of one sequence, or their mean over sequences."""

    success_curve: NDArray[np.float64]
    """``[21]``"""
    precision_curve: NDArray[np.float64]
    """``[51]``"""

    @property
    def success(self) -> float:
        """Mean of the success curve (its area)."""
        return float(self.success_curve.mean())

    @property
    def precision(self) -> float:
        """Share of frames whose center is within 20 px."""
        return float(self.precision_curve[20])

    @property
    def success_rate(self) -> float:
        """Share of frames with an overlap above 0.5."""
        return float(self.success_curve[10])

    def toolkit(self, speed_fps: float) -> dict[str, Any]:
        """The six keys of the toolkit's ``performance.json``."""
        return {
            "success_curve": self.success_curve.tolist(), "precision_curve": self.precision_curve.tolist(),
            "success_score": self.success, "precision_score": self.precision, "success_rate": self.success_rate,
            "speed_fps": speed_fps,
        }  # fmt: skip


def overlap(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Intersection over union, ``[F, 4]`` x ``[F, 4]`` -> ``[F]``."""
    top, bottom = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    inter = np.prod(np.clip(bottom - top, 0, None), axis=1)
    union = np.prod(a[:, 2:], axis=1) + np.prod(b[:, 2:], axis=1) - inter
    return np.clip(inter / (union + np.finfo(np.float64).eps), 0, 1)


def center_error(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Distance of centers in pixels, ``[F, 4]`` x ``[F, 4]`` -> ``[F]``."""
    centers = [boxes[:, :2] + (boxes[:, 2:] - 1) / 2 for boxes in (a, b)]
    return np.sqrt(((centers[0] - centers[1]) ** 2).sum(axis=1))


def score_sequence(predicted: Boxes, truth: Boxes) -> TrackScores:
    """Curves of one sequence. Raises Refusal when the numbers of boxes differ."""
    if predicted.shape != truth.shape:
        raise Refusal(
            f"{len(predicted)} predicted boxes",
            expected=f"{len(truth)}, one for every frame",
            do="track the sequence again",
        )
    predicted = predicted.copy()
    predicted[0] = truth[0]
    ious, errors = overlap(predicted, truth), center_error(predicted, truth)
    with np.errstate(invalid="ignore"):
        return TrackScores((ious[:, None] > OVERLAPS).mean(axis=0), (errors[:, None] <= DISTANCES).mean(axis=0))


def mean_scores(scores: Mapping[str, TrackScores]) -> TrackScores:
    """Mean curves over sequences, each counting the same."""
    return TrackScores(
        np.mean([s.success_curve for s in scores.values()], axis=0),
        np.mean([s.precision_curve for s in scores.values()], axis=0),
    )


def speed_fps(seconds: NDArray[np.float64]) -> float:
    """The toolkit's speed of one sequence: mean of 1/t over frames with t > 0, first frame included; -1 without times.

    It is biased upward by short frames; the table's fps is frames over total time.
    """
    positive = seconds[seconds > 0]
    return float(np.mean(1 / positive)) if len(positive) else -1.0


FILES = ("global.csv", "per_sequence.csv", "performance.json", "scores.json")
"""What `write_track_scores` writes."""


def write_track_scores(
    folder: Path, tracker: str, scores: Mapping[str, TrackScores], speeds: Mapping[str, float], record: dict[str, Any]
) -> None:
    """Write ``global.csv``, ``per_sequence.csv``, ``performance.json`` (the toolkit's form) and ``scores.json`` below `folder`."""
    total = mean_scores(scores)
    known = [s for s in speeds.values() if s > 0]
    speed = float(np.mean(known)) if known else -1.0  # over sequences that have times, as the toolkit does
    figures = {"precision": total.precision, "success": total.success, "success_rate": total.success_rate}
    rows = [
        {"Sequence": n, "precision": s.precision, "success": s.success, "success_rate": s.success_rate}
        for n, s in scores.items()
    ]
    for name, frame in (("global", pd.DataFrame([figures])), ("per_sequence", pd.DataFrame(rows))):
        with atomic(folder / f"{name}.csv") as path:
            frame.to_csv(path, index=False, float_format="%.6f")
    each = {name: s.toolkit(speeds[name]) for name, s in scores.items()}
    write_json(folder / "performance.json", {tracker: {"overall": total.toolkit(speed), "seq_wise": each}})
    curves = {"success": total.success_curve.tolist(), "precision": total.precision_curve.tolist()}
    by_sequence = {name: s.success for name, s in scores.items()}
    write_record(
        folder / "scores.json",
        {
            "metric": METRIC,
            "global": {**figures, "speed_fps": speed},
            "curves": curves,
            "sequences": by_sequence,
            "record": record,
        },
    )
