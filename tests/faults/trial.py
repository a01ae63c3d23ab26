"""One trial: a copy of the world, damage, the stages that read what was damaged, and how it came out."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.artifacts import Artifact
from tests.faults.children import Ended, run
from tests.faults.damage import damages_of
from tests.faults.snapshot import Snapshot, differences, is_temporary, snapshot
from tests.faults.stages import STAGES, arguments_in
from tests.faults.world import World

REFUSED, CORRECT, SILENT, CRASH, LOST = "refused", "correct", "silent", "crash", "lost"
OUTCOMES = (REFUSED, CORRECT, SILENT, CRASH, LOST)
FAILURES = frozenset((SILENT, CRASH, LOST))
LARGE = 1 << 20
"""Files from this size on are linked into a copy of the world, not copied."""


@dataclass(frozen=True)
class Trial:
    """How one trial came out."""

    artifact: str
    what: str
    """The damage in words, with the name of its kind in front."""
    outcome: str
    why: str
    """What the program said, or what differs."""
    cpu: float

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.outcome:8} {self.artifact}: {self.what}: {self.why}"


def clone(world: World, folder: Path) -> None:
    """A copy of the world in a folder that is replaced."""

    def place(source: str, target: str) -> None:
        if Path(source).stat().st_size >= LARGE:
            Path(target).hardlink_to(source)
        else:
            shutil.copy2(source, target)

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(
        world.folder, folder, copy_function=place, symlinks=True, ignore=shutil.ignore_patterns(".versions")
    )


def remove(folder: Path, patterns: Sequence[str]) -> None:
    """Remove files and folders below a folder."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def pick(rng: random.Random, folder: Path, artifact: Artifact) -> tuple[Path, Path]:
    """The file to damage and its sibling."""
    path = rng.choice(sorted(folder.glob(artifact.path)))
    siblings = sorted(p for p in folder.glob(artifact.sibling or artifact.path) if p != path)
    return path, rng.choice(siblings or [path])


def damaged(world: World, clean: Snapshot, folder: Path, artifact: Artifact, kind: str, seed: str) -> Trial:
    """Damage an artifact and run what reads it."""
    rng = random.Random(f"{seed} {artifact.name} {kind}")
    clone(world, folder)
    path, sibling = pick(rng, folder, artifact)
    did = damages_of(artifact.path)[kind](rng, path, sibling)
    also = {"swap": [sibling], "dangling": [path.with_name("nowhere")]}  # a link stays a link: its target is written
    touched = {p.relative_to(folder).as_posix() for p in (path, *also.get(kind, ()))}
    remove(folder, [r for r in artifact.remove if not (kind == "swap" and r in touched)])
    what = f"{kind}: {path.relative_to(folder)}: {did}".replace(f"{folder}/", "")
    before = snapshot(folder, clean)
    name, ended, cpu = run_stages(world, folder, artifact.stages)
    after = snapshot(folder, clean)
    outcome, why = judge(ended, before, after, clean, touched)
    if outcome == SILENT and kind in artifact.legal:
        outcome, why = CORRECT, artifact.legal[kind]
    return Trial(artifact.name, what, outcome, f"[{name}] {why}", cpu)


def run_stages(world: World, folder: Path, stages: Sequence[str]) -> tuple[str, Ended, float]:
    """Run stages until one does not succeed: its name, how it ended, the CPU time of all."""
    cpu = 0.0
    for name in stages:
        ended = run(folder, STAGES[name].program, arguments_in(world.config, STAGES[name]))
        cpu += ended.cpu
        if ended.status:
            break
    return name, ended, cpu


def judge(ended: Ended, before: Snapshot, after: Snapshot, clean: Snapshot, touched: set[str]) -> tuple[str, str]:
    """The outcome and the reason. `before` is the world as it was damaged, `touched` what the damage did itself."""
    fault = broken_off(ended)
    if fault:
        return CRASH, fault
    if left := sorted(p for p in after if is_temporary(p)):
        return LOST, f"left behind: {', '.join(left[:3])}"
    if gone := sorted(before.keys() - after.keys() - touched):
        return LOST, f"gone: {', '.join(gone[:3])}"
    if ended.status:
        return REFUSED, said(ended)
    changed = [p for p in differences(clean, after) if p not in touched]
    if changed:
        return SILENT, f"differs: {', '.join(changed[:4])}"
    return CORRECT, ""


def broken_off(ended: Ended) -> str:
    """Why an end is neither a success nor a refusal with its three parts; empty otherwise."""
    if ended.hung:
        return "it hangs"
    if ended.status < 0:
        return f"died of signal {-ended.status}"
    if "Traceback" in ended.err:
        return f"traceback: {ended.err.strip().splitlines()[-1]}"
    if ended.status and not ("refused: " in ended.err and "what to do: " in ended.err and ended.status == 1):
        return f"status {ended.status} without a refusal: {said(ended)}"
    return ""


def said(ended: Ended) -> str:
    """The refusal in one line."""
    return " ".join(ended.err[max(ended.err.rfind("refused: "), 0) :].split())[:400]
