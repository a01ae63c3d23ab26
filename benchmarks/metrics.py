"""Time J and F against vos-benchmark 0.1.0 on the same masks, one core each, in turn.

    python benchmarks/metrics.py [--rounds 5] [--root DAVIS-2016 --masks MASKS]

Without --root: synthetic sequences of 480x854, predictions shifted by a few pixels. Both read the PNGs and compute J
and F of every object in every scored frame; the means must agree.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from corrbench.datasets.benchmark import settings_by_hand
from corrbench.datasets.davis import open_davis, read_annotation
from corrbench.datasets.palette import save_mask
from corrbench.datasets.synthetic import write_davis
from corrbench.images import NOTHING_KNOWN
from corrbench.metrics.davis import _evaluate_sequence, global_scores, read_prediction


def synthetic(folder):
    row = {"year": 2017, "split": "val", "resolution": "480p", "scoring": "multi-object"}
    names = ["a", "b", "c"]
    write_davis(folder / "DAVIS", names, split="val", frames=12, height=480, width=854, seed=0)
    davis = open_davis(folder / "DAVIS", row, names)
    for name in names:
        (folder / "masks" / name).mkdir(parents=True)
        for path in davis.sequence(name).annotations:
            save_mask(folder / "masks" / name / path.name, np.roll(read_annotation(path), 4, axis=1))
    return davis, folder / "masks", False


def vos_benchmark(davis, masks, single):
    from vos_benchmark.evaluator import Evaluator

    j, f = [], []
    for name in davis.sequences:
        evaluator = Evaluator(name=name)
        for path in davis.sequence(name).annotations[1:-1]:
            truth = read_annotation(path, single_object=single)
            evaluator.feed_frame(read_prediction(masks / name / path.name, single_object=single), truth)
        iou, contour = evaluator.conclude()
        j += list(iou.values())
        f += list(contour.values())
    return np.mean(j), np.mean(f)


def corrbench(davis, masks, single):
    scores = [
        one for name in davis.sequences for one in _evaluate_sequence((davis, name, masks, single, NOTHING_KNOWN))
    ]
    total = global_scores(scores)
    return 100 * total["J-Mean"], 100 * total["F-Mean"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--root", type=Path, help="DAVIS-2016 root")
    parser.add_argument("--masks", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        if args.root:
            settings = settings_by_hand("davis2016-val", args.root, subset=True)
            davis, masks, single = open_davis(args.root, settings["row"], settings["sequences"]), args.masks, True
        else:
            davis, masks, single = synthetic(Path(scratch))
        times = {"corrbench": [], "vos-benchmark": []}
        for _ in range(args.rounds):
            for name, measure in (("corrbench", corrbench), ("vos-benchmark", vos_benchmark)):
                start = time.perf_counter()
                result = measure(davis, masks, single)
                times[name].append(time.perf_counter() - start)
                print(f"{name:<14} {times[name][-1]:7.2f} s   J {result[0]:.6f}  F {result[1]:.6f}")
    ratio = statistics.median(b / a for a, b in zip(times["corrbench"], times["vos-benchmark"], strict=True))
    print(f"vos-benchmark takes {ratio:.1f}x the time of corrbench (median of {args.rounds} rounds, one core each)")


if __name__ == "__main__":
    main()
