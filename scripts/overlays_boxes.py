"""Boxes of one entry over frames of every target, and its success and precision curves."""

import argparse

from corrbench.datasets.otb import open_otb
from corrbench.errors import run_program
from corrbench.files import atomic, read_record
from corrbench.images import write_image
from corrbench.reading import user_path
from corrbench.report.boxes import box_sheet, curve_figure
from corrbench.report.plots import save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=user_path, required=True, help="annotations.json that the doctor wrote")
    parser.add_argument("--root", type=user_path, required=True, help="data root; never written to")
    parser.add_argument("--boxes", type=user_path, required=True)
    parser.add_argument("--scores", type=user_path, required=True, help="scores.json of the entry")
    parser.add_argument("--title", required=True)
    parser.add_argument(
        "--out", type=user_path, nargs=2, required=True, metavar=("OVERLAY", "CURVES"), help="PNGs to write"
    )
    args = parser.parse_args()

    data = read_record(args.data, "the doctor's record")
    picture = box_sheet(open_otb(args.root, data["row"], data["sequences"], data), args.boxes, args.title)
    with atomic(args.out[0]) as temporary:
        write_image(temporary, picture)
    with atomic(args.out[1]) as temporary:
        save(
            curve_figure({args.title: read_record(args.scores, "scores")}, f"{args.title} on {data['label']}"),
            temporary,
        )


if __name__ == "__main__":
    run_program(main)
