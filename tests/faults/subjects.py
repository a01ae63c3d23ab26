"""Everything that trials are made of: damaged artifacts, stopped programs, files of other people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.faults.artifacts import ARTIFACTS
from tests.faults.damage import damages_of
from tests.faults.outcome import Trial
from tests.faults.stops import FOREIGN, SIGNALS, WORKS, foreign, stopped
from tests.faults.trial import damaged
from tests.faults.world import World


@dataclass(frozen=True)
class Subject:
    """What a fault is done to."""

    name: str
    kinds: Sequence[str]
    """The kinds of faults."""
    run: Callable[[World, Path, str, str], Trial]
    """One trial: world, folder of the copy, kind, seed."""
    training: bool


def subjects(*, advice: bool = False) -> list[Subject]:
    """All of them. `advice`: do what refusals say."""

    def damage(artifact, world, folder, kind, seed):
        return damaged(world, folder, artifact, kind, seed, advice=advice)

    def at_work(trial, work, world, folder, kind, seed):
        return trial(world, folder, work, kind, seed)

    found = [Subject(a.name, sorted(damages_of(a.path)), partial(damage, a), a.training) for a in ARTIFACTS]
    found += [Subject(f"stop {w.name}", SIGNALS, partial(at_work, stopped, w), w.training) for w in WORKS]
    found += [Subject(f"foreign files for {w.name}", FOREIGN, partial(at_work, foreign, w), w.training) for w in WORKS]
    return found
