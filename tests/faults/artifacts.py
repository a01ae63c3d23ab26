"""What is damaged: every artifact with the stages that read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.faults.stages import BOXES, COPY, MAIN, OTHER, RUN, STAY, VIDEO

V, B = f"results/{VIDEO}", f"results/{BOXES}"
DECODE = ("postprocess", "evaluate", "table")
ALL_MASKS = ("propagate", *DECODE)
TRACKED = ("track", "evaluate boxes", "table")
LABELS_GONE = (f"{V}/{MAIN}/labels", f"{V}/{MAIN}/propagation.json")
BOXES_GONE = (f"{B}/{STAY}/boxes", f"{B}/{STAY}/tracking.json")

PICTURE = "before the doctor has seen a data set, a picture that decodes as a whole is its picture"
ANOTHER = "before the doctor has seen a data set, another whole picture is as good as any"
UNREAD = "the stage does not read it"


@dataclass(frozen=True)
class Artifact:
    """A file of the world and what is done once it is damaged."""

    name: str
    path: str
    """Pattern below the world; one of the files is chosen."""
    stages: tuple[str, ...]
    """The stages that run afterwards, until one refuses."""
    sibling: str = ""
    """Pattern of the files that may stand in its place; empty: other files of `path`."""
    remove: tuple[str, ...] = ()
    """Removed first, so that the stages work."""
    legal: Mapping[str, str] = field(default_factory=dict)
    """Kinds of damage after which results that differ are right, with the reason."""
    slow: bool = False
    """It belongs to a pretraining run, which the world makes only when asked."""


ARTIFACTS = (
    Artifact("weights.pt into propagate", "results/weights/random-r18/random/weights.pt", ALL_MASKS,
             "results/weights/random-r18/random1/weights.pt", remove=LABELS_GONE),
    Artifact("report.json into table", "results/weights/random-r18/random/report.json", ("table",),
             "results/weights/random-r18/random1/report.json"),
    Artifact("inputs.json into propagate", f"{V}/data/inputs.json", ALL_MASKS, f"{V}/data/annotations.json", remove=LABELS_GONE),
    Artifact("inputs.json into submission", f"{V}/data/inputs.json", ("submission",), f"{B}/data/inputs.json"),
    Artifact("annotations.json into evaluate", f"{V}/data/annotations.json", ("evaluate", "table"), f"{V}/data/inputs.json"),
    Artifact("labels.npz into postprocess", f"{V}/{MAIN}/labels/*.npz", DECODE),
    Artifact("labels.npz of another entry", f"{V}/{MAIN}/labels/*.npz", DECODE, f"{V}/{OTHER}/labels/*.npz"),
    Artifact("labels.npz into propagate that goes on", f"{V}/{MAIN}/labels/*.npz", ALL_MASKS, remove=LABELS_GONE[1:]),
    Artifact("labels.json into propagate that goes on", f"{V}/{MAIN}/labels/*.json", ALL_MASKS, remove=LABELS_GONE[1:]),
    Artifact("propagation.json into postprocess", f"{V}/{MAIN}/propagation.json", DECODE, f"{V}/{OTHER}/propagation.json"),
    Artifact("propagation.json into evaluate", f"{V}/{MAIN}/propagation.json", ("evaluate", "table"), f"{V}/{OTHER}/propagation.json"),
    Artifact("propagation.json into table", f"{V}/{MAIN}/propagation.json", ("table",), f"{V}/{OTHER}/propagation.json"),
    Artifact("masks into evaluate", f"{V}/{MAIN}/masks/*/*.png", ("evaluate", "table")),
    Artifact("masks of another entry into evaluate", f"{V}/{MAIN}/masks/*/*.png", ("evaluate", "table"), f"{V}/{OTHER}/masks/*/*.png"),
    Artifact("masks into overlays", f"{V}/{MAIN}/masks/*/*.png", ("overlays",)),
    Artifact("masks into submission", f"{V}/{MAIN}/masks/*/*.png", ("submission",)),
    Artifact("masks of another entry into submission", f"{V}/{MAIN}/masks/record.json", ("submission",), f"{V}/{COPY}/masks/record.json"),
    Artifact("masks/record.json into evaluate", f"{V}/{MAIN}/masks/record.json", ("evaluate", "table"), f"{V}/{OTHER}/masks/record.json"),
    Artifact("masks/record.json into submission", f"{V}/{MAIN}/masks/record.json", ("submission",), f"{V}/{OTHER}/masks/record.json"),
    Artifact("scores.json into table", f"{V}/{MAIN}/scores/scores.json", ("table",), f"{V}/{OTHER}/scores/scores.json"),
    Artifact("scores.json into plots", f"{V}/{MAIN}/scores/scores.json", ("plots",), f"{V}/{OTHER}/scores/scores.json"),
    Artifact("table.csv into report", "results/table.csv", ("report",), f"{V}/{MAIN}/scores/global.csv"),
    Artifact("table.csv into plots", "results/table.csv", ("plots",), f"{V}/{MAIN}/scores/global.csv"),
    Artifact("provenance.json into explain", "results/provenance.json", ("explain",), f"{V}/{MAIN}/scores/scores.json"),
    Artifact("provenance.json into report", "results/provenance.json", ("report",), f"{V}/{MAIN}/scores/scores.json"),
    Artifact("boxes into evaluate", f"{B}/{STAY}/boxes/*.txt", ("evaluate boxes", "table")),
    Artifact("boxes into overlays", f"{B}/{STAY}/boxes/*.txt", ("overlays boxes",)),
    Artifact("boxes into plots", f"{B}/{STAY}/boxes/*.txt", ("plots boxes",)),
    Artifact("boxes into table", f"{B}/{STAY}/boxes/*.txt", ("table",)),
    Artifact("boxes into track that goes on", f"{B}/{STAY}/boxes/*.txt", TRACKED, remove=BOXES_GONE[1:]),
    Artifact("boxes/record.json into track that goes on", f"{B}/{STAY}/boxes/record.json", TRACKED, f"{B}/{STAY}/tracking.json", remove=BOXES_GONE[1:]),
    Artifact("tracking.json into evaluate", f"{B}/{STAY}/tracking.json", ("evaluate boxes", "table"), f"{V}/{MAIN}/propagation.json"),
    Artifact("frame before the doctor", "data/davis/JPEGImages/480p/*/*.jpg", ("doctor inputs", "doctor annotations", *ALL_MASKS[:3]), remove=LABELS_GONE,
             legal={"flip": PICTURE, "noise": PICTURE, "swap": ANOTHER, "copy": ANOTHER}),
    Artifact("frame after the doctor", "data/davis/JPEGImages/480p/*/*.jpg", ALL_MASKS, remove=LABELS_GONE),
    Artifact("annotation before the doctor", "data/davis/Annotations/480p/*/*.png", ("doctor inputs", "doctor annotations", *ALL_MASKS[:3]), remove=LABELS_GONE,
             legal={"flip": PICTURE, "noise": PICTURE, "swap": ANOTHER, "copy": ANOTHER}),
    Artifact("annotation after the doctor", "data/davis/Annotations/480p/*/*.png", ("evaluate", "table")),
    Artifact("val.txt before the doctor", "data/davis/ImageSets/2017/val.txt", ("doctor inputs", "doctor annotations", "evaluate"), "data/davis/JPEGImages/480p/*/*.jpg"),
    Artifact("frame of boxes before the doctor", "data/otb/*/img/*.jpg", ("doctor box inputs", "doctor box annotations", *TRACKED[:2]), remove=BOXES_GONE,
             legal={"flip": PICTURE, "noise": PICTURE, "swap": ANOTHER, "copy": ANOTHER}),
    Artifact("groundtruth_rect.txt before the doctor", "data/otb/*/groundtruth_rect.txt", ("doctor box inputs", "doctor box annotations", *TRACKED[:2]), remove=BOXES_GONE,
             legal=dict.fromkeys(("letter", "swap", "copy", "flip", "noise"), "before the doctor has seen a data set, other boxes are as good as any")),
    Artifact("groundtruth_rect.txt after the doctor", "data/otb/*/groundtruth_rect.txt", TRACKED, remove=BOXES_GONE),
    Artifact("config.yaml into table", "config.yaml", ("table of file",), f"rows/benchmarks/{VIDEO}.yaml"),
    Artifact("last.pt into pretrain that goes on", f"{RUN}/last.pt", ("pretrain", "convert trained"), f"{RUN}/checkpoint.pth", remove=(f"{RUN}/checkpoint.pth", f"{RUN}/recipe.json"), slow=True),
    Artifact("checkpoint.pth into convert", f"{RUN}/checkpoint.pth", ("convert trained",), f"{RUN}/last.pt", slow=True),
    Artifact("index.csv into pretrain", "results/frames/index.csv", ("pretrain", "convert trained"), "results/frames/skipped.csv", remove=(RUN,), slow=True),
    Artifact("frames into pretrain", "results/frames/*/*.jpg", ("pretrain", "convert trained"), remove=(RUN,), slow=True),
)  # fmt: skip
