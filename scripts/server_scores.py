"""Note what an evaluation server returned for a submission, so that the table has it.

python -m scripts.server_scores results/davis2017-test-dev/mivos-s012.released.mivos --scores "J&F=76.5" J-mean=72.7 F-mean=80.2
python -m scripts.server_scores results/ytvos2019-val/mivos-s012.released.mivos-ytvos --scores "J&F=82.0" J-seen=80.6 J-unseen=77.3 F-seen=84.7 F-unseen=85.5

Numbers in percent. The hash of submission.zip is kept with them; the table refuses them once the zip is another one.
"""

import argparse
from pathlib import Path

from corrbench.benchmarks.registry import benchmark_of
from corrbench.errors import Refusal, run_program
from corrbench.reading import user_path
from corrbench.report.server import write_server
from corrbench.rows import AllRows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=user_path, help="the entry's folder, <results>/<benchmark>/<entry>")
    parser.add_argument("--scores", nargs="+", required=True, metavar="NAME=PERCENT")
    parser.add_argument("--date", default="", help="when it was scored, as 2026-11-30 (default: today)")
    parser.add_argument("--rows", type=user_path, nargs="*", default=[], help="further folders with rows")
    args = parser.parse_args()

    folder = Path(args.folder)
    benchmark = AllRows(args.rows).benchmarks.get(folder.resolve().parent.name, "folder")
    if benchmark_of(benchmark).scored_here:
        raise Refusal(
            f"{folder}: {benchmark['name']} is scored here",
            expected="a benchmark whose server scores",
            do="read table.csv",
        )
    path = write_server(folder, benchmark, dict(_score(text) for text in args.scores), args.date)
    print(f"{path}: run the workflow again, and the table has it")


def _score(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        return name, float(value) if equals else float("nan")
    except ValueError as error:
        raise Refusal(f"--scores {text}", expected="NAME=PERCENT, for example J-mean=72.7", do="correct it") from error


if __name__ == "__main__":
    run_program(main)
