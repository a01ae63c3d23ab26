"""Damage artifacts from a seed and say how it comes out.

python -m tests.faults --seed 3 --trials 200
python -m tests.faults --seed 3 --trials 20 --only scores.json     # artifacts whose name has these words
Ends with status 1 if anything came out silent (other results, exit status 0), as a crash, or lost.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.faults.artifacts import ARTIFACTS, Artifact
from tests.faults.children import import_programs
from tests.faults.damage import damages_of
from tests.faults.snapshot import snapshot
from tests.faults.trial import FAILURES, OUTCOMES, Trial, damaged
from tests.faults.world import make_world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--only", default="", metavar="NAME", help="artifacts whose name contains this")
    parser.add_argument("--no-training", action="store_true", help="leave out the artifacts of pretraining")
    parser.add_argument("--records", type=Path, metavar="FILE", help="write a line of JSON for every trial")
    args = parser.parse_args()
    chosen = [a for a in ARTIFACTS if args.only in a.name and not (args.no_training and a.training)]
    if not chosen:
        parser.error(f"no artifact is named like {args.only!r}: {', '.join(a.name for a in ARTIFACTS)}")
    found = []
    for trial in run_trials(chosen, args.seed, args.trials):
        print(f"{trial.line}  ({trial.cpu:.2f} s)", flush=True)
        found.append(trial)
        if args.records:
            with args.records.open("a") as file:
                file.write(json.dumps(asdict(trial)) + "\n")
    print("\n".join(table(found)))
    sys.exit(int(any(t.outcome in FAILURES for t in found)))


def run_trials(artifacts: Sequence[Artifact], seed: int, count: int) -> Iterator[Trial]:
    """Make the world, then one trial after another."""
    import_programs()
    with tempfile.TemporaryDirectory(prefix="corrbench-faults-") as folder:
        place = Path(folder).resolve()
        (place / "clean").mkdir()
        world = make_world(place / "clean", training=any(a.training for a in artifacts))
        clean = snapshot(world.folder)
        for artifact, kind, each in plan(artifacts, seed, count):
            yield damaged(world, clean, place / "trial", artifact, kind, each)
        if snapshot(world.folder) != clean:
            raise RuntimeError("a trial has altered the clean world through a hard link")


def plan(artifacts: Sequence[Artifact], seed: int, count: int) -> Iterator[tuple[Artifact, str, str]]:
    """Artifact, kind of damage and seed of each trial: every artifact in turn, every kind before one comes again."""
    orders = {
        a.name: random.Random(f"{seed} {a.name}").sample(kinds := sorted(damages_of(a.path)), len(kinds))
        for a in artifacts
    }
    for i in range(count):
        turn, which = divmod(i, len(artifacts))
        order = orders[artifacts[which].name]
        yield artifacts[which], order[turn % len(order)], f"{seed} {turn // len(order)}"


def table(trials: Sequence[Trial]) -> Iterator[str]:
    """Trials by artifact and outcome."""
    counts = Counter((t.artifact, t.outcome) for t in trials)
    names = list(dict.fromkeys(t.artifact for t in trials))
    width = max(map(len, names), default=0)
    yield f"\n{'artifact':{width}} {'trials':>7}" + "".join(f"{o:>9}" for o in OUTCOMES)
    for name in [*names, "all"]:
        row = [sum(n for (a, o), n in counts.items() if o == outcome and name in (a, "all")) for outcome in OUTCOMES]
        yield f"{name:{width}} {sum(row):>7}" + "".join(f"{n:>9}" for n in row)
    cpu = sum(t.cpu for t in trials)
    yield f"{cpu:.1f} s of CPU in the stages"


if __name__ == "__main__":
    main()
