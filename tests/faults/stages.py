"""The stages of the tiny world as the workflow starts them: program and arguments, with paths below the current folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from corrbench.benchmarks.registry import benchmark_of
from corrbench.config import Config
from corrbench.files import canonical_json
from corrbench.images import Kind
from corrbench.workflow import Notes

VIDEO, BOXES = "fault-video", "fault-boxes"
"""The benchmarks of masks and of boxes."""
MAIN, OTHER, COPY, STAY = (
    "random-r18.random.crw",
    "random-r18.random1.crw",
    "identity.none.identity",
    "identity.none.stay",
)
"""The entries: two networks and the copied mask on the benchmark of masks, the resting box on that of boxes."""
RUN = "results/pretrain/fault-crw/smoke"
"""The folder of the pretraining run."""


class Stage(NamedTuple):
    """A program and what gives its arguments, called in a folder of results."""

    program: str
    arguments: Callable[[Config], Sequence[object]]


def _doctor(benchmark: str, kind: Kind) -> Stage:
    def arguments(config: Config) -> Sequence[object]:
        row = config.rows.benchmarks.get(benchmark, "faults")
        root = config.data_root(row)
        version = Notes(config.results / ".versions").version(
            benchmark_of(row).files(root, config.sequences(row), kind)
        )
        settings = canonical_json(config.benchmark_settings(row))
        return ["--settings", settings, "--root", root, "--kind", kind, f"--version={version}", "--workers", 1,
                "--out", f"results/{benchmark}/data/{kind}.json"]  # fmt: skip

    return Stage("doctor", arguments)


def _convert(seed: int, source: str) -> Stage:
    return Stage("convert", lambda config: ["--method", "random-r18", "--seed", seed, "--out", f"results/weights/random-r18/{source}/weights.pt"])  # fmt: skip


def _propagate(entry: str) -> Stage:
    def arguments(config: Config) -> Sequence[object]:
        found, folder = config.entry(VIDEO, entry), f"results/{VIDEO}/{entry}"
        weights = [f"results/weights/{w.path}/weights.pt" for w in found.weights]
        return ["--entry", entry, "--settings", canonical_json(found.propagate_settings()), "--weights", *weights,
                "--data", f"results/{VIDEO}/data/inputs.json", "--root", "data/davis", "--labels", f"{folder}/labels",
                "--out", f"{folder}/propagation.json", "--device", "cpu", "--threads", 1]  # fmt: skip

    return Stage("propagate", arguments)


def _postprocess(entry: str) -> Stage:
    folder = f"results/{VIDEO}/{entry}"
    return Stage("postprocess", lambda config: [
        "--propagation", f"{folder}/propagation.json", "--labels", f"{folder}/labels", "--out", f"{folder}/masks",
        "--settings", canonical_json(config.entry(VIDEO, entry).postprocess_settings()),
    ])  # fmt: skip


def _evaluate(entry: str) -> Stage:
    folder = f"results/{VIDEO}/{entry}"
    return Stage("evaluate", lambda config: [
        "--data", f"results/{VIDEO}/data/annotations.json", "--root", "data/davis", "--masks", f"{folder}/masks",
        "--propagation", f"{folder}/propagation.json", "--out", f"{folder}/scores", "--workers", 1,
    ])  # fmt: skip


def _overlays(entry: str) -> Stage:
    folder = f"results/{VIDEO}/{entry}"
    return Stage("overlays", lambda config: [
        "--data", f"results/{VIDEO}/data/annotations.json", "--root", "data/davis", "--masks", f"{folder}/masks",
        "--title", entry, "--out", f"{folder}/overlay.png",
    ])  # fmt: skip


def _submission(entry: str) -> Stage:
    folder = f"results/{VIDEO}/{entry}"
    return Stage("submission", lambda config: [
        "--masks", f"{folder}/masks", "--propagation", f"{folder}/propagation.json",
        "--data", f"results/{VIDEO}/data/inputs.json", "--out", f"{folder}/submission.zip",
    ])  # fmt: skip


def _track(config: Config) -> Sequence[object]:
    folder, probe = f"results/{BOXES}/{STAY}", config.entry(BOXES, STAY).probe
    assert probe is not None
    return ["--entry", STAY, "--settings", canonical_json(probe.track_settings()), "--root", "data/otb",
            "--data", f"results/{BOXES}/data/inputs.json", "--boxes", f"{folder}/boxes", "--device", "cpu",
            "--out", f"{folder}/tracking.json", "--workers", 1]  # fmt: skip


def _evaluate_boxes(config: Config) -> Sequence[object]:
    folder = f"results/{BOXES}/{STAY}"
    return ["--data", f"results/{BOXES}/data/annotations.json", "--root", "data/otb", "--boxes", f"{folder}/boxes",
            "--entry", STAY, "--tracking", f"{folder}/tracking.json", "--out", f"{folder}/scores"]  # fmt: skip


def _overlays_boxes(config: Config) -> Sequence[object]:
    folder = f"results/{BOXES}/{STAY}"
    return ["--data", f"results/{BOXES}/data/annotations.json", "--root", "data/otb", "--boxes", f"{folder}/boxes",
            "--tracking", f"{folder}/tracking.json", "--scores", f"{folder}/scores/scores.json", "--title", STAY,
            "--out", f"{folder}/overlay.png", f"{folder}/curves.png"]  # fmt: skip


def _table(config: Config) -> Sequence[object]:
    return ["--config", canonical_json(config.values), "--csv", "results/table.csv", "--markdown", "results/table.md",
            "--provenance", "results/provenance.json"]  # fmt: skip


def _plots(benchmark: str) -> Stage:
    return Stage("plots", lambda config: [
        "--config", canonical_json(config.values), "--table", "results/table.csv", "--benchmark", benchmark,
        "--out", f"results/plots/{benchmark}",
    ])  # fmt: skip


def _report(config: Config) -> Sequence[object]:
    return ["--config", canonical_json(config.values), "--table", "results/table.csv", "--paper", "results/paper",
            "--page", "results/report.html"]  # fmt: skip


def _pretrain(config: Config) -> Sequence[object]:
    recipe = config.training.recipe("fault-crw", "smoke")
    return ["--settings", canonical_json(recipe.settings()), "--seed", 0, "--data", "results/frames/index.csv",
            "--root", "results/frames", "--out", RUN, "--device", "cpu", "--threads", 1, "--save-steps", 1]  # fmt: skip


STAGES: Mapping[str, Stage] = {
    "doctor inputs": _doctor(VIDEO, "inputs"),
    "doctor annotations": _doctor(VIDEO, "annotations"),
    "doctor box inputs": _doctor(BOXES, "inputs"),
    "doctor box annotations": _doctor(BOXES, "annotations"),
    "convert": _convert(0, "random"),
    "convert other": _convert(1, "random1"),
    "propagate": _propagate(MAIN),
    "propagate other": _propagate(OTHER),
    "propagate copy": _propagate(COPY),
    "postprocess": _postprocess(MAIN),
    "postprocess other": _postprocess(OTHER),
    "postprocess copy": _postprocess(COPY),
    "evaluate": _evaluate(MAIN),
    "evaluate other": _evaluate(OTHER),
    "evaluate copy": _evaluate(COPY),
    "overlays": _overlays(MAIN),
    "submission": _submission(MAIN),
    "track": Stage("track", _track),
    "evaluate boxes": Stage("evaluate_boxes", _evaluate_boxes),
    "table": Stage("table", _table),
    "table of file": Stage("table", lambda config: ["--config", "config.yaml", *_table(config)[2:]]),
    "overlays boxes": Stage("overlays_boxes", _overlays_boxes),
    "plots": _plots(VIDEO),
    "plots boxes": _plots(BOXES),
    "report": Stage("report", _report),
    "explain": Stage("explain", lambda config: [MAIN, "--results", "results"]),
    "pretrain": Stage("pretrain", _pretrain),
    "convert trained": Stage("convert", lambda config: [
        "--method", "fault-crw", "--rows", "rows", "--checkpoint", f"{RUN}/checkpoint.pth",
        "--out", "results/weights/fault-crw/smoke/weights.pt",
    ]),
}  # fmt: skip
"""All stages by name."""
MASK_STAGES = tuple(
    f"{stage}{which}" for which in ("", " other", " copy") for stage in ("propagate", "postprocess", "evaluate")
)
SCORE_STAGES = (
    "doctor inputs", "doctor annotations", "doctor box inputs", "doctor box annotations", "convert", "convert other",
    *MASK_STAGES, "overlays", "submission", "track", "evaluate boxes", "overlays boxes", "table",
    "plots", "plots boxes", "report",
)  # fmt: skip
"""Everything that the clean world is made by, in order."""
TRAINING_STAGES = ("pretrain", "convert trained")
