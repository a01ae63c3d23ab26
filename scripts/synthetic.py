"""Write the synthetic data set of a benchmark row that has `generate:`, in DAVIS-2017's layout."""

import argparse
import shutil
from pathlib import Path

from corrbench.datasets.synthetic import write_davis
from corrbench.errors import Refusal, run_program
from corrbench.provenance import ROOT
from corrbench.rows import Rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmark", default="synthetic-val", help="row of config/benchmarks/")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="further folders with benchmarks/ rows")
    parser.add_argument("--out", type=Path, required=True, help="root folder to write; replaced if it exists")
    args = parser.parse_args()

    row = Rows([ROOT / "config", *args.rows], "benchmarks", "benchmark").get(args.benchmark, "--benchmark")
    if "generate" not in row:
        raise Refusal(
            f"{args.benchmark} is not synthetic",
            expected="a row with `generate:`",
            do="use --benchmark synthetic-val",
        )
    if args.out.exists():
        shutil.rmtree(args.out)
    write_davis(args.out, row["sequences"], split=row["split"], **row["generate"])


if __name__ == "__main__":
    run_program(main)
