"""Score masks with J and F as davis2017-evaluation defines them.

In the flow it also records where the masks came from. By hand, on any masks:
    python -m scripts.evaluate --benchmark davis2017-val --root /data/DAVIS-2017 --masks my_masks --out my_scores
"""

import argparse
import os
from pathlib import Path
from typing import Any

from corrbench.datasets.benchmark import settings_by_hand
from corrbench.datasets.davis import open_davis
from corrbench.errors import Refusal, run_program
from corrbench.files import read_json
from corrbench.metrics.crosscheck import cross_check
from corrbench.metrics.davis import GLOBAL_COLUMNS, evaluate, global_scores
from corrbench.metrics.scores import write_scores
from corrbench.provenance import code_version, libraries


def masks_record(masks: Path, propagation: Path | None) -> dict[str, Any] | None:
    """What the postprocess stage says of these masks; None for masks from elsewhere.

    Raises Refusal when they were decoded from another propagation than the one beside them.
    """
    path = masks / "record.json"
    record = read_json(path) if path.exists() else None
    if propagation is not None:
        key = read_json(propagation)["key"]
        if record is None or record["propagation"] != key:
            raise Refusal(
                f"{masks}: masks of another propagation than {propagation}",
                expected=f"masks decoded from the run with key {key}",
                do=f"your snakemake command with  --forcerun {masks} --  before the target",
            )
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--benchmark", help="row of config/benchmarks/")
    which.add_argument("--data", type=Path, help="annotations.json that the doctor wrote")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="further folders with benchmarks/ rows")
    parser.add_argument("--root", type=Path, required=True, help="data root; never written to")
    parser.add_argument("--subset", action="store_true", help="score only the sequences that lie below the root")
    parser.add_argument("--masks", type=Path, required=True, help="<sequence>/<frame>.png")
    parser.add_argument("--out", type=Path, required=True, help="folder of score files to write")
    parser.add_argument("--propagation", type=Path, help="summary that propagate.py wrote, for the record")
    parser.add_argument("--cross-check", action="store_true", help="run davis2017-evaluation too; refuse a difference")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args()

    code = code_version("scripts/evaluate.py")  # of what was loaded, whatever is edited meanwhile
    if args.data:
        data = read_json(args.data)
    else:
        data = settings_by_hand(args.benchmark, args.root, subset=args.subset, rows=args.rows)
    if data["row"]["scoring"] == "server":
        raise Refusal(
            f"{data['label']} has no public annotations",
            expected="a benchmark that is scored here",
            do="upload the zip that the postprocess stage packs",
        )
    davis = open_davis(args.root, data["row"], data["sequences"])
    single = data["row"]["scoring"] == "single-object"
    scores = evaluate(davis, args.masks, single_object=single, workers=args.workers)
    if args.cross_check:
        print(cross_check(davis, args.masks, scores, single_object=single))
    record = {
        "benchmark": data["row"]["name"],
        "label": data["label"],
        "annotations": data.get("fingerprint"),
        "masks": masks_record(args.masks, args.propagation),
        "code": code,
        "libraries": libraries(),
    }
    write_scores(args.out, scores, record)
    total = global_scores(scores)
    print(data["label"])
    print("  ".join(f"{name} {100 * total[name]:.2f}" for name in GLOBAL_COLUMNS))


if __name__ == "__main__":
    run_program(main)
