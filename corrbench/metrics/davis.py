"""J and F exactly as davis2017-evaluation computes them, faster, and with refusals where it is silent.

The rules (davisvideochallenge/davis2017-evaluation, davis2017/{metrics,evaluation,utils}.py):

- The first and the last annotated frame of a sequence are not scored.
- Objects are the ids 1 .. largest id of the first annotation; ids that appear later are background.
- 255 in an annotation is background (2017). In the 2016 single-object variant everything above 0 is the object.
- J is intersection over union; both empty gives 1. F matches boundaries within 0.008 of the image diagonal.
- Mean, recall (share of frames above 0.5) and decay (first quarter minus last quarter) are taken over the frames of an
  object, then averaged over all objects of all sequences with equal weight. J&F is the mean of the two means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Sized
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from corrbench.datasets.davis import Davis, Sequence, is_soft
from corrbench.errors import Refusal, few
from corrbench.images import NOTHING_KNOWN, VOID, Known, Pixels, read_ids
from corrbench.parallel import parallel_map
from corrbench.progress import Progress
from corrbench.reading import list_files, what_lies_in

METRIC = "davis2017-evaluation semi-supervised, corrbench implementation 1"
BOUND = 0.008
Values = NDArray[np.float64]


def tolerance(height: int, width: int) -> int:
    """Boundary tolerance in pixels: ``ceil(0.008 * diagonal)``; 8 at 480x854."""
    return math.ceil(BOUND * np.linalg.norm((height, width)))


def boundary(mask: Pixels) -> Pixels:
    """Boundary map of a 0/1 mask ``[H, W]``: pixels that differ from their east, south or south-east neighbor.

    The last row looks east only, the last column south only, the last pixel is 0 (davis2017/metrics.py ``_seg2bmap``).
    """
    edge = np.zeros_like(mask)
    if not mask.size:
        return edge
    inner = mask[:-1, :-1]
    edge[:-1, :-1] = (inner ^ mask[:-1, 1:]) | (inner ^ mask[1:, :-1]) | (inner ^ mask[1:, 1:])
    edge[-1, :-1] = mask[-1, :-1] ^ mask[-1, 1:]
    edge[:-1, -1] = mask[:-1, -1] ^ mask[1:, -1]
    return edge


def region(truth: Pixels, guess: Pixels) -> float:
    """J of two 0/1 masks."""
    union = int(np.count_nonzero(truth | guess))
    return 1.0 if union == 0 else int(np.count_nonzero(truth & guess)) / union


def contour(truth: Pixels, guess: Pixels, radius: int) -> float:
    """F of two 0/1 masks, boundaries matched within `radius` pixels.

    Only the rectangle that holds both masks is looked at (one pixel more on every side, where the image has it): every
    boundary pixel of either lies in it.
    """
    x, y, width, height = cv2.boundingRect(truth | guess)
    if width == 0:
        return 1.0
    window = (slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1))
    truth_edge, guess_edge = boundary(truth[window]), boundary(guess[window])
    truth_count, guess_count = int(np.count_nonzero(truth_edge)), int(np.count_nonzero(guess_edge))
    if guess_count == 0 and truth_count > 0:
        precision, recall = 1.0, 0.0
    elif guess_count > 0 and truth_count == 0:
        precision, recall = 0.0, 1.0
    elif guess_count == 0 and truth_count == 0:
        precision, recall = 1.0, 1.0
    else:
        precision = _near(guess_edge, truth_edge, radius) / guess_count
        recall = _near(truth_edge, guess_edge, radius) / truth_count
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


@lru_cache
def disk(radius: int) -> Pixels:
    """All offsets within `radius`: a 0/1 square of side ``2 radius + 1``."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (y**2 + x**2 <= radius**2).astype(np.uint8)


def _near(edge: Pixels, other: Pixels, radius: int) -> int:
    """How many pixels of `edge` have a pixel of `other` within `radius`."""
    return int(np.count_nonzero(cv2.bitwise_and(cv2.dilate(other, disk(radius)), edge)))


def frame_scores(truth: Pixels, guess: Pixels, objects: int) -> tuple[list[float], list[float]]:
    """J and F of objects 1 .. `objects` in one frame of ids ``[H, W]``."""
    radius = tolerance(*truth.shape)
    regions, contours = [], []
    for i in range(1, objects + 1):
        one, other = (truth == i).view(np.uint8), (guess == i).view(np.uint8)
        regions.append(region(one, other))
        contours.append(contour(one, other, radius))
    return regions, contours


@dataclass(frozen=True)
class Statistics:
    """Mean, recall and decay over the frames of one object."""

    mean: float
    recall: float
    decay: float


def statistics(values: Values) -> Statistics:
    """Mean, share above 0.5, and first-quarter mean minus last-quarter mean (davis2017/utils.py ``db_statistics``).

    The quarters share their border frames. The reference casts the borders to uint8, which breaks from 256 frames on;
    here they are integers, so only such long videos differ.
    """
    borders = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(np.int64)
    first, last = values[borders[0] : borders[1] + 1], values[borders[3] : borders[4] + 1]
    return Statistics(float(np.mean(values)), float(np.mean(values > 0.5)), float(np.mean(first) - np.mean(last)))


@dataclass(frozen=True)
class ObjectScores:
    """Per-frame J and F of one object over the scored frames."""

    sequence: str
    number: int
    frames: tuple[str, ...]
    region: Values
    contour: Values


def evaluate(
    davis: Davis, masks: Path, *, single_object: bool = False, workers: int = 1, made: Known = NOTHING_KNOWN
) -> list[ObjectScores]:
    """Score ``masks/<sequence>/<frame>.png`` against the annotations, one process per core.

    `made`: the masks that the postprocess or segment stage noted; other files are refused. Raises Refusal when a scored frame has no mask, a mask belongs to no frame, has another size, is not one channel of
    ids, or shows an id that the first annotation does not have, and for a sequence of fewer than three frames. Nothing is
    scored then.
    """
    arguments = [(davis, name, masks, single_object, made) for name in davis.sequences]
    if not masks.is_dir():
        raise Refusal(f"{masks}: no such folder", expected="masks as <sequence>/<frame>.png", do="correct the path")
    missing = [name for name in davis.sequences if not (masks / name).is_dir()]
    if missing:
        raise Refusal(
            f"{masks}: no masks for {few(missing)}; it holds {what_lies_in(masks)}",
            expected="a folder for every sequence, <sequence>/<frame>.png",
            do=_where_masks_are(masks, missing[0]),
        )
    results: list[ObjectScores] = []
    total = len(arguments)
    with Progress("evaluate", total, unit="sequence") as bar:
        for scores in parallel_map(_evaluate_sequence, arguments, workers):
            results.extend(scores)
            bar.advance(note=scores[0].sequence)
    return results


def _where_masks_are(masks: Path, name: str) -> str:
    """What to do about masks that are not below `masks` by their sequence."""
    deeper = sorted(p.parent for p in masks.glob(f"*/{name}") if p.is_dir()) or sorted(
        p.parent for p in masks.glob(f"*/*/{name}") if p.is_dir()
    )
    if deeper:
        return f"name the folder that holds the sequences: {deeper[0]}"
    if any(p.suffix.lower() == ".png" for p in masks.iterdir()):
        return "put the masks of each sequence into a folder of its name"
    return "add them; --subset scores what lies below --root, so a root (of links, say) with these sequences alone scores a part"


def _evaluate_sequence(arguments: tuple[Davis, str, Path, bool, Known]) -> list[ObjectScores]:
    davis, name, masks, single_object, made = arguments
    cv2.setNumThreads(1)  # one process per core
    sequence = davis.sequence(name)
    check_length(sequence)
    files = list_files(masks / name, (".png",))
    made.check_names(masks / name, [p.name for p in files], "annotations")
    found = {path.stem: path for path in files}
    scored = sequence.annotations[1:-1]
    lacking = [path.stem for path in scored if path.stem not in found]
    stray = [stem for stem in found if stem not in {path.stem for path in sequence.annotations}]
    if lacking:
        raise Refusal(
            f"{masks / name}: no mask for frame(s) {few(lacking)}; it holds {what_lies_in(masks / name)}",
            expected=f"a mask for each of {len(scored)} scored frames, named as the annotations: {scored[0].name}, ...",
            do="rename the masks as the annotations are named" if stray else "add the missing masks",
        )
    if stray:
        raise Refusal(
            f"{masks / name}: mask(s) {few(stray)} belong to no annotated frame",
            expected=f"frame names of the annotations: {sequence.annotations[0].name} to {sequence.annotations[-1].name}",
            do="remove masks of frames that are not annotated; masks numbered from another first frame must be renamed",
        )

    def guess(f: int) -> Pixels:
        return read_prediction(found[scored[f].stem], single_object=single_object, made=made)

    return _scores(sequence, scored, guess, [str(found[path.stem]) for path in scored], single_object=single_object)


def score_sequence(sequence: Sequence, masks: Sized[Pixels], *, single_object: bool = False) -> list[ObjectScores]:
    """J and F of masks in memory, one ``[H, W]`` of ids for each frame of a sequence. Raises Refusal as `evaluate`."""
    check_length(sequence)
    scored = sequence.annotations[1:-1]
    places = [f"the mask of frame {path.stem}" for path in scored]
    return _scores(sequence, scored, lambda f: masks[f + 1], places, single_object=single_object)


def check_length(sequence: Sequence) -> None:
    """Raise Refusal for a sequence of which no frame is scored."""
    if len(sequence.annotations) < 3:
        raise Refusal(
            f"{sequence.name}: {len(sequence.annotations)} annotated frames",
            expected="at least 3: the first and the last are not scored",
            do="leave the sequence out (`subsets` in a config, or a benchmark row without it)",
        )


def _scores(
    sequence: Sequence, scored: Sized[Path], guess: Callable[[int], Pixels], places: Sized[str], *, single_object: bool
) -> list[ObjectScores]:
    """J and F of every object in the scored frames. `guess` gives the mask of each; `places` say in refusals which it is."""
    name = sequence.name
    objects = int(sequence.first_annotation(single_object=single_object).max())
    if objects == 0:
        raise Refusal(
            f"{name}: the first annotation has no object",
            expected="at least one id above 0",
            do="check the data set with python -m scripts.doctor",
        )
    values = np.empty((2, objects, len(scored)))
    for f in range(len(scored)):
        truth, ids = sequence.annotation(f + 1, single_object=single_object), guess(f)
        if ids.shape != truth.shape:
            raise Refusal(
                f"{places[f]}: {ids.shape[1]}x{ids.shape[0]} pixels",
                expected=f"{truth.shape[1]}x{truth.shape[0]} as the annotation",
                do="write masks at annotation size",
            )
        if ids.max() > objects:
            raise Refusal(
                f"{places[f]}: object id {ids.max()}",
                expected=f"ids up to {objects}, the largest of the first annotation",
                do="remove ids that the first annotation does not have (255 is not ignored in predictions)",
            )
        values[0, :, f], values[1, :, f] = frame_scores(truth, ids, objects)
    names = tuple(path.stem for path in scored)
    return [ObjectScores(name, i + 1, names, values[0, i], values[1, i]) for i in range(objects)]


def read_prediction(path: Path, *, single_object: bool = False, made: Known = NOTHING_KNOWN) -> Pixels:
    """``[H, W]`` ids of a predicted mask. Raises Refusal for 255, as void exists in annotations only, and for soft masks of one object."""
    ids = read_ids(path, made)
    if single_object:
        if is_soft(ids, single_object=True):
            raise Refusal(
                f"{path}: {len(np.unique(ids))} values from 0 to {ids.max()}",
                expected="0 and one other value, or ids of objects, which count as one",
                do="threshold the masks: what is above 0 would all count as the object",
            )
        return (ids != 0).astype(np.uint8)
    if (ids == VOID).any():
        raise Refusal(
            f"{path}: object id 255 (void)",
            expected="ids of objects; void exists in annotations only",
            do="save background as 0; masks of 0/255 belong to a single-object benchmark",
        )
    return ids


GLOBAL_COLUMNS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
"""Column names of the official global results file."""


def global_scores(scores: Iterable[ObjectScores]) -> dict[str, float]:
    """The official global row: unweighted means over all objects, as fractions."""
    j, f = [], []
    for one in scores:
        j.append(statistics(one.region))
        f.append(statistics(one.contour))
    mean_j, mean_f = np.mean([s.mean for s in j]), np.mean([s.mean for s in f])
    row = (
        (mean_j + mean_f) / 2.0,
        mean_j, np.mean([s.recall for s in j]), np.mean([s.decay for s in j]),
        mean_f, np.mean([s.recall for s in f]), np.mean([s.decay for s in f]),
    )  # fmt: skip
    return {name: float(value) for name, value in zip(GLOBAL_COLUMNS, row, strict=True)}
