"""corrbench from Python: score a model that is in memory, propagate masks through a video, list what there is.

The same engine, decoding and metric as the workflow's, so the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corrbench.errors import Refusal
from corrbench.metrics.columns import JF
from corrbench.reading import expand
from corrbench.rows import AllRows

if TYPE_CHECKING:  # listing rows must not wait for torch and pandas
    import pandas as pd
    import torch
    from torch import nn

    from corrbench.encoders.preprocess import Preprocess
    from corrbench.metrics.davis import ObjectScores
    from corrbench.propagation.protocol import Protocol

COLUMNS = {c.name: c.official for c in JF.columns if c.official is not None}
"""Names of the figures as tables have them, and as davis2017-evaluation has them."""


@dataclass(frozen=True)
class Result(Mapping[str, float]):
    """Scores of one model on one benchmark: ``result["J&F"]`` and the other columns of the table, in percent."""

    benchmark: str
    """Its name; a part of it says so: ``davis2016-val (8 of 20)``."""
    protocol: str
    protocol_hash: str
    objects: tuple[ObjectScores, ...]
    record: Mapping[str, Any] = field(repr=False)
    """How it was made: settings, device, versions of libraries and code."""

    def _figures(self) -> dict[str, float]:
        from corrbench.metrics.davis import global_scores

        total = global_scores(self.objects)
        return {name: 100 * total[official] for name, official in COLUMNS.items()}

    def __getitem__(self, name: str) -> float:
        return self._figures()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COLUMNS)

    def __len__(self) -> int:
        return len(COLUMNS)

    def __repr__(self) -> str:
        figures = ", ".join(f"{name} {value:.2f}" for name, value in self._figures().items())
        return f"<{self.benchmark}, protocol {self.protocol} ({self.protocol_hash}): {figures}>"

    @property
    def per_object(self) -> pd.DataFrame:
        """One row for each object: sequence, object, J and F (mean, recall, decay), in percent."""
        import pandas as pd

        from corrbench.metrics.davis import statistics

        rows = []
        for one in self.objects:
            j, f = statistics(one.region), statistics(one.contour)
            rows.append({
                "sequence": one.sequence, "object": one.number, "J&F": 50 * (j.mean + f.mean),
                **{f"{letter}-{name}": 100 * getattr(s, name) for letter, s in (("J", j), ("F", f)) for name in ("mean", "recall", "decay")},
            })  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def per_sequence(self) -> pd.DataFrame:
        """Means over the objects of each sequence, in percent."""
        return self.per_object.drop(columns="object").groupby("sequence", sort=False, as_index=False).mean()

    def save(self, folder: str | Path) -> Path:
        """Write the score files of the evaluate stage (global.csv, per_object.csv, per_frame.csv.gz, scores.json)."""
        from corrbench.metrics.scores import FILES, write_scores
        from corrbench.outputs import claim, refuse_replacing

        place = Path(expand(str(folder)))
        with claim(place):
            refuse_replacing(place, FILES, "scores.json", "metric")
            write_scores(place, list(self.objects), dict(self.record))
        return place


def evaluate(
    model: nn.Module,
    benchmark: str = "davis2017-val",
    *,
    root: str | Path,
    protocol: str = "crw",
    stride: int | None = None,
    color: str = "rgb",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    sequences: str | Sequence[str] | None = None,
    device: str | torch.device | None = None,
    masks: str | Path | None = None,
    rows: Sequence[str | Path] = (),
) -> Result:
    """Score a model on a benchmark of masks (DAVIS-2016, DAVIS-2017, or a row of yours like them).

    model: maps images ``[B, 3, H, W]`` to features ``[B, C, h, w]``. Images are RGB with ImageNet's normalization, or with
    the `mean` and `std` that you give (on 0..1); `color="lab"`: Lab as MAST and LIIR read it. The model is put into eval mode meanwhile and left as it was, so this works inside a training loop.
    root: the data set's folder (``JPEGImages/``, ``Annotations/``, ``ImageSets/``). protocol: a row of config/protocols/.
    stride: pixels of a cell; by default found from the first image. sequences: some of the split, or ``"present"`` for those
    that are there; the result's name then says so. device: where to run; by default where the model is. masks: a folder to
    write the masks to, as ``<sequence>/<frame>.png``. rows: folders with rows of your own.

    Raises `corrbench.Refusal` for a model whose output is no feature map of the image, and for data that are not as they
    should be.
    """
    import torch

    from corrbench.benchmarks.base import PROPAGATE
    from corrbench.benchmarks.registry import benchmark_of
    from corrbench.datasets.benchmark import benchmark_settings, measured_sequences
    from corrbench.datasets.davis import open_davis
    from corrbench.encoders.user import UserEncoder, borrowed
    from corrbench.metrics.davis import score_sequence
    from corrbench.progress import Progress
    from corrbench.propagation.masks import masks_of
    from corrbench.provenance import device_name, libraries

    found, rules = AllRows([Path(r) for r in rows]), _rules(protocol, rows)
    row = found.benchmarks.get(benchmark, "benchmark")
    about = benchmark_of(row)
    if PROPAGATE not in about.stages or not about.scored_here:
        raise Refusal(
            f"benchmark {benchmark}: no benchmark of masks with public annotations",
            expected="davis2016-val, davis2017-val, synthetic-val, or a row of yours like them",
            do="use the workflow for the others (corrbench run)",
        )
    place = Path(expand(str(root)))
    subset = sequences if sequences is None or sequences == "present" else list(sequences)
    settings = benchmark_settings(row, measured_sequences(row, subset, place))  # type: ignore[arg-type]
    davis = open_davis(place, row, settings["sequences"])
    single = about.single_object
    encoder = UserEncoder(model, _preprocess(color, mean, std), stride)
    scores: list[ObjectScores] = []
    videos = [davis.sequence(name) for name in davis.sequences]
    with (
        borrowed(encoder, None if device is None else torch.device(device)) as there,
        Progress("evaluate", sum(len(v.images) for v in videos), unit="frame") as bar,
    ):
        for video in videos:
            guesses = []
            for mask in masks_of(encoder, video, rules, there, single_object=single):
                guesses.append(mask)
                bar.advance(note=video.name)
            if masks is not None:
                _save_masks(Path(expand(str(masks))) / video.name, video.frames, guesses)
            scores += score_sequence(video, guesses, single_object=single)
        where = device_name(there)
    record = {
        "benchmark": row["name"], "label": settings["label"], "sequences": settings["sequences"], "model": type(model).__name__,
        "protocol": {"name": rules.name, "hash": rules.hash, "settings": rules.settings()}, "stride": encoder.stride,
        "preprocess": asdict(encoder.preprocess),
        "device": where, "libraries": libraries(),
    }  # fmt: skip
    return Result(settings["label"], rules.name, rules.hash, tuple(scores), record)


def propagate(
    model: nn.Module,
    frames: str | Path | Sequence[Any],
    first_mask: str | Path | NDArray[Any],
    *,
    protocol: str = "crw",
    stride: int | None = None,
    color: str = "rgb",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str | torch.device | None = None,
    rows: Sequence[str | Path] = (),
) -> list[NDArray[np.uint8]]:
    """Propagate the mask of the first frame through a video; a mask ``[H, W]`` of object ids for every frame.

    frames: a folder of images, paths, or ``[H, W, 3]`` uint8 RGB arrays. first_mask: a PNG of ids, or an array of them. The
    others are as for `evaluate`.
    """
    import torch

    from corrbench.encoders.user import UserEncoder, borrowed
    from corrbench.propagation.clip import clip_of
    from corrbench.propagation.masks import masks_of

    rules, clip, encoder = (
        _rules(protocol, rows),
        clip_of(frames, first_mask),
        UserEncoder(model, _preprocess(color, mean, std), stride),
    )
    with borrowed(encoder, None if device is None else torch.device(device)) as there:
        return list(masks_of(encoder, clip, rules, there))


def _rules(name: str, rows: Sequence[str | Path]) -> Protocol:
    from corrbench.propagation.protocol import Protocol

    rules = Protocol.from_row(AllRows([Path(r) for r in rows]).protocols.get(name, "protocol"))
    if rules.copy:
        raise Refusal(
            f"protocol {name}, which uses no network", expected="a protocol of encoders", do="name another one"
        )
    return rules


def _preprocess(color: str, mean: Sequence[float] | None, std: Sequence[float] | None) -> Preprocess:
    from corrbench.encoders.preprocess import Preprocess

    if color not in ("rgb", "lab", "luminance"):
        raise Refusal(f"color {color!r}", expected="rgb, lab or luminance", do="correct it")
    own = Preprocess.of_color(color)
    found = {"mean": own.mean if mean is None else tuple(map(float, mean)), "std": own.std if std is None else tuple(map(float, std))}  # fmt: skip
    for name, values in found.items():
        if len(values) != 3 or (name == "std" and min(values) <= 0):
            raise Refusal(f"{name}: {list(values)}", expected="three numbers, and a std above 0", do="correct it")
    return replace(own, **found)  # type: ignore[arg-type]


def _save_masks(folder: Path, names: Sequence[str], masks: Sequence[NDArray[np.uint8]]) -> None:
    from corrbench.datasets.palette import save_mask
    from corrbench.outputs import made_folder

    with made_folder(folder, "masks") as temporary:
        for name, mask in zip(names, masks, strict=True):
            save_mask(temporary / f"{name}.png", mask)


def rows_of(kind: str, rows: Sequence[str | Path] = ()) -> dict[str, str]:
    """The rows of one kind by name (methods, protocols, benchmarks, recipes, ...), each with what tables call it."""
    found = getattr(AllRows([Path(expand(str(r))) for r in rows]), kind)
    return {name: _title(found.get(name, kind)) for name in found}


def _title(row: Mapping[str, Any]) -> str:
    if "title" in row:
        return str(row["title"])
    if "backbone" in row:
        return f"{row['method']}, {row['backbone']}"
    return str(row.get("method") or row.get("kind") or "")


def list_methods(rows: Sequence[str | Path] = ()) -> list[str]:
    """Names of the methods: networks with their weights."""
    return list(rows_of("methods", rows))


def list_protocols(rows: Sequence[str | Path] = ()) -> list[str]:
    """Names of the protocols of label propagation."""
    return list(rows_of("protocols", rows))


def list_benchmarks(rows: Sequence[str | Path] = ()) -> list[str]:
    """Names of the benchmarks."""
    return list(rows_of("benchmarks", rows))
