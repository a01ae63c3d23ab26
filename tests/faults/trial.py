"""One trial: a copy of the world, damage, the stages that read what was damaged, and how it came out."""

from __future__ import annotations

import random
from pathlib import Path

from tests.faults.advice import follow
from tests.faults.artifacts import Artifact
from tests.faults.children import Ended
from tests.faults.damage import damages_of
from tests.faults.outcome import CORRECT, CRASH, LOST, REFUSED, SILENT, Trial, broken_off, leftovers, said
from tests.faults.snapshot import Snapshot, differences, snapshot
from tests.faults.world import World, remove


def damaged(world: World, folder: Path, artifact: Artifact, kind: str, seed: str, *, advice: bool) -> Trial:
    """Damage an artifact in a copy of the world and run what reads it; with `advice` do what a refusal says."""
    rng = random.Random(f"{seed} {artifact.name} {kind}")
    world.clone(folder)
    path, sibling = pick(rng, folder, artifact)
    did = damages_of(artifact.path)[kind](rng, path, sibling)
    also = {"swap": [sibling], "dangling": [path.with_name("nowhere")]}  # a link stays a link: its target is written
    touched = {p.relative_to(folder).as_posix() for p in (path, *also.get(kind, ()))}
    remove(folder, [r for r in artifact.remove if r not in touched])
    what = f"{kind}: {path.relative_to(folder)}: {did}".replace(f"{folder}/", "")
    before = snapshot(folder, world.clean)
    name, ended, cpu = world.run_stages(folder, artifact.stages)
    outcome, why = judge(ended, before, snapshot(folder, world.clean), world.clean, touched)
    if outcome == SILENT and kind in artifact.legal:
        outcome, why = CORRECT, artifact.legal[kind]
    if outcome == REFUSED and advice and (wrong := follow(world, folder, ended, touched, artifact.stages)):
        outcome, why = LOST, wrong
    return Trial(artifact.name, what, outcome, f"[{name}] {why}", cpu)


def pick(rng: random.Random, folder: Path, artifact: Artifact) -> tuple[Path, Path]:
    """The file to damage and its sibling."""
    path = rng.choice(sorted(folder.glob(artifact.path)))
    siblings = sorted(p for p in folder.glob(artifact.sibling or artifact.path) if p != path)
    return path, rng.choice(siblings or [path])


def judge(ended: Ended, before: Snapshot, after: Snapshot, clean: Snapshot, touched: set[str]) -> tuple[str, str]:
    """The outcome and the reason. `before` is the world as it was damaged, `touched` what the damage did itself."""
    if fault := broken_off(ended):
        return CRASH, fault
    if left := leftovers(after):
        return LOST, left
    if gone := sorted(before.keys() - after.keys() - touched):
        return LOST, f"gone: {', '.join(gone[:3])}"
    if ended.status:
        return REFUSED, said(ended)
    if changed := [p for p in differences(clean, after) if p not in touched]:
        return SILENT, f"differs: {', '.join(changed[:4])}"
    return CORRECT, ""
