"""DAVIS-2016 and DAVIS-2017, and data in their layout: masks, scored by J and F or packed for the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corrbench.benchmarks.base import PROPAGATE, SEGMENT, Benchmark, Video, present_files
from corrbench.datasets.davis import IMAGES, MASKS, open_davis
from corrbench.images import Kind
from corrbench.metrics.columns import JF

if TYPE_CHECKING:
    from corrbench.datasets.doctor import Diagnosis


class DavisBenchmark(Benchmark):
    """``JPEGImages/<resolution>/<sequence>/`` and ``Annotations/<resolution>/<sequence>/``."""

    layout, label, metric = "davis", "masks", JF
    stages = (PROPAGATE, SEGMENT)

    def _images(self, root: Path) -> Path:
        return root / "JPEGImages" / str(self.row["resolution"])

    def present(self, root: Path, names: Sequence[str]) -> list[str]:
        """Those whose frames are there."""
        return [name for name in names if (self._images(root) / name).is_dir()]

    def lies(self, root: Path) -> str:
        """The folder of frames."""
        return f"{self._images(root)}/<sequence>"

    def paths(self, root: Path, name: str, kind: Kind) -> list[Path]:
        """Inputs: frames and the first annotation."""
        annotations = present_files(root / "Annotations" / str(self.row["resolution"]) / name, MASKS)
        return annotations if kind == "annotations" else [*present_files(self._images(root) / name, IMAGES), *annotations[:1]]  # fmt: skip

    def video(self, root: Path, name: str, record: Mapping[str, Any] | None = None) -> Video:
        """The first annotation is given; the first and the last frame are not scored here, a server wants all."""
        sequence = open_davis(root, self.row, [name], record).sequence(name)
        frames = tuple(sequence.frames)
        scored = frames[1:-1] if self.scored_here else frames
        prompts = {0: sequence.first_annotation(single_object=self.single_object)}
        return Video(name, sequence.images, prompts, frames, scored, sequence.known)

    def diagnose(self, root: Path, sequences: Sequence[str], *, subset: bool, workers: int) -> Diagnosis:
        """Frames in step with annotations, decodable, of one size, objects in frame 0."""
        from corrbench.datasets.doctor import diagnose

        davis = open_davis(root, self.row, sequences)
        return diagnose(davis, dict(self.row), subset=subset, workers=workers)
