"""Check a data root: counts, sizes, ids, decodable files, complete split. Prints what is wrong and what to do.

By hand:      python -m scripts.doctor --benchmark davis2017-val --root /data/DAVIS-2017   (or otb100)
In the flow:  writes the fingerprint of what propagation or the metric will read, and refuses ill data.
"""

import argparse
import os

from corrbench.benchmarks.registry import benchmark_of, code_of
from corrbench.datasets.benchmark import settings_by_hand
from corrbench.errors import Refusal, run_program
from corrbench.files import settings_of, write_record
from corrbench.outputs import claim
from corrbench.reading import positive, user_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--benchmark", help="row of config/benchmarks/")
    which.add_argument("--settings", help="JSON of the benchmark as the workflow gives it")
    parser.add_argument("--rows", type=user_path, nargs="*", default=[], help="further folders with benchmarks/ rows")
    parser.add_argument("--root", type=user_path, required=True, help="data root; never written to")
    parser.add_argument("--subset", action="store_true", help="a part of the split is enough: check what is there")
    parser.add_argument(
        "--kind", choices=("inputs", "annotations"), default="inputs", help="which fingerprint to write"
    )
    parser.add_argument("--version", help="content version of the files, for the record (used by the workflow)")
    parser.add_argument("--out", type=user_path, help="JSON file for the fingerprint, settings and counts")
    parser.add_argument("--workers", type=positive, default=os.cpu_count(), help="processes")
    args = parser.parse_args()

    if args.settings:
        settings = settings_of(args.settings)
    else:
        settings = settings_by_hand(args.benchmark, args.root, subset=args.subset, rows=args.rows)
    row, names = settings["row"], settings["sequences"]
    code = code_of("doctor", row)  # of what was loaded, whatever is edited meanwhile
    if not args.root.is_dir():
        raise Refusal(
            f"{args.root}: no such folder",
            expected=f"the root of {settings['label']}",
            do="correct --root, or `data:` in the config",
        )
    benchmark = benchmark_of(row)
    diagnosis = benchmark.diagnose(args.root, names, subset=settings["subset"], workers=args.workers)
    print(f"{settings['label']} below {args.root}")
    print("\n".join(diagnosis.lines()))
    diagnosis.refuse_if_ill()
    if args.out:
        counts = {f.name: {"frames": f.frames, "objects": f.objects} for f in diagnosis.findings}
        fingerprint = diagnosis.fingerprint(args.kind)
        record = {**settings, "kind": args.kind, "fingerprint": fingerprint, "version": args.version, "counts": counts,
                  "code": code}  # fmt: skip
        with claim(args.out):
            write_record(args.out, {**record, "files": diagnosis.files(args.kind)})


if __name__ == "__main__":
    run_program(main)
