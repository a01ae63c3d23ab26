"""A film of masks over their videos, one sequence after the other.

python -m scripts.film --benchmark davis2017-val --root /data/DAVIS-2017 --masks results/davis2017-val/crw-r18.released.crw/masks \\
    --sequences dance-twirl judo --out judo.mp4

Any masks in the DAVIS layout (palette or gray PNGs of object ids) can be shown, also those of other programs; other layouts are taken in
by `masks:` in a config (docs/given-masks.md). White outlines are what was missed, magenta ones what is too much.
"""

import argparse
from collections.abc import Iterator

from corrbench.benchmarks.base import PROPAGATE
from corrbench.benchmarks.registry import benchmark_of
from corrbench.datasets.benchmark import settings_by_hand
from corrbench.datasets.davis import open_davis
from corrbench.errors import Refusal, nearest, run_program
from corrbench.outputs import claim
from corrbench.progress import Progress
from corrbench.reading import user_path
from corrbench.report.film import film_frames, write_film
from corrbench.report.pictures import Picture
from corrbench.rows import AllRows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", required=True, help="row of config/benchmarks/, on DAVIS")
    parser.add_argument("--root", type=user_path, required=True, help="data root; never written to")
    parser.add_argument("--masks", type=user_path, required=True, help="<sequence>/<frame>.png below it")
    parser.add_argument("--sequences", nargs="+", default=[], help="default: all")
    parser.add_argument(
        "--out", type=user_path, required=True, help="film to write: .mp4, .webm (which browsers show) or .gif"
    )
    parser.add_argument("--width", type=int, default=640, help="pixels (default 640)")
    parser.add_argument("--fps", type=float, default=24, help="frames a second (default 24)")
    parser.add_argument("--plain", action="store_true", help="masks only: no outlines of errors, no J&F")
    parser.add_argument("--rows", type=user_path, nargs="*", default=[], help="further folders with rows")
    args = parser.parse_args()
    if args.width < 16 or args.width % 2 or not 0 < args.fps <= 240:
        parser.error("--width takes even numbers from 16 on, --fps those up to 240")

    row = AllRows(args.rows).benchmarks.get(args.benchmark, "--benchmark")
    benchmark = benchmark_of(row)
    if PROPAGATE not in benchmark.stages:
        raise Refusal(
            f"--benchmark {args.benchmark}: no benchmark of DAVIS masks",
            expected="davis2016-val, davis2017-val or a row of yours like them",
            do="name one",
        )
    settings = settings_by_hand(args.benchmark, args.root, subset=True, rows=args.rows)
    names = args.sequences or settings["sequences"]
    for name in names:
        if name not in settings["sequences"]:
            raise Refusal(
                f"--sequences {name}: not in {args.benchmark}",
                expected=nearest(name, settings["sequences"]),
                do="correct it",
            )
    davis = open_davis(args.root, settings["row"], settings["sequences"])
    single = benchmark.single_object
    truth = not args.plain and benchmark.scored_here
    bar = Progress("film", sum(len(davis.sequence(name).images) for name in names), unit="frame")

    def frames() -> Iterator[Picture]:
        for name in names:
            for frame in film_frames(davis, name, args.masks, width=args.width, single_object=single, truth=truth):
                bar.advance(1)
                yield frame

    with claim(args.out), bar:
        count = write_film(args.out, frames(), args.fps)
    print(f"{args.out}: {count} frames of {len(names)} sequences")


if __name__ == "__main__":
    run_program(main)
