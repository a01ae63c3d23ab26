"""Download the released file of a method, an archive of a data set, or masks that somebody made: resumed, checked, renamed when complete."""

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from corrbench.datasets.source import how_to_get
from corrbench.download import download
from corrbench.errors import Refusal, run_program
from corrbench.files import settings_of
from corrbench.reading import user_path
from corrbench.rows import AllRows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--method", help="row of config/methods/ with `released:`")
    what.add_argument("--dataset", help="row of config/datasets/; --out ends with the name of one of its archives")
    what.add_argument("--masks", help="JSON: addresses, size and hash of an archive of masks")
    parser.add_argument("--rows", type=user_path, nargs="*", default=[], help="further folders with rows")
    parser.add_argument("--out", type=user_path, required=True, help="file to write")
    args = parser.parse_args()

    source: Mapping[str, Any] | None
    if args.masks:
        row, source = {"name": args.out.name}, settings_of(args.masks)
        do = "correct the row of the masks"
    elif args.method:
        row = AllRows(args.rows).methods.get(args.method, "--method")
        source = row.get("released")
        do = "use random weights"
    else:
        row = AllRows(args.rows).datasets.get(args.dataset, "--dataset")
        source = next((a for a in row["archives"] if a["file"] == args.out.name), None)
        do = how_to_get(row)
    if source is None:
        raise Refusal(f"{row['name']} has no file to download", expected="a row with addresses", do=do)
    warning = download(source["addresses"], args.out, size=source.get("size"), claim=source.get("hash"))
    if warning:
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    run_program(main)
