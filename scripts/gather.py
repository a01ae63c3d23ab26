"""Put the summaries of an entry's parts together, as if one job had propagated all sequences.

Parts that do not fit (other settings, weights or data; score files that another run replaced since; devices that differ)
are removed and refused: the next run of the workflow makes them again, and keeps the sequences that fit.
"""

import argparse
import re

from corrbench.datasets.opening import read_findings
from corrbench.errors import Refusal, run_program
from corrbench.files import read_record, settings_of, write_record
from corrbench.metrics.masks import SUMMARY
from corrbench.outputs import claim
from corrbench.propagation.parts import merge, unfit
from corrbench.reading import user_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=user_path, nargs="+", required=True, help="summaries of propagate.py --part")
    parser.add_argument("--labels", type=user_path, required=True, help="folder of score files")
    parser.add_argument("--settings", required=True, help="JSON: what the config asks of propagation")
    parser.add_argument("--reports", type=user_path, nargs="*", default=[], help="reports of the weights files")
    parser.add_argument("--data", type=user_path, required=True, help="inputs.json that the doctor wrote")
    parser.add_argument("--out", type=user_path, required=True, help="summary to write")
    args = parser.parse_args()

    data = read_findings(args.data)
    wanted = {
        "settings": settings_of(args.settings),
        "weights_sha256": [
            read_record(path, "a conversion report", keys=["sha256"])["sha256"] for path in args.reports
        ],
        "inputs": data["fingerprint"],
    }
    parts, ill = {}, {}
    for path in args.parts:
        try:
            parts[path] = read_record(path, "a part's summary", keys=SUMMARY)
            why = unfit(parts[path], wanted, args.labels)
        except Refusal as refusal:
            why = str(refusal).splitlines()[0]
        if why:
            ill[path] = why
    try:
        if ill:
            raise Refusal(
                "parts that do not fit: " + "; ".join(f"{path}: {why}" for path, why in ill.items()),
                expected="parts made by the settings, weights and data of now",
                do="run the workflow again: these parts were removed and will be made again",
            )
        summary = merge(list(parts.values()), data["sequences"])
    except Refusal:
        for path in ill or parts:
            if re.fullmatch(
                r"\d+of\d+\.json", path.name
            ):  # as the workflow calls parts; nothing else is ours to remove
                path.unlink(missing_ok=True)
        raise
    with claim(args.out):
        write_record(args.out, summary)
    print(f"{len(args.parts)} parts, {len(summary['sequences'])} sequences, {summary['frames']} frames")


if __name__ == "__main__":
    run_program(main)
