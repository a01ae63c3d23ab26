"""Score masks with J and F as davis2017-evaluation defines them.

In the flow it also records where the masks came from. By hand, on any masks:
    python -m scripts.evaluate --benchmark davis2017-val --root /data/DAVIS-2017 --masks my_masks --out my_scores
"""

import argparse
import os
import sys

from corrbench.benchmarks.registry import benchmark_of
from corrbench.datasets.benchmark import settings_by_hand
from corrbench.datasets.davis import open_davis
from corrbench.datasets.opening import read_findings
from corrbench.errors import Refusal, few, run_program
from corrbench.files import SEAL
from corrbench.metrics.crosscheck import check_installed, cross_check
from corrbench.metrics.davis import GLOBAL_COLUMNS, evaluate, global_scores
from corrbench.metrics.masks import masks_record
from corrbench.metrics.scores import FILES, write_scores
from corrbench.outputs import claim, refuse_replacing, refuse_within
from corrbench.provenance import code_version, libraries
from corrbench.reading import positive, user_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--benchmark", help="row of config/benchmarks/")
    which.add_argument("--data", type=user_path, help="annotations.json that the doctor wrote")
    parser.add_argument("--rows", type=user_path, nargs="*", default=[], help="further folders with benchmarks/ rows")
    parser.add_argument("--root", type=user_path, required=True, help="data root; never written to")
    parser.add_argument("--subset", action="store_true", help="score only the sequences that lie below the root")
    parser.add_argument("--masks", type=user_path, required=True, help="<sequence>/<frame>.png")
    parser.add_argument("--out", type=user_path, required=True, help="folder of score files to write")
    parser.add_argument("--propagation", type=user_path, help="summary that propagate.py wrote, for the record")
    parser.add_argument("--cross-check", action="store_true", help="run davis2017-evaluation too; refuse a difference")
    parser.add_argument("--workers", type=positive, default=os.cpu_count(), help="processes")
    args = parser.parse_args()

    if args.cross_check:
        check_installed()
    refuse_within(args.out, args.root, args.masks)
    code = code_version("scripts/evaluate.py")  # of what was loaded, whatever is edited meanwhile
    if args.data:
        data = read_findings(args.data)
    else:
        data = settings_by_hand(args.benchmark, args.root, subset=args.subset, rows=args.rows)
    benchmark = benchmark_of(data["row"])
    if benchmark.label != "masks":
        raise Refusal(
            f"{data['label']} is a benchmark of {benchmark.label}",
            expected="a benchmark of masks",
            do="score boxes with python -m scripts.evaluate_boxes --boxes FOLDER",
        )
    if not benchmark.scored_here:
        raise Refusal(
            f"{data['label']} has no public annotations",
            expected="a benchmark that is scored here",
            do="upload the zip that scripts.submission packs (results/.../submission.zip of the workflow)",
        )
    davis = open_davis(args.root, data["row"], data["sequences"], data if args.data else None)
    single = benchmark.single_object
    made, known = masks_record(args.masks, args.propagation)
    with claim(args.out):
        refuse_replacing(args.out, FILES, "scores.json", "metric")
        scores = evaluate(davis, args.masks, single_object=single, workers=args.workers, made=known)
        if args.cross_check:
            print(cross_check(davis, args.masks, scores, single_object=single))
        record = {
            "benchmark": data["row"]["name"],
            "label": data["label"],
            "entry": made["entry"] if made else None,
            "annotations": data.get("fingerprint"),
            "masks": None
            if made is None
            else {**{k: v for k, v in made.items() if k not in ("files", SEAL)}, "sha256": made[SEAL]},
            "code": code,
            "libraries": libraries(),
        }
        write_scores(args.out, scores, record)
    shifted = [n for n in davis.sequences if not (args.masks / n / davis.sequence(n).annotations[0].name).exists()]
    if shifted:
        print(
            f"look at this: no mask of the first frame of {few(shifted)}: are the masks numbered as the annotations are?",
            file=sys.stderr,
        )
    total = global_scores(scores)
    print(data["label"])
    print("  ".join(f"{name} {100 * total[name]:.2f}" for name in GLOBAL_COLUMNS))


if __name__ == "__main__":
    run_program(main)
