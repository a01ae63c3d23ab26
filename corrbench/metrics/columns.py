"""What each metric reports: its columns in tables, what they are called elsewhere, and which of them decides.

The report loops over these; no other module names a column. Planning reads them, so nothing is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One figure of a metric, in percent."""

    name: str
    """In tables."""
    official: str | None
    """In the files of the evaluate stage, as the official tool calls it, a fraction; None where only a server knows it."""
    target: str = ""
    """Key in config/targets/; by default the name."""
    decides: bool = False
    """Whether it decides the verdict on a published row, alone or with others."""
    ranks: bool = False
    """Whether rows are ranked by it; where no column says so, by the first that decides."""
    part: bool = False
    """Whether the headline is the mean of this column and its like."""

    @property
    def key(self) -> str:
        """Key of a published number."""
        return self.target or self.name


@dataclass(frozen=True)
class Metric:
    """A metric as the report sees it."""

    name: str
    columns: tuple[Column, ...]
    program: str
    """The program in scripts/ that computes it."""
    note: str
    """A sentence below tables."""
    curves: bool = False
    """Whether its scores have curves over a threshold, which plots show."""

    @property
    def headline(self) -> Column:
        """The column by which rows are ranked."""
        return next((c for c in self.columns if c.ranks), next(c for c in self.columns if c.decides))

    @property
    def deciding(self) -> tuple[Column, ...]:
        """The columns that decide a verdict, the headline first."""
        return tuple(sorted((c for c in self.columns if c.decides), key=lambda c: c is not self.headline))

    @property
    def parts(self) -> tuple[Column, ...]:
        """What the headline is the mean of."""
        return tuple(c for c in self.columns if c.part)


JF = Metric(
    "J and F",
    (
        Column("J&F", "J&F-Mean", decides=True),
        Column("J-mean", "J-Mean", "J-Mean", part=True),
        Column("J-recall", "J-Recall", "J-Recall"),
        Column("J-decay", "J-Decay", "J-Decay"),
        Column("F-mean", "F-Mean", "F-Mean", part=True),
        Column("F-recall", "F-Recall", "F-Recall"),
        Column("F-decay", "F-Decay", "F-Decay"),
    ),
    "evaluate",
    "J&F, J and F are means over objects, in percent, as davis2017-evaluation computes them (first and last frame left out).",
)
OVERLAP = Metric(
    "precision and success",
    (Column("precision", "precision", decides=True), Column("success", "success", decides=True, ranks=True)),
    "evaluate_boxes",
    "Boxes: precision (center within 20 px) and success (mean of the overlap curve) as got10k's ExperimentOTB computes them.",
    curves=True,
)
SEEN = Metric(
    "J and F of seen and unseen classes",
    (
        Column("J&F", None, decides=True),
        *(Column(f"{letter}-{which}", None, part=True) for letter in "JF" for which in ("seen", "unseen")),
    ),
    "evaluate",
    "",
)
METRICS = (JF, OVERLAP, SEEN)


def all_columns() -> tuple[str, ...]:
    """Columns of all metrics, each once."""
    return tuple(dict.fromkeys(column.name for metric in METRICS for column in metric.columns))
