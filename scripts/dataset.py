"""Say how to get a data set, check that it lies as it should, or unpack the archives that the workflow fetched.

python -m scripts.dataset otb100                         # how to get it
python -m scripts.dataset otb100 --root /data/OTB        # what is there, what is missing, how to get it
python -m scripts.dataset kinetics400 --fetch /data/kinetics   # fetch and unpack its many archives; again to go on
python -m scripts.dataset davis2017 --archives a.zip b.zip --out results/data/davis2017
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corrbench.datasets.archive import archive_notes, unpack
from corrbench.datasets.parts import fetch_parts
from corrbench.datasets.source import check_layout, how_to_get
from corrbench.errors import Refusal, run_program
from corrbench.outputs import claim
from corrbench.reading import user_path
from corrbench.rows import AllRows


def fetch(row: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Fetch a data set that is a list of archives."""
    if "parts_list" not in row:
        raise Refusal(
            f"--fetch {row['name']}: no list of archives",
            expected="kinetics400, or a row with `parts_list:`",
            do=how_to_get(row),
        )
    with claim(args.fetch / row["parts_list"]["folder"]):
        found = fetch_parts(row, args.fetch, connections=args.connections, only=args.only)
    good = found.parts - len(found.failed)
    print(f"{row['title']} at {args.fetch}: {good} of {found.parts} archives, {found.videos} videos")
    for name, why in found.failed.items():
        print(f"  {name}: {why}", file=sys.stderr)
    if found.failed:
        raise Refusal(
            f"{len(found.failed)} of {found.parts} archives did not arrive",
            expected="all of them",
            do="run the same command again: it fetches what is missing; or train on what came",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="row of config/datasets/")
    parser.add_argument("--rows", type=user_path, nargs="*", default=[], help="further folders with datasets/ rows")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--root", type=user_path, help="data root to check; never written to")
    what.add_argument("--archives", type=user_path, nargs="+", help="zip or tar files to unpack, one over the other")
    what.add_argument("--fetch", type=user_path, help="data root to fill, for a data set that is a list of archives")
    parser.add_argument("--connections", type=int, default=4, help="archives that are fetched at a time (default 4)")
    parser.add_argument("--only", nargs="+", default=[], help="archives of the list, for a share of the data set")
    parser.add_argument(
        "--out",
        type=user_path,
        help="folder to unpack into; replaced if it holds nothing but what an earlier call unpacked",
    )
    args = parser.parse_args()
    if not 1 <= args.connections <= 64:
        parser.error("--connections takes 1 to 64")
    if args.archives and args.out is None:
        parser.error("--archives needs --out, the folder to unpack into")

    row = AllRows(args.rows).datasets.get(args.name, "name")
    if args.fetch is not None:
        fetch(row, args)
        return
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
