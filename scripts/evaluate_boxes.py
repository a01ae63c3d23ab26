"""Score boxes with precision and success as got10k's ExperimentOTB defines them.

By hand, on any tracker's files <target>.txt (x,y,w,h per line):
    python -m scripts.evaluate_boxes --benchmark otb100 --root /data/OTB --boxes my_boxes --out my_scores
"""

import argparse

from corrbench.benchmarks.registry import benchmark_of
from corrbench.datasets.benchmark import settings_by_hand
from corrbench.datasets.boxes import read_times
from corrbench.datasets.opening import read_findings
from corrbench.datasets.otb import open_otb
from corrbench.errors import Refusal, run_program
from corrbench.files import read_record
from corrbench.metrics.otb import FILES, mean_scores, score_sequence, speed_fps, write_track_scores
from corrbench.outputs import claim, refuse_replacing, refuse_within
from corrbench.provenance import code_version, libraries
from corrbench.reading import user_path
from corrbench.tracking.folder import read_tracked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--benchmark", help="row of config/benchmarks/")
    which.add_argument("--data", type=user_path, help="annotations.json that the doctor wrote")
    parser.add_argument("--rows", type=user_path, nargs="*", default=[], help="further folders with benchmarks/ rows")
    parser.add_argument("--root", type=user_path, required=True, help="data root; never written to")
    parser.add_argument("--subset", action="store_true", help="score only the targets that lie below the root")
    parser.add_argument(
        "--boxes", type=user_path, required=True, help="<target>.txt, and times/<target>_time.txt where known"
    )
    parser.add_argument("--out", type=user_path, required=True, help="folder of score files to write")
    parser.add_argument("--entry", default="tracker", help="name of the tracker in performance.json")
    parser.add_argument("--tracking", type=user_path, help="summary that track.py wrote: refuse boxes of another run")
    args = parser.parse_args()

    refuse_within(args.out, args.root, args.boxes)
    code = code_version("scripts/evaluate_boxes.py")  # of what was loaded, whatever is edited meanwhile
    data = (
        read_findings(args.data)
        if args.data
        else settings_by_hand(args.benchmark, args.root, subset=args.subset, rows=args.rows)
    )
    if benchmark_of(data["row"]).label != "boxes":
        raise Refusal(
            f"{data['label']} is a benchmark of masks",
            expected="a benchmark of boxes",
            do="score masks with python -m scripts.evaluate --masks FOLDER",
        )
    tracking = (
        read_record(args.tracking, "a summary of tracking", keys=("entry", "key", "sequences"))
        if args.tracking
        else None
    )
    otb = open_otb(args.root, data["row"], data["sequences"], data if args.data else None)
    scores, speeds = {}, {}
    for name in otb.sequences:
        try:
            truth = otb.track(name).boxes
            scores[name] = score_sequence(read_tracked(args.boxes, name, tracking, args.tracking), truth)
        except Refusal as refusal:
            raise Refusal(f"{name}: {refusal}") from refusal
        times = args.boxes / "times" / f"{name}_time.txt"
        speeds[name] = speed_fps(read_times(times, len(truth))) if times.exists() else -1.0
    record = {
        "benchmark": data["row"]["name"],
        "label": data["label"],
        "entry": tracking["entry"] if tracking else None,
        "annotations": data.get("fingerprint"),
        "tracking": tracking["key"] if tracking else None,
        "code": code,
        "libraries": libraries(),
    }
    with claim(args.out):
        refuse_replacing(args.out, FILES, "scores.json", "metric")
        write_track_scores(args.out, args.entry, scores, speeds, record)
    total = mean_scores(scores)
    print(
        f"{data['label']}\nprecision {100 * total.precision:.2f}  success {100 * total.success:.2f}  success rate {100 * total.success_rate:.2f}"
    )


if __name__ == "__main__":
    run_program(main)
