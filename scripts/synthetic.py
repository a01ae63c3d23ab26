"""Write the synthetic data set of a row that has `generate:`: a benchmark in the layout of DAVIS-2017 or OTB-100,
or videos or tracks for training."""

import argparse
from collections.abc import Mapping
from typing import Any

from corrbench.datasets.synthetic import write_clips, write_davis, write_videos
from corrbench.datasets.synthetic_tracks import write_got10k, write_otb
from corrbench.errors import Refusal, few, run_program
from corrbench.outputs import made_folder
from corrbench.reading import is_litter, user_path
from corrbench.rows import AllRows

KIND = "synthetic data"


WRITERS = {
    "davis": lambda place, names, row: write_davis(place, names, split=row["split"], **row["generate"]),
    "otb": lambda place, names, row: write_otb(place, names, **row["generate"]),
}
"""What writes synthetic data in a layout."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--benchmark", default="synthetic-val", help="row of config/benchmarks/")
    which.add_argument("--videos", help="row of config/datasets/ with `videos: {generate: ...}`")
    parser.add_argument("--rows", type=user_path, nargs="*", default=[], help="further folders of rows")
    parser.add_argument(
        "--out",
        type=user_path,
        required=True,
        help="root folder to write; replaced if it holds nothing but an earlier one",
    )
    args = parser.parse_args()

    if args.videos:
        videos = AllRows(args.rows).datasets.get(args.videos, "--videos").get("videos", {})
        wanted = videos.get("generate")
        if wanted is None:
            raise Refusal(
                f"{args.videos} is not synthetic", expected="a row with `generate:`", do="use --videos synthetic-videos"
            )
        writers = {"videos": write_videos, "tracks": write_got10k, "masks": write_clips}
        if videos["kind"] not in writers or ("static" in wanted and videos["kind"] != "masks"):
            raise Refusal(
                f"{args.videos}: `generate:` of kind {videos['kind']}"
                + (" with `static`" if "static" in wanted else ""),
                expected="videos, tracks, or masks (which alone may be static)",
                do="correct the row",
            )
        with made_folder(args.out, KIND) as temporary:
            writers[videos["kind"]](temporary, **wanted)
        return
    row = AllRows(args.rows).benchmarks.get(args.benchmark, "--benchmark")
    if "generate" not in row:
        raise Refusal(
            f"{args.benchmark} is not synthetic",
            expected="a row with `generate:`",
            do="use --benchmark synthetic-val",
        )
    if row["dataset"] not in WRITERS or (row["dataset"] == "davis" and "split" not in row):
        raise Refusal(
            f"{args.benchmark} is neither of DAVIS nor of boxes",
            expected="a row with `split:` or `scoring: boxes`",
            do="correct the row",
        )
    names = _names(row)
    with made_folder(args.out, KIND) as temporary:
        WRITERS[row["dataset"]](temporary, names, row)


def _names(row: Mapping[str, Any]) -> list[str]:
    """The sequences of a row, each of which becomes a folder and a line of a list."""
    names = row.get("sequences") or []
    wrong = [
        n for n in names if n in ("", ".", "..") or set("/\0\n\r") & set(n) or is_litter(n) or len(n.encode()) > 200
    ]
    wrong = wrong or sorted({n for n in names if names.count(n) > 1})
    if wrong or not names:
        raise Refusal(
            f"{row['name']}: sequences: {few([repr(n) for n in wrong]) if wrong else 'none'}",
            expected="a plain name for every sequence, each once",
            do="correct `sequences:` of the row",
        )
    return list(names)


if __name__ == "__main__":
    run_program(main)
