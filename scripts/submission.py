"""Pack masks into the zip that an evaluation server takes, after checking that every frame of every sequence is there.

DAVIS: the sequence folders lie directly in the zip. YouTube-VOS: below one folder, Annotations/.
"""

import argparse
import zipfile

from corrbench.benchmarks.registry import benchmark_of
from corrbench.datasets.opening import read_findings
from corrbench.errors import Refusal, run_program
from corrbench.files import atomic, read_record
from corrbench.images import decode_ids, read_known
from corrbench.metrics.masks import SUMMARY, masks_record
from corrbench.outputs import claim
from corrbench.reading import list_files, user_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=user_path, required=True, help="<sequence>/<frame>.png")
    parser.add_argument("--propagation", type=user_path, help="propagation.json: refuse masks of another run")
    parser.add_argument("--data", type=user_path, required=True, help="inputs.json that the doctor wrote")
    parser.add_argument("--out", type=user_path, required=True, help="zip file to write")
    args = parser.parse_args()

    data = read_findings(args.data)
    record, made = masks_record(args.masks, args.propagation)
    if record is None:
        raise Refusal(
            f"{args.masks}: no record.json",
            expected="masks that the postprocess or segment stage made, with the record of their content",
            do="run these stages; masks from elsewhere are packed with zip, after `scripts.doctor` looked at the data",
        )
    if args.propagation and read_record(args.propagation, keys=SUMMARY)["record"].get("inputs") != data["fingerprint"]:
        raise Refusal(
            f"{args.masks}: masks of other images or first annotations than {args.data} lists",
            expected="masks of this data set",
            do="run the workflow again",
        )
    files = {name: list_files(args.masks / name, (".png",)) for name in data["sequences"]}
    for name, found in files.items():
        wanted = data["counts"][name]["frames"]
        made.check_names(args.masks / name, [p.name for p in found], "annotations")
        if len(found) != wanted:
            raise Refusal(
                f"{args.masks / name}: {len(found)} masks for {wanted} frames",
                expected="a mask for every frame of every sequence",
                do="run the propagate (or segment) and postprocess stages for them",
            )
    top = benchmark_of(data["row"]).zip_folder
    with (
        claim(args.out),
        atomic(args.out) as packed,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, found in files.items():
            for path in found:
                content, _ = read_known(path, made)
                decode_ids(path, content)
                # a fixed date: equal masks give equal bytes
                archive.writestr(zipfile.ZipInfo(f"{top}{name}/{path.name}"), content)
    print(f"{args.out}: {len(files)} sequences, {sum(map(len, files.values()))} masks")


if __name__ == "__main__":
    run_program(main)
