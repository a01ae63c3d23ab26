"""Score boxes with precision and success as got10k's ExperimentOTB defines them.

By hand, on any tracker's files <target>.txt (x,y,w,h per line):
    python -m scripts.evaluate_boxes --benchmark otb100 --root /data/OTB --boxes my_boxes --out my_scores
"""

import argparse
from pathlib import Path

import numpy as np

from corrbench.datasets.benchmark import settings_by_hand
from corrbench.datasets.boxes import read_boxes
from corrbench.datasets.otb import open_otb
from corrbench.errors import Refusal, run_program
from corrbench.files import file_hash, read_json
from corrbench.metrics.otb import mean_scores, score_sequence, speed_fps, write_track_scores
from corrbench.provenance import code_version, libraries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--benchmark", help="row of config/benchmarks/")
    which.add_argument("--data", type=Path, help="annotations.json that the doctor wrote")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="further folders with benchmarks/ rows")
    parser.add_argument("--root", type=Path, required=True, help="data root; never written to")
    parser.add_argument("--subset", action="store_true", help="score only the targets that lie below the root")
    parser.add_argument(
        "--boxes", type=Path, required=True, help="<target>.txt, and times/<target>_time.txt where known"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of score files to write")
    parser.add_argument("--entry", default="tracker", help="name of the tracker in performance.json")
    parser.add_argument("--tracking", type=Path, help="summary that track.py wrote: refuse boxes of another run")
    args = parser.parse_args()

    code = code_version("scripts/evaluate_boxes.py")  # of what was loaded, whatever is edited meanwhile
    data = (
        read_json(args.data)
        if args.data
        else settings_by_hand(args.benchmark, args.root, subset=args.subset, rows=args.rows)
    )
    tracking = read_json(args.tracking) if args.tracking else None
    key = tracking["key"] if tracking else None
    if key is not None and read_json(args.boxes / "record.json")["key"] != key:
        raise Refusal(
            f"{args.boxes}: boxes of another run than {args.tracking}",
            expected=f"boxes of the run with key {key}",
            do=f"your snakemake command with  --forcerun {args.tracking} --  before the target",
        )
    otb = open_otb(args.root, data["row"], data["sequences"])
    scores, speeds = {}, {}
    for name in otb.sequences:
        if tracking and file_hash(args.boxes / f"{name}.txt") != tracking["sequences"][name]["sha256"]:
            raise Refusal(
                f"{args.boxes / name}.txt: changed since it was tracked",
                expected="the boxes that the tracker wrote",
                do=f"your snakemake command with  --forcerun {args.tracking} --  before the target",
            )
        try:
            scores[name] = score_sequence(read_boxes(args.boxes / f"{name}.txt"), otb.track(name).boxes)
        except Refusal as refusal:
            raise Refusal(f"{name}: {refusal}") from refusal
        times = args.boxes / "times" / f"{name}_time.txt"
        speeds[name] = speed_fps(np.loadtxt(times, ndmin=1)) if times.exists() else -1.0
    record = {
        "benchmark": data["row"]["name"], "label": data["label"], "annotations": data.get("fingerprint"), "tracking": key,
        "code": code, "libraries": libraries(),
    }  # fmt: skip
    write_track_scores(args.out, args.entry, scores, speeds, record)
    total = mean_scores(scores)
    print(
        f"{data['label']}\nprecision {100 * total.precision:.2f}  success {100 * total.success:.2f}  success rate {100 * total.success_rate:.2f}"
    )


if __name__ == "__main__":
    run_program(main)
