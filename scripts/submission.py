"""Pack masks into the zip that an evaluation server takes, after checking that every sequence is there."""

import argparse
import json
import zipfile
from pathlib import Path

from corrbench.errors import Refusal, run_program
from corrbench.files import atomic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--masks", type=Path, required=True, help="<sequence>/<frame>.png")
    parser.add_argument("--settings", required=True, help="JSON of the benchmark")
    parser.add_argument("--out", type=Path, required=True, help="zip file to write")
    args = parser.parse_args()

    names = json.loads(args.settings)["sequences"]
    missing = [n for n in names if not any((args.masks / n).glob("*.png"))]
    if missing:
        raise Refusal(
            f"{args.masks}: no masks for {', '.join(missing)}",
            expected="every sequence of the split",
            do="run the propagate and postprocess stages for them",
        )
    with atomic(args.out) as packed, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            for path in sorted((args.masks / name).glob("*.png")):
                # a fixed date: equal masks give equal bytes
                archive.writestr(zipfile.ZipInfo(f"{name}/{path.name}"), path.read_bytes())


if __name__ == "__main__":
    run_program(main)
