"""``log.jsonl`` as a picture."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from corrbench.errors import Refusal
from corrbench.files import atomic
from corrbench.reading import read_text

NOT_LOSSES = (
    "step",
    "lr",
    "gradient",
    "seconds",
    "waited",
    "samples_per_second",
    "replaced",
    "positives",
    "iou",
    "counted",
    "on_target",
    "off_target",
)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, in order. Raises Refusal that names a line that is cut, no line of a log or without a finite loss."""
    lines = []
    for number, text in enumerate(read_text(path).splitlines(), 1):
        try:
            line = json.loads(text)
            numbers = all(isinstance(value, int | float) for value in line.values())
            whole = numbers and math.isfinite(line["loss"]) and line["step"] > 0
        except (ValueError, KeyError, AttributeError):
            whole = False
        if not whole:
            raise Refusal(
                f"{path}: line {number} is damaged: {text[:60]!r}",
                expected="a line of a run's log",
                do="run the pretraining again: it writes the log anew from last.pt",
            )
        lines.append(line)
    return lines


def waiting_share(lines: list[dict[str, Any]]) -> float:
    """Share of the time in which a run waited for data; the first step, in which workers start, left out."""
    rest = lines[1:] or lines
    return sum(line["waited"] for line in rest) / max(sum(line["seconds"] for line in rest), 1e-9)


def plot_curves(lines: list[dict[str, Any]], path: Path, title: str) -> None:
    """Loss and its parts, learning rate and gradient, speed."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    step = np.array([line["step"] for line in lines])
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for name in (k for k in lines[0] if k not in NOT_LOSSES):
        values = np.array([line[name] for line in lines])
        width = max(len(values) // 50, 1)
        smooth = np.convolve(values, np.ones(width) / width, "valid")
        (drawn,) = left.plot(
            step[width - 1 :],
            smooth,
            label=name,
            lw=2 if name == "loss" else 1.2,
            marker="o" if len(step) < 30 else None,
            ms=3,
        )
        if width > 1:
            left.plot(step, values, color=drawn.get_color(), alpha=0.2, lw=0.7)
    losses = np.array([line["loss"] for line in lines])
    # a steep start would press the rest on the axis
    steep = losses.min() > 0 and losses.max() > 10 * np.median(losses)
    left.set(xlabel="step", title=title, yscale="log" if steep else "linear")
    left.legend(frameon=False, fontsize=8)
    middle.plot(step, [line["lr"] for line in lines], color="tab:green", label="learning rate")
    middle.set(xlabel="step", ylabel="learning rate (green)", ylim=(0, None))
    other = middle.twinx()
    other.plot(step, [line["gradient"] for line in lines], color="tab:gray", lw=0.8, label="norm of the gradient")
    other.set(yscale="log", ylabel="norm of the gradient (gray)")
    right.plot(step, [line["samples_per_second"] for line in lines], color="tab:purple")
    right.set(xlabel="step", ylabel="samples/s", ylim=(0, None), title=f"waiting for data: {waiting_share(lines):.0%}")
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
