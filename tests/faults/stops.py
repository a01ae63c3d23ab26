"""Programs that are stopped at some moment and started again, and programs that meet files of other people in their folder."""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from tests.faults.artifacts import BOXES_GONE, LABELS_GONE, B, V
from tests.faults.children import Ended, Stop
from tests.faults.outcome import CORRECT, CRASH, LOST, REFUSED, SILENT, Trial, broken_off, leftovers, said
from tests.faults.snapshot import Snapshot, differences, is_temporary, snapshot
from tests.faults.stages import MAIN, RUN, STAY
from tests.faults.world import World, remove

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGKILL before a rename", "SIGTERM before a rename")
RENAMES = 8
"""The largest number of files that a program may have finished when it is stopped before a rename."""
STATUS = {"SIGTERM": (143, 75), "SIGINT": (130, 75), "SIGKILL": (-9,)}
"""How a program ends that is stopped; 75 is a training run that has saved."""


@dataclass(frozen=True)
class Work:
    """A stage that writes `folder`."""

    name: str
    stage: str
    folder: str
    remove: tuple[str, ...] = ()
    """What the stage is to make again: removed first."""
    whole: bool = False
    """The folder appears when it is complete."""
    grows: Mapping[str, str] = field(default_factory=dict)
    """Patterns of files that may differ after a stop, with the reason."""
    slow: bool = False
    """It takes seconds of CPU."""


SAVED = "what is finished up to now; the next run goes on from it"
WORKS = (
    Work("convert", "convert", "results/weights/random-r18/random", ("results/weights/random-r18/random/*",)),
    Work("doctor", "doctor inputs", f"{V}/data", (f"{V}/data/inputs.json",)),
    Work("propagate", "propagate", f"{V}/{MAIN}/labels", LABELS_GONE),
    Work("postprocess", "postprocess", f"{V}/{MAIN}/masks", (f"{V}/{MAIN}/masks",), whole=True),
    Work("postprocess over masks", "postprocess", f"{V}/{MAIN}/masks", whole=True),
    Work("evaluate", "evaluate", f"{V}/{MAIN}/scores", (f"{V}/{MAIN}/scores/*",)),
    Work("submission", "submission", f"{V}/{MAIN}", (f"{V}/{MAIN}/submission.zip",)),
    Work("track", "track", f"{B}/{STAY}/boxes", BOXES_GONE, grows={"boxes/.progress.json": SAVED}),
    Work("evaluate boxes", "evaluate boxes", f"{B}/{STAY}/scores", (f"{B}/{STAY}/scores/*",)),
    Work("table", "table", "results", ("results/table.*", "results/provenance.json")),
    Work("report", "report", "results/paper", ("results/paper", "results/report.html"), whole=True),
    Work("plots", "plots", f"results/plots/{PurePath(V).name}", (f"results/plots/{PurePath(V).name}/*",), slow=True),
    Work("pretrain", "pretrain", RUN, (RUN,), grows={"smoke/last.pt": SAVED, "smoke/log.jsonl": SAVED}, slow=True),
)  # fmt: skip
FOREIGN = ("thesis.txt", "holiday.png", "numbers.csv", "results.json", "array.npz", "notes/thesis.txt", "weights.bin")
"""Files of other people."""


def stopped(world: World, folder: Path, work: Work, kind: str, seed: str) -> Trial:
    """Stop a stage by a signal at a seeded moment, then run it again."""
    rng = random.Random(f"{seed} {work.name} {kind}")
    world.clone(folder)
    remove(folder, work.remove)
    before = snapshot(folder, world.clean)
    name, _, at_rename = kind.partition(" before ")
    if at_rename:
        stop = Stop(signal.Signals[name], renames=rng.randint(1, RENAMES))
        moment = f"before rename {stop.renames}"
    else:
        stop = Stop(signal.Signals[name], rng.uniform(0, world.seconds[work.stage]))
        moment = f"after {stop.seconds:.3f} of {world.seconds[work.stage]:.3f} s"
    first = world.run(folder, work.stage, stop)
    between = snapshot(folder, world.clean)
    second = world.run(folder, work.stage)
    outcome, why = _judge_stop(work, name, first, second, before, between, snapshot(folder, world.clean), world.clean)
    what = f"{name} {moment}, status {first.status}"
    return Trial(f"stop {work.name}", what, outcome, why, first.cpu + second.cpu)


def _judge_stop(
    work: Work,
    name: str,
    first: Ended,
    second: Ended,
    before: Snapshot,
    between: Snapshot,
    now: Snapshot,
    clean: Snapshot,
) -> tuple[str, str]:
    if first.status and (first.status not in STATUS[name] or "Traceback" in first.err):
        return CRASH, f"stopped, it ended with {first.status}: {first.err.strip()[-300:]}"
    if first.status in (130, 143) and "run the same command again" not in first.err:
        return CRASH, f"stopped, it does not say how to go on: {first.err.strip()[-300:]}"
    grown = [p for p in between if any(PurePath(p).match(pattern) for pattern in work.grows)]
    half = [p for p in differences(clean, between) if p in between and not is_temporary(p) and p not in grown]
    if half:
        return LOST, f"half written under its name: {', '.join(half[:3])}"
    there = [p for p in clean if p.startswith(f"{work.folder}/")]
    if work.whole and 0 < sum(p in between for p in there) < len(there):
        return LOST, f"a part of {work.folder}"
    if gone := sorted(p for p in before if p not in between and not p.startswith(f"{work.folder}/")):
        return LOST, f"gone: {', '.join(gone[:3])}"
    if second.status:
        return LOST, f"it does not go on: {broken_off(second) or said(second)}"
    if left := leftovers(now):
        return LOST, left
    if changed := differences(clean, now):
        return SILENT, f"differs: {', '.join(changed[:4])}"
    return CORRECT, "it goes on"


def foreign(world: World, folder: Path, work: Work, kind: str, seed: str) -> Trial:
    """Put a file of somebody else into the folder that a stage writes, with the stage's own files there or not."""
    rng = random.Random(f"{seed} {work.name} {kind}")
    world.clone(folder)
    alone = rng.random() < 0.5
    if alone:
        remove(folder, work.remove)
    path = folder / work.folder / kind
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rng.randbytes(200))
    before = snapshot(folder, world.clean)
    ended = world.run(folder, work.stage)
    now = snapshot(folder, world.clean)
    mine = path.relative_to(folder).as_posix()
    what = f"{mine}, {'alone there' if alone else 'beside the results'}"
    outcome, why = _judge_foreign(ended, before, now, world.clean, mine)
    return Trial(f"foreign files for {work.name}", what, outcome, why, ended.cpu)


def _judge_foreign(ended: Ended, before: Snapshot, now: Snapshot, clean: Snapshot, mine: str) -> tuple[str, str]:
    if now.get(mine, (0, ""))[1] != before[mine][1]:
        return LOST, f"{mine} is gone or altered"
    if fault := broken_off(ended):
        return CRASH, fault
    if gone := sorted(before.keys() - now.keys()):
        return LOST, f"gone: {', '.join(gone[:3])}"
    if left := leftovers(now):
        return LOST, left
    if ended.status:
        return REFUSED, said(ended)
    if changed := [p for p in differences(clean, now) if p != mine]:
        return SILENT, f"differs: {', '.join(changed[:4])}"
    return CORRECT, "it stays"
