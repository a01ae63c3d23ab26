"""Pack masks into the zip that an evaluation server takes, after checking that every frame of every sequence is there.

DAVIS: the sequence folders lie directly in the zip. YouTube-VOS: below one folder, Annotations/.
"""

import argparse
import zipfile
from pathlib import Path

from corrbench.datasets.opening import is_youtube_vos
from corrbench.errors import Refusal, few, run_program
from corrbench.files import atomic, read_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, required=True, help="<sequence>/<frame>.png")
    parser.add_argument("--data", type=Path, required=True, help="inputs.json that the doctor wrote")
    parser.add_argument("--out", type=Path, required=True, help="zip file to write")
    args = parser.parse_args()

    data = read_json(args.data)
    files = {name: sorted((args.masks / name).glob("*.png")) for name in data["sequences"]}
    wrong = [
        f"{name} has {len(found)} masks for {data['counts'][name]['frames']} frames"
        for name, found in files.items()
        if len(found) != data["counts"][name]["frames"]
    ]
    if wrong:
        raise Refusal(
            f"{args.masks}: {few(wrong)}",
            expected="a mask for every frame of every sequence",
            do="run the propagate (or segment) and postprocess stages for them",
        )
    top = "Annotations/" if is_youtube_vos(data["row"]) else ""
    with atomic(args.out) as packed, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, found in files.items():
            for path in found:
                # a fixed date: equal masks give equal bytes
                archive.writestr(zipfile.ZipInfo(f"{top}{name}/{path.name}"), path.read_bytes())
    print(f"{args.out}: {len(files)} sequences, {sum(map(len, files.values()))} masks")


if __name__ == "__main__":
    run_program(main)
