"""Pictures of tracking: boxes over frames, success and precision curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray

from corrbench.datasets.otb import Otb
from corrbench.errors import Refusal
from corrbench.metrics.otb import DISTANCES, OVERLAPS, center_error, overlap
from corrbench.report.pictures import WIDTH, Picture, caption
from corrbench.report.plots import COLORS
from corrbench.tracking.folder import read_tracked

FRAMES = 4
"""Pictures of each target."""
TRUTH, GUESS = (80, 220, 80), (60, 60, 255)
"""BGR."""


def box_sheet(
    otb: Otb, boxes: Path, title: str, tracking: Mapping[str, Any] | None = None, summary: Path | None = None
) -> Picture:
    """First to last frame of every target with the predicted (red) and the true box (green).

    With the content of tracking.json and its path, raises Refusal for boxes that are not those that it lists.
    """
    strips = []
    for name in otb.sequences:
        track, guess = otb.track(name), read_tracked(boxes, name, tracking, summary)
        if guess.shape != track.boxes.shape:
            raise Refusal(
                f"{boxes / name}.txt: {len(guess)} boxes",
                expected=f"{len(track.boxes)}, one for every frame",
                do="track the sequence again",
            )
        guess[0] = track.boxes[0]
        ious, errors = overlap(guess, track.boxes), center_error(guess, track.boxes)
        pictures = []
        for t in np.linspace(0, len(guess) - 1, FRAMES).round().astype(int):
            picture = track.image(t).copy()
            scale = WIDTH / picture.shape[1]
            picture = cv2.resize(
                picture, (WIDTH, round(picture.shape[0] * scale)), interpolation=cv2.INTER_AREA
            ).astype(np.uint8)
            for box, color in ((track.boxes[t], TRUTH), (guess[t], GUESS)):
                _draw(picture, box, scale, color)
            caption(picture, f"{name} {t + 1}  overlap {ious[t]:.2f}, {errors[t]:.0f} px")
            pictures.append(picture)
        strips.append(np.concatenate(pictures, axis=1))
    head = np.full((44, FRAMES * WIDTH, 3), 255, np.uint8)
    cv2.putText(head, title, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    legend = "red: tracked; green: annotation; overlap of the two boxes and distance of their centers"
    cv2.putText(head, legend, (6, 36), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (90, 90, 90), 1, cv2.LINE_AA)
    return np.concatenate([head, *strips], axis=0)


def _draw(picture: Picture, box: NDArray[Any], scale: float, color: tuple[int, int, int]) -> None:
    x, y, w, h = box
    if not np.isfinite(box).all():
        return
    corners = [
        (round((x - 1) * scale), round((y - 1) * scale)),
        (round((x - 1 + w) * scale), round((y - 1 + h) * scale)),
    ]
    cv2.rectangle(picture, corners[0], corners[1], color, 2, cv2.LINE_AA)


def curve_figure(entries: Mapping[str, Mapping[str, Any]], title: str) -> Figure:
    """Success over overlap and precision over center error of some entries; `entries`: id -> content of scores.json."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    panels: Sequence[tuple[str, NDArray[Any], str]] = (
        ("success", OVERLAPS, "overlap threshold"), ("precision", DISTANCES, "center error threshold (px)"),
    )  # fmt: skip
    for ax, (kind, grid, label) in zip(axes, panels, strict=True):
        ranked = sorted(entries.items(), key=lambda item: -item[1]["global"][kind])
        for i, (name, scores) in enumerate(ranked):
            text = f"{name}  {100 * scores['global'][kind]:.1f}"
            color = COLORS[list(entries).index(name) % len(COLORS)]
            ax.plot(
                grid, 100 * np.array(scores["curves"][kind]), label=text, color=color, ls=("-", "--", ":")[i // 10 % 3]
            )
        ax.set(xlabel=label, ylabel=f"frames (%), {kind}", xlim=(grid[0], grid[-1]), ylim=(0, 100))
        ax.grid(alpha=0.25)
        ax.legend(
            fontsize=7.5,
            frameon=False,
            loc="lower left" if kind == "success" else "lower right",
            title="mean of the curve" if kind == "success" else "at 20 px",
            title_fontsize=7.5,
        )
    axes[1].axvline(20, color="0.7", lw=0.8)
    figure.suptitle(title, fontsize=10)
    return figure
