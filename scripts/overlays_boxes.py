"""Boxes of one entry over frames of every target, and its success and precision curves."""

import argparse

from corrbench.datasets.opening import read_findings
from corrbench.datasets.otb import open_otb
from corrbench.errors import run_program
from corrbench.files import atomic, read_record
from corrbench.images import write_image
from corrbench.outputs import claim
from corrbench.reading import user_path
from corrbench.report.boxes import box_sheet, curve_figure
from corrbench.report.plots import save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=user_path, required=True, help="annotations.json that the doctor wrote")
    parser.add_argument("--root", type=user_path, required=True, help="data root; never written to")
    parser.add_argument("--boxes", type=user_path, required=True)
    parser.add_argument("--tracking", type=user_path, help="tracking.json: refuse boxes of another run")
    parser.add_argument("--scores", type=user_path, required=True, help="scores.json of the entry")
    parser.add_argument("--title", required=True)
    parser.add_argument(
        "--out", type=user_path, nargs=2, required=True, metavar=("OVERLAY", "CURVES"), help="PNGs to write"
    )
    args = parser.parse_args()

    data = read_findings(args.data)
    keys = ("entry", "key", "sequences")
    tracking = read_record(args.tracking, "a summary of tracking", keys=keys) if args.tracking else None
    otb = open_otb(args.root, data["row"], data["sequences"], data)
    picture = box_sheet(otb, args.boxes, args.title, tracking, args.tracking)
    scores = read_record(args.scores, "scores.json of a tracker", keys=("global", "curves"))
    with claim(*args.out):
        with atomic(args.out[0]) as temporary:
            write_image(temporary, picture)
        with atomic(args.out[1]) as temporary:
            save(curve_figure({args.title: scores}, f"{args.title} on {data['label']}"), temporary)


if __name__ == "__main__":
    run_program(main)
