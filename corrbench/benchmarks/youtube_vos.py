"""The validation parts of YouTube-VOS: masks whose objects start in different frames, packed for the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corrbench.benchmarks.base import SEGMENT, Benchmark, Video, present_files
from corrbench.datasets.davis import IMAGES, MASKS, read_annotation
from corrbench.datasets.youtube_vos import ANNOTATIONS, SCORED, frames_below, listed_videos, open_youtube_vos
from corrbench.images import Kind
from corrbench.metrics.columns import SEEN

if TYPE_CHECKING:
    from corrbench.datasets.doctor import Diagnosis


class YoutubeVosBenchmark(Benchmark):
    """``valid/Annotations/``, ``valid/JPEGImages/`` and all frames beside them; the data root lists the split."""

    layout, label, metric = "youtube-vos", "masks", SEEN
    stages = (SEGMENT,)
    zip_folder = "Annotations/"
    stm_protocol = "mivos-ytvos"

    def split(self, root: Path) -> list[str]:
        """The annotated videos below the root."""
        return listed_videos(root)

    @property
    def size(self) -> int:
        """Videos of the official split."""
        return int(self.row["videos"])

    def present(self, root: Path, names: Sequence[str]) -> list[str]:
        """All that the root lists."""
        return list(names)

    def lies(self, root: Path) -> str:
        """The folder of annotations."""
        return f"{root / ANNOTATIONS}/<sequence>"

    def paths(self, root: Path, name: str, kind: Kind) -> list[Path]:
        """All frames, the annotations, and the frames that the server scores."""
        folders = ((frames_below(root), IMAGES), (ANNOTATIONS, MASKS), (SCORED, IMAGES))
        return [path for folder, suffixes in folders for path in present_files(root / folder / name, suffixes)]

    def video(self, root: Path, name: str, record: Mapping[str, Any] | None = None) -> Video:
        """Objects are given where they start; the server scores some of the frames, and only these are written."""
        found = open_youtube_vos(root, self.row, [name], record).video(name)
        scored = tuple(path.stem for path in found.images if path.stem in found.scored)
        prompts = {t: read_annotation(path, known=found.known) for t, path in found.annotations.items()}
        return Video(name, found.images, prompts, scored, scored, found.known)

    def diagnose(self, root: Path, sequences: Sequence[str], *, subset: bool, workers: int) -> Diagnosis:
        """Annotations and scored frames are frames of their videos."""
        from corrbench.datasets.doctor import diagnose_youtube_vos

        return diagnose_youtube_vos(open_youtube_vos(root, self.row, sequences), workers=workers)
