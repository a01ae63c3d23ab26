"""Download the released file of a method: addresses in order, resumed, hash checked, renamed when complete."""

import argparse
import sys
from pathlib import Path

from corrbench.download import download
from corrbench.errors import Refusal, run_program
from corrbench.provenance import ROOT
from corrbench.rows import Rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", required=True, help="row of config/methods/ with `released:`")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="further folders with methods/ rows")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    args = parser.parse_args()

    row = Rows([ROOT / "config", *args.rows], "methods", "method").get(args.method, "--method")
    if "released" not in row:
        raise Refusal(f"{args.method} has no released file", expected="a row with `released:`", do="use random weights")
    released = row["released"]
    warning = download(released["addresses"], args.out, size=released.get("size"), claim=released["hash"])
    if warning:
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    run_program(main)
