"""Say how to get a data set, check that it lies as it should, or unpack the archives that the workflow fetched.

python -m scripts.dataset otb100                         # how to get it
python -m scripts.dataset otb100 --root /data/OTB        # what is there, what is missing, how to get it
python -m scripts.dataset davis2017 --archives a.zip b.zip --out results/data/davis2017
"""

import argparse
from pathlib import Path

from corrbench.datasets.archive import unpack
from corrbench.datasets.source import check_layout, how_to_get
from corrbench.errors import run_program
from corrbench.rows import AllRows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="row of config/datasets/")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="further folders with datasets/ rows")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--root", type=Path, help="data root to check; never written to")
    what.add_argument("--archives", type=Path, nargs="+", help="zip or tar files to unpack, one over the other")
    parser.add_argument("--out", type=Path, help="folder to unpack into")
    args = parser.parse_args()

    row = AllRows(args.rows).datasets.get(args.name, "name")
    if args.root is None and not args.archives:
        print(f"{row['title']}: {how_to_get(row)}")
        return
    root = args.root
    if args.archives:
        unpack(args.archives, args.out)
        root = args.out / row["root"]
    print(f"{row['title']} at {root}")
    for line in check_layout(row, root):
        print(f"  {line}")


if __name__ == "__main__":
    run_program(main)
