"""Damage artifacts from a seed and say how it comes out.

python -m tests.faults --seed 3 --trials 200
python -m tests.faults --seed 3 --trials 20 --only scores.json     # what has these words in its name
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

from tests.faults.children import import_programs
from tests.faults.outcome import FAILURES, OUTCOMES, Trial
from tests.faults.snapshot import snapshot
from tests.faults.subjects import Subject, subjects
from tests.faults.world import make_world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--only", default="", metavar="NAME", help="what has this in its name")
    parser.add_argument("--quick", action="store_true", help="leave out pretraining, and what takes seconds of CPU")
    parser.add_argument(
        "--advice", action="store_true", help="do what refusals say: that must lead to the clean results"
    )
    parser.add_argument("--records", type=Path, metavar="FILE", help="write a line of JSON for every trial")
    args = parser.parse_args()
    known = subjects(advice=args.advice)
    chosen = [s for s in known if args.only in s.name and not (args.quick and s.slow)]
    if not chosen:
        parser.error(f"nothing is named like {args.only!r}: {', '.join(s.name for s in known)}")
    found = []
    for trial in run_trials(chosen, args.seed, args.trials):
        print(f"{trial.line}  ({trial.cpu:.2f} s)", flush=True)
        found.append(trial)
        if args.records:
            with args.records.open("a") as file:
                file.write(json.dumps(asdict(trial)) + "\n")
    print("\n".join(table(found)))
    sys.exit(int(any(t.outcome in FAILURES for t in found)))


def run_trials(subjects: Sequence[Subject], seed: int, count: int) -> Iterator[Trial]:
    """Make the world, then one trial after another."""
    import_programs()
    with tempfile.TemporaryDirectory(prefix="corrbench-faults-") as folder:
        place = Path(folder).resolve()
        (place / "clean").mkdir()
        world = make_world(place / "clean", training=any(s.slow for s in subjects))
        for subject, kind, each in plan(subjects, seed, count):
            yield subject.run(world, place / "trial", kind, each)
        if snapshot(world.folder) != world.clean:
            raise RuntimeError("a trial has altered the clean world through a hard link")


def plan(subjects: Sequence[Subject], seed: int, count: int) -> Iterator[tuple[Subject, str, str]]:
    """Subject, kind of fault and seed of each trial: every subject in turn, every kind before one comes again."""
    orders = {s.name: random.Random(f"{seed} {s.name}").sample(s.kinds, len(s.kinds)) for s in subjects}
    for i in range(count):
        turn, which = divmod(i, len(subjects))
        order = orders[subjects[which].name]
        yield subjects[which], order[turn % len(order)], f"{seed} {turn // len(order)}"


def table(trials: Sequence[Trial]) -> Iterator[str]:
    """Trials by artifact and outcome."""
    counts = Counter((t.subject, t.outcome) for t in trials)
    names = list(dict.fromkeys(t.subject for t in trials))
    width = max(map(len, names), default=0)
    yield f"\n{'subject':{width}} {'trials':>7}" + "".join(f"{o:>9}" for o in OUTCOMES)
    for name in [*names, "all"]:
        row = [sum(n for (a, o), n in counts.items() if o == outcome and name in (a, "all")) for outcome in OUTCOMES]
        yield f"{name:{width}} {sum(row):>7}" + "".join(f"{n:>9}" for n in row)
    cpu = sum(t.cpu for t in trials)
    yield f"{cpu:.1f} s of CPU in the stages"


if __name__ == "__main__":
    main()
