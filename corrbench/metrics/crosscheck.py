"""Run the official davis2017-evaluation on the same masks and refuse any difference."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import tempfile
from pathlib import Path

import numpy as np

from corrbench.datasets.davis import Davis
from corrbench.datasets.palette import save_mask
from corrbench.errors import Refusal
from corrbench.metrics.davis import GLOBAL_COLUMNS, ObjectScores, global_scores, read_prediction, statistics


def check_installed() -> None:
    """Raise Refusal when the official package is missing."""
    if importlib.util.find_spec("davis2017") is None:
        raise Refusal(
            "the package davis2017-evaluation is not installed",
            expected="an importable module davis2017",
            do="pip install git+https://github.com/davisvideochallenge/davis2017-evaluation, or leave --cross-check out",
        )


def cross_check(davis: Davis, masks: Path, scores: list[ObjectScores], *, single_object: bool) -> str:
    """Compare with the official package digit by digit (all 15 of them); returns a line that says what was compared.

    The official code reads an official folder and has no 2016 mode, so annotations and masks are copied as ids into a
    temporary one. Raises Refusal when the package is missing or any figure differs by more than 1e-12.
    """
    check_installed()
    from davis2017.evaluation import DAVISEvaluation  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as scratch:
        root, results = Path(scratch) / "DAVIS", Path(scratch) / "masks"
        (root / "ImageSets" / "2017").mkdir(parents=True)
        (root / "ImageSets" / "2017" / "val.txt").write_text("\n".join(davis.sequences) + "\n")
        for name in davis.sequences:
            sequence = davis.sequence(name)
            truth, images, guess = (
                root / "Annotations" / "480p" / name,
                root / "JPEGImages" / "480p" / name,
                results / name,
            )
            for folder in (truth, images, guess):
                folder.mkdir(parents=True)
            for t, (image, annotation) in enumerate(zip(sequence.images, sequence.annotations, strict=True)):
                os.symlink(image.resolve(), images / image.name)
                save_mask(truth / annotation.name, sequence.annotation(t, single_object=single_object))
                mask = masks / name / annotation.name
                if mask.exists():
                    save_mask(guess / mask.name, read_prediction(mask, single_object=single_object))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            official = DAVISEvaluation(str(root), "semi-supervised", "val").evaluate(str(results))
    ours = global_scores(scores)
    j, f = official["J"], official["F"]
    mean_j, mean_f = np.mean(j["M"]), np.mean(f["M"])
    theirs = dict(zip(GLOBAL_COLUMNS, (
        (mean_j + mean_f) / 2.0, mean_j, np.mean(j["R"]), np.mean(j["D"]), mean_f, np.mean(f["R"]), np.mean(f["D"]),
    ), strict=True))  # fmt: skip
    differences = [f"{key}: {ours[key]!r} here, {float(theirs[key])!r} there" for key in GLOBAL_COLUMNS
                   if not abs(ours[key] - theirs[key]) <= 1e-12]  # fmt: skip
    for one in scores:
        key = f"{one.sequence}_{one.number}"
        for measure, values in (("J", one.region), ("F", one.contour)):
            there = official[measure]["M_per_object"][key]
            if not abs(statistics(values).mean - there) <= 1e-12:
                differences.append(f"{measure}-Mean of {key}: {statistics(values).mean!r} here, {there!r} there")
    if differences:
        raise Refusal(
            "davis2017-evaluation gives other numbers:\n    " + "\n    ".join(differences),
            expected="the same numbers",
            do="report this with the masks; do not publish either number",
        )
    return f"davis2017-evaluation agrees: {len(GLOBAL_COLUMNS)} global figures and J and F of {len(scores)} objects"
