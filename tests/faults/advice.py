"""What a refusal says to do, done: then the same commands must end with the clean results."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.faults.children import Ended
from tests.faults.outcome import broken_off, said
from tests.faults.snapshot import differences, snapshot
from tests.faults.stages import BOXES, MAIN, OTHER, RUN, SCORE_STAGES, STAY, TRAINING_STAGES, VIDEO
from tests.faults.world import World, remove_any

MOST = 4
"""Refusals one after the other, each with its advice; two files may be damaged."""
REMOVE = re.compile(r"remove (\S+?)[,;:.]?(?=\s|$)")

V, B = f"results/{VIDEO}", f"results/{BOXES}"
MADE_BY = {
    "doctor inputs": (f"{V}/data/inputs.json",),
    "doctor annotations": (f"{V}/data/annotations.json",),
    "doctor box inputs": (f"{B}/data/inputs.json",),
    "doctor box annotations": (f"{B}/data/annotations.json",),
    "convert": ("results/weights/random-r18/random/*",),
    "convert other": ("results/weights/random-r18/random1/*",),
    **{f"{stage}{which}": patterns
       for which, entry in (("", MAIN), (" other", OTHER))
       for stage, patterns in {
           "propagate": (f"{V}/{entry}/propagation.json", f"{V}/{entry}/labels/*"),
           "postprocess": (f"{V}/{entry}/masks/*/*", f"{V}/{entry}/masks/*"),
           "evaluate": (f"{V}/{entry}/scores/*",)}.items()},
    "overlays": (f"{V}/{MAIN}/overlay.png",),
    "submission": (f"{V}/{MAIN}/submission.zip",),
    "track": (f"{B}/{STAY}/tracking.json", f"{B}/{STAY}/boxes/*", f"{B}/{STAY}/boxes/times/*"),
    "evaluate boxes": (f"{B}/{STAY}/scores/*",),
    "table": ("results/table.*", "results/provenance.json"),
    "plots": (f"results/plots/{VIDEO}/*",),
    "report": ("results/paper/*", "results/report.html"),
    "pretrain": (f"{RUN}/*",),
    "convert trained": ("results/weights/fault-crw/smoke/*",),
}  # fmt: skip
"""The files that a stage makes: where one is missing, the workflow runs the stage."""


def follow(world: World, folder: Path, ended: Ended, touched: set[str], stages: Sequence[str]) -> str:
    """Do what a refusal says, make what is missing then, and run the same commands again, until nothing refuses.

    `touched` is what was damaged. Returns why that does not lead to the clean results; empty if it does.
    """
    for _ in range(MOST):
        obey(world, folder, ended, touched)
        name, ended, _ = world.run_stages(folder, [*(s for s in to_make(world, folder) if s not in stages), *stages])
        if not ended.status:
            changed = [p for p in differences(world.clean, snapshot(folder, world.clean)) if p not in touched]
            return f"after its advice these differ: {', '.join(changed[:4])}" if changed else ""
        if fault := broken_off(ended):
            return f"after its advice {name}: {fault}"
    return f"its advice leads nowhere; at last {name}: {said(ended)}"


def obey(world: World, folder: Path, ended: Ended, touched: set[str]) -> None:
    """Remove what a refusal says is to be removed; where it names nothing, put the whole files back."""
    advice = said(ended).partition("what to do: ")[2]
    named = [folder / word for word in REMOVE.findall(advice) if word != "it"]
    named += [folder / p for p in touched if "remove it" in advice]
    there = [p for p in named if p.exists() or p.is_symlink()]
    for path in there or [folder / p for p in touched]:
        remove_any(path)
    if not there:
        for name in touched & world.clean.keys():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(world.folder / name, folder / name)


def to_make(world: World, folder: Path) -> list[str]:
    """The stages that the workflow would run because a file of theirs is missing."""
    missing = [Path(p) for p in world.clean if not (folder / p).exists()]
    stages = (*SCORE_STAGES, *TRAINING_STAGES)
    return [s for s in stages if any(p.match(pattern) for p in missing for pattern in MADE_BY.get(s, ()))]
