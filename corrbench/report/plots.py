"""Plots of a finished table: leaderboard with published values, per-sequence heat map, quality against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from corrbench.report.targets import BAND, main_metric

COLORS = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
plt.rcParams.update(
    {
        "font.size": 9,
        "text.parse_math": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "corrbench",
    }
)


def leaderboard(table: pd.DataFrame, benchmark: str) -> Figure:
    """Bars of J&F (success for boxes), grouped and ranked within each protocol hash; a diamond and a band where a number was published."""
    metric = main_metric(table)
    groups = list(table.groupby("protocol_hash", sort=False))
    height = 1.2 + 0.27 * len(table) + 0.42 * len(groups)
    figure, axes = plt.subplots(figsize=(9, height), layout="constrained")
    y, ticks, labels = 0.0, [], []
    for i, (protocol_hash, group) in enumerate(groups):
        names = ", ".join(dict.fromkeys(group["protocol"]))
        axes.text(
            0.3,
            y,
            f"protocol {names}  ({protocol_hash})",
            va="center",
            fontsize=8.5,
            style="italic",
            color="0.3",
        )
        y += 1
        for row in group.sort_values(metric, ascending=False).to_dict("records"):
            axes.barh(y, row[metric], height=0.72, color=COLORS[i % len(COLORS)], alpha=0.8)
            end = row[metric]  # of what is drawn: the number stands behind it
            if pd.notna(row["published"]):
                near, far = row["band"], BAND[1]
                end = max(end, row["published"] + far)
                axes.barh(y, 2 * far, left=row["published"] - far, height=0.9, color="0.75", alpha=0.6, zorder=0)
                axes.barh(y, 2 * near, left=row["published"] - near, height=0.9, color="0.45", alpha=0.5, zorder=0)
                axes.plot(row["published"], y, "D", color="black", markersize=4)
            axes.text(end + 0.6, y, f"{row[metric]:.1f}", va="center", fontsize=8)
            ticks.append(y)
            labels.append(short_name(row) if row["weights"] == "none" else f"{short_name(row)} [{row['weights']}]")
            y += 1
        y += 0.45
    axes.set_yticks(ticks, labels)
    axes.set_ylim(y - 0.2, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"{metric} (%), higher is better; ranked only within one protocol")
    axes.set_title(
        f"{benchmark}: {metric}"
        + (" (diamond: published; dark band: reproduced, light: close)" if table["published"].notna().any() else "")
    )
    return figure


def short_name(row: Mapping[Any, Any]) -> str:
    """Method and backbone of a table row, short."""
    backbone = "" if row["backbone"] == "none" else f" {row['backbone']}".replace("ResNet-", "R")
    return f"{row['method']}{backbone}"


def checkpoint_curve(table: pd.DataFrame, method: str, names: Sequence[str]) -> Figure:
    """The headline score of several checkpoints of one method, in order; the untrained network is a dashed line.

    `names`: of the checkpoints, as the column `weights` has them. One curve for each benchmark and protocol.
    """
    metric = main_metric(table)
    own = table[table["entry"].str.startswith(f"{method}.")]
    figure, axes = plt.subplots(figsize=(max(5.0, 1.2 + 0.5 * len(names)), 4.2), layout="constrained")
    for i, ((benchmark, protocol), group) in enumerate(own.groupby(["benchmark", "protocol"], sort=False)):
        scores = group.set_index("weights")[metric]
        there = [name for name in names if name in scores]
        if not there:
            continue
        color = COLORS[i % len(COLORS)]
        axes.plot(
            [names.index(n) for n in there],
            [scores[n] for n in there],
            marker="o",
            color=color,
            label=f"{benchmark}, {protocol}",
        )
        if "random" in scores:
            axes.axhline(scores["random"], color=color, ls="--", lw=1)
            axes.annotate(
                "untrained", (len(names) - 1, scores["random"]), fontsize=8, ha="right", va="bottom", color=color
            )
    axes.set_xticks(
        range(len(names)), names, rotation=45 if len(names) > 4 else 0, ha="right" if len(names) > 4 else "center"
    )
    axes.set_ylabel(f"{metric} (%)")
    axes.set_title(f"{method}: {len(names)} checkpoints")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def heat_map(by_sequence: pd.DataFrame, benchmark: str, metric: str = "J&F") -> Figure:
    """J&F or success (%) of every sequence (columns) and entry (rows)."""
    rows, columns = by_sequence.shape
    figure, axes = plt.subplots(figsize=(max(7, 3.2 + 0.5 * columns), 1.6 + 0.28 * rows), layout="constrained")
    image = axes.imshow(by_sequence.to_numpy(), vmin=0, vmax=100, cmap="viridis", aspect="auto")
    axes.set_xticks(range(columns), list(by_sequence.columns), rotation=60, ha="right")
    axes.set_yticks(range(rows), list(by_sequence.index))
    for i in range(rows):
        for j in range(columns):
            value = float(by_sequence.to_numpy()[i, j])
            axes.text(
                j,
                i,
                f"{value:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if value < 60 else "black",
            )
    figure.colorbar(image, ax=axes, label=f"{metric} (%)", shrink=0.9)
    axes.set_title(f"{benchmark}: {metric} of each sequence")
    return figure


def quality_against_cost(table: pd.DataFrame, benchmark: str) -> Figure:
    """J&F (success for boxes) over frames per second (log), one marker per protocol."""
    metric = main_metric(table)
    figure, axes = plt.subplots(figsize=(9.5, 5), layout="constrained")
    part = table[table["fps"].notna()]
    if part.empty:
        axes.text(0.5, 0.5, "no row ran a network here", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return figure
    for i, (protocol_hash, group) in enumerate(part.groupby("protocol_hash", sort=False)):
        names = ", ".join(dict.fromkeys(group["protocol"]))
        axes.scatter(group["fps"], group[metric], label=f"{names} ({protocol_hash})", color=COLORS[i % len(COLORS)], marker="osD^vP*X<>"[i % 10], s=45)  # fmt: skip
    axes.set_xscale("log")
    # matplotlib writes the ticks of a logarithmic axis as formulas, which `text.parse_math` prints literally
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.18, y=0.12)
    devices = ", ".join(sorted(set(part["device"])))
    axes.set_xlabel(f"frames per second (log), network and propagation or tracking on {devices}")
    axes.set_ylabel(f"{metric} (%)")
    axes.set_title(f"{benchmark}: quality against cost")
    if len(part):
        figure.legend(title="protocol", fontsize=7, title_fontsize=8, loc="outside right upper")
    axes.grid(alpha=0.25)
    _place_labels(
        axes, [(row["fps"], row[metric], f"{short_name(row)} [{row['weights']}]") for row in part.to_dict("records")]
    )
    return figure


def _place_labels(axes: Axes, points: list[tuple[float, float, str]]) -> None:
    """Write a label beside each point where it covers no other label; the first free of twelve places."""
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]
    taken: list[Bbox] = []
    for x, y, text in sorted(points, key=lambda p: (p[1], p[0])):
        for step in range(12):
            side, row = (1, -1)[step % 2], (0.4, -1.2, 1.6, -2.4, 2.8, -3.6)[step // 2]
            label = axes.annotate(
                text, (x, y), xytext=(6 * side, 8 * row), textcoords="offset points", fontsize=7,
                ha="left" if side > 0 else "right",
                arrowprops={"arrowstyle": "-", "color": "0.7", "lw": 0.5} if abs(row) > 1.3 else None,
            )  # fmt: skip
            box = label.get_window_extent()
            if step == 11 or not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            label.remove()


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the suffix, without a date, and close it."""
    metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(path, dpi=130, metadata=metadata)
    plt.close(figure)


def sequence_frame(scores: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Entry id -> sequence -> fraction, as a frame in percent (rows entries, columns sequences)."""
    frame = pd.DataFrame.from_dict(scores, orient="index") * 100
    return frame.astype(np.float64)
