"""OTB-100, and data in its layout: boxes, scored by precision and success."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from corrbench.benchmarks.base import TRACK, Benchmark, present_files
from corrbench.datasets.davis import IMAGES
from corrbench.datasets.otb import open_otb, present_targets
from corrbench.errors import Refusal
from corrbench.images import Kind
from corrbench.metrics.columns import OVERLAP

if TYPE_CHECKING:
    from corrbench.datasets.doctor import Diagnosis


class OtbBenchmark(Benchmark):
    """``<Sequence>/img/`` and ``<Sequence>/groundtruth_rect*.txt``."""

    layout, label, metric = "otb", "boxes", OVERLAP
    stages = (TRACK,)

    def present(self, root: Path, names: Sequence[str]) -> list[str]:
        """Those whose folder is there."""
        return present_targets(root, names)

    def lies(self, root: Path) -> str:
        """The folders of the sequences."""
        return f"{root}/<sequence>"

    def paths(self, root: Path, name: str, kind: Kind) -> list[Path]:
        """The annotation file, and for a network the frames."""
        try:
            annotation = open_otb(root, self.row, [name]).annotation(name)
        except Refusal:
            return []  # the doctor says what is missing
        return [*(present_files(annotation.parent / "img", IMAGES) if kind == "inputs" else []), annotation]

    def diagnose(self, root: Path, sequences: Sequence[str], *, subset: bool, workers: int) -> Diagnosis:
        """As many frames as boxes, and as many as the row says."""
        from corrbench.datasets.doctor import diagnose_otb

        return diagnose_otb(open_otb(root, self.row, sequences), dict(self.row), subset=subset, workers=workers)
