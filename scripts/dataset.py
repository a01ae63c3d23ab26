"""Say how to get a data set, check that it lies as it should, or unpack the archives that the workflow fetched.

python -m scripts.dataset otb100                         # how to get it
python -m scripts.dataset otb100 --root /data/OTB        # what is there, what is missing, how to get it
python -m scripts.dataset davis2017 --archives a.zip b.zip --out results/data/davis2017
"""

import argparse
from pathlib import Path

from corrbench.datasets.archive import archive_notes, unpack
from corrbench.datasets.source import check_layout, how_to_get
from corrbench.errors import run_program
from corrbench.reading import user_path
from corrbench.rows import AllRows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="row of config/datasets/")
    parser.add_argument("--rows", type=user_path, nargs="*", default=[], help="further folders with datasets/ rows")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--root", type=user_path, help="data root to check; never written to")
    what.add_argument("--archives", type=user_path, nargs="+", help="zip or tar files to unpack, one over the other")
    parser.add_argument(
        "--out",
        type=user_path,
        help="folder to unpack into; replaced if it holds nothing but what an earlier call unpacked",
    )
    args = parser.parse_args()
    if args.archives and args.out is None:
        parser.error("--archives needs --out, the folder to unpack into")

    row = AllRows(args.rows).datasets.get(args.name, "name")
    if args.root is None and not args.archives:
        print(f"{row['title']}: {how_to_get(row)}")
        return
    lines: list[str] = []
    if args.archives:
        root = args.out / row["root"]

        def check(folder: Path) -> None:
            lines.extend(check_layout(row, folder / row["root"], shown=root))

        unpack(args.archives, args.out, check)
        lines += [f"note: {note}" for note in archive_notes(args.archives)]
    else:
        root = args.root
        lines += check_layout(row, root)
    print(f"{row['title']} at {root}")
    for line in lines:
        print(f"  {line}")


if __name__ == "__main__":
    run_program(main)
