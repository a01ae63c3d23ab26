"""Put the summaries of an entry's parts together, as if one job had propagated all sequences."""

import argparse
from pathlib import Path

from corrbench.errors import run_program
from corrbench.files import read_json, write_json
from corrbench.propagation.parts import merge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=Path, nargs="+", required=True, help="summaries of propagate.py --part")
    parser.add_argument("--data", type=Path, required=True, help="inputs.json that the doctor wrote")
    parser.add_argument("--out", type=Path, required=True, help="summary to write")
    args = parser.parse_args()

    summary = merge([read_json(path) for path in args.parts], read_json(args.data)["sequences"])
    write_json(args.out, summary)
    print(f"{len(args.parts)} parts, {len(summary['sequences'])} sequences, {summary['frames']} frames")


if __name__ == "__main__":
    run_program(main)
