"""What a benchmark answers for itself: its split, its files, its check, its metric, and which rules measure it.

A benchmark is a row of config/benchmarks/ and a class for the layout of its data, one file each in this package. Planning
asks these objects, so their modules import neither torch nor OpenCV; what reads pictures is imported where it is used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from corrbench.errors import of_system
from corrbench.images import NOTHING_KNOWN, Kind, Known, Pixels
from corrbench.metrics.columns import Metric
from corrbench.reading import is_litter, natural

if TYPE_CHECKING:
    from corrbench.datasets.doctor import Diagnosis

PROPAGATE, SEGMENT, TRACK = "propagate", "segment", "track"
"""The stages that run a network: label propagation, mask propagation by an STM network, tracking."""


@dataclass(frozen=True)
class Video:
    """One video of masks: its frames, the masks that are given, and the frames whose masks are asked for."""

    name: str
    images: tuple[Path, ...]
    prompts: Mapping[int, Pixels]
    """Given masks ``[H, W]`` by the number of their frame: {0: ...} of DAVIS; objects may start later (YouTube-VOS)."""
    written: tuple[str, ...]
    """Names of the frames whose masks are written."""
    scored: tuple[str, ...]
    """Names of the frames that are scored."""
    known: Known = NOTHING_KNOWN

    @property
    def frames(self) -> tuple[str, ...]:
        """Names of all frames."""
        return tuple(path.stem for path in self.images)


class Benchmark(ABC):
    """A split and its scoring."""

    layout: ClassVar[str]
    """What `dataset:` of a row says."""
    label: ClassVar[str]
    """What is measured: ``masks`` or ``boxes``."""
    metric: ClassVar[Metric]
    stages: ClassVar[tuple[str, ...]]
    """The stages whose rules can measure it."""
    zip_folder: ClassVar[str] = ""
    """Folder of the sequences in the zip that an evaluation server takes."""
    stm_protocol: ClassVar[str | None] = None
    """The rules of an STM network here, where `own` means others than the method's."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.row = row

    @property
    def name(self) -> str:
        """Name of the row."""
        return str(self.row["name"])

    @property
    def scored_here(self) -> bool:
        """False where only an evaluation server has the annotations."""
        return bool(self.row["scoring"] != "server")

    @property
    def single_object(self) -> bool:
        """Whether everything above 0 counts as one object (DAVIS-2016)."""
        return bool(self.row["scoring"] == "single-object")

    def split(self, root: Path) -> list[str]:
        """The sequences of the whole split."""
        return list(self.row["sequences"])

    @property
    def size(self) -> int:
        """How many sequences the whole split has."""
        return len(self.row["sequences"])

    @abstractmethod
    def present(self, root: Path, names: Sequence[str]) -> list[str]:
        """Those of some sequences that are below the root."""

    @abstractmethod
    def lies(self, root: Path) -> str:
        """Where its sequences lie, for a message: ``/data/DAVIS/JPEGImages/480p/<sequence>``."""

    @abstractmethod
    def paths(self, root: Path, name: str, kind: Kind) -> list[Path]:
        """Files of a sequence that a network (`inputs`) or the metric (`annotations`) reads, as far as they are there."""

    def files(self, root: Path, sequences: Sequence[str], kind: Kind) -> dict[str, Path]:
        """The files of some sequences by their names below the root. Raises Refusal for a folder that cannot be read."""
        found = [path for name in sequences for path in self.paths(root, name, kind)]
        return {path.relative_to(root).as_posix(): path for path in found}

    def video(self, root: Path, name: str, record: Mapping[str, Any] | None = None) -> Video:
        """One video of masks; with the doctor's `record`, of the files that it saw."""
        raise NotImplementedError(f"{self.layout}: no masks")

    @abstractmethod
    def diagnose(self, root: Path, sequences: Sequence[str], *, subset: bool, workers: int) -> Diagnosis:
        """The doctor's look at the data below a root."""


def present_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """What of a folder counts, whatever is wrong with it: planning leaves that to the doctor."""
    if not folder.is_dir():
        return []
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and not is_litter(p.name)]
    except OSError as error:
        raise of_system(error, folder) from error
    return sorted(found, key=lambda p: natural(p.stem))
