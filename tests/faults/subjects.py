"""Everything that trials are made of: damaged artifacts, stopped programs, files of other people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.faults.artifacts import ARTIFACTS, Artifact
from tests.faults.damage import damages_of
from tests.faults.outcome import Trial
from tests.faults.stops import FOREIGN, SIGNALS, WORKS, Work, foreign, stopped
from tests.faults.trial import damaged
from tests.faults.world import World

AtWork = Callable[[World, Path, Work, str, str], Trial]
"""A trial with a stage at work."""


@dataclass(frozen=True)
class Subject:
    """What a fault is done to."""

    name: str
    kinds: Sequence[str]
    """The kinds of faults."""
    run: Callable[[World, Path, str, str], Trial]
    """One trial: world, folder of the copy, kind, seed."""
    slow: bool


def subjects(*, advice: bool = False) -> list[Subject]:
    """All of them. `advice`: do what refusals say."""

    def damage(artifact: Artifact, world: World, folder: Path, kind: str, seed: str) -> Trial:
        return damaged(world, folder, artifact, kind, seed, advice=advice)

    def at_work(trial: AtWork, work: Work, world: World, folder: Path, kind: str, seed: str) -> Trial:
        return trial(world, folder, work, kind, seed)

    found = [Subject(a.name, sorted(damages_of(a.path)), partial(damage, a), a.slow) for a in ARTIFACTS]
    found += [Subject(f"stop {w.name}", SIGNALS, partial(at_work, stopped, w), w.slow) for w in WORKS]
    found += [Subject(f"foreign files for {w.name}", FOREIGN, partial(at_work, foreign, w), w.slow) for w in WORKS]
    return found
