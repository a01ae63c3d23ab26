"""First, middle and last frame of every sequence with the masks of one entry and where they are wrong."""

import argparse

from corrbench.benchmarks.registry import benchmark_of
from corrbench.datasets.davis import open_davis
from corrbench.datasets.opening import read_findings
from corrbench.errors import run_program
from corrbench.files import atomic
from corrbench.images import write_image
from corrbench.metrics.masks import masks_record
from corrbench.outputs import claim
from corrbench.reading import user_path
from corrbench.report.overlays import sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=user_path, required=True, help="annotations.json that the doctor wrote")
    parser.add_argument("--root", type=user_path, required=True, help="data root; never written to")
    parser.add_argument("--masks", type=user_path, required=True)
    parser.add_argument("--title", required=True)
    parser.add_argument("--out", type=user_path, required=True, help="PNG to write")
    args = parser.parse_args()

    data = read_findings(args.data)
    davis = open_davis(args.root, data["row"], data["sequences"], data)
    made = masks_record(args.masks, None)[1]
    picture = sheet(davis, args.masks, args.title, single_object=benchmark_of(data["row"]).single_object, made=made)
    with claim(args.out), atomic(args.out) as temporary:
        write_image(temporary, picture)


if __name__ == "__main__":
    run_program(main)
