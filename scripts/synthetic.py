"""Write the synthetic data set of a row that has `generate:`: a benchmark in the layout of DAVIS-2017 or OTB-100,
or videos or tracks for training."""

import argparse
import shutil
from pathlib import Path

from corrbench.datasets.opening import is_tracking
from corrbench.datasets.synthetic import write_clips, write_davis, write_videos
from corrbench.datasets.synthetic_tracks import write_got10k, write_otb
from corrbench.errors import Refusal, run_program
from corrbench.files import atomic, full_disk_refused
from corrbench.rows import AllRows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--benchmark", default="synthetic-val", help="row of config/benchmarks/")
    which.add_argument("--videos", help="row of config/datasets/ with `videos: {generate: ...}`")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="further folders of rows")
    parser.add_argument("--out", type=Path, required=True, help="root folder to write; replaced if it exists")
    args = parser.parse_args()

    if args.videos:
        videos = AllRows(args.rows).datasets.get(args.videos, "--videos").get("videos", {})
        wanted = videos.get("generate")
        if wanted is None:
            raise Refusal(
                f"{args.videos} is not synthetic", expected="a row with `generate:`", do="use --videos synthetic-videos"
            )
        with atomic(args.out) as temporary:
            writers = {"tracks": write_got10k, "masks": write_clips}
            writers.get(videos["kind"], write_videos)(temporary, **wanted)
        return
    row = AllRows(args.rows).benchmarks.get(args.benchmark, "--benchmark")
    if "generate" not in row:
        raise Refusal(
            f"{args.benchmark} is not synthetic",
            expected="a row with `generate:`",
            do="use --benchmark synthetic-val",
        )
    if args.out.exists():
        shutil.rmtree(args.out)
    with full_disk_refused(args.out):
        if is_tracking(row):
            write_otb(args.out, row["sequences"], **row["generate"])
        else:
            write_davis(args.out, row["sequences"], split=row["split"], **row["generate"])


if __name__ == "__main__":
    run_program(main)
