"""Convert a checkpoint of any known family to the canonical weights file, with strict checks and a report.

python -m scripts.convert --method crw-r18 --checkpoint pretrained.pth --out weights.pt
python -m scripts.convert --method random-r18 --seed 0 --out weights.pt
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from corrbench.errors import Refusal, run_program
from corrbench.files import file_hash, linked, read_json, settings_of, write_record
from corrbench.outputs import claim
from corrbench.provenance import code_version
from corrbench.reading import natural_number, user_path
from corrbench.rows import AllRows
from corrbench.weights.canonical import is_canonical, save_weights
from corrbench.weights.convert import convert, random_weights
from corrbench.weights.opening import read_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", required=True, help="row of config/methods/ that the weights are for")
    parser.add_argument("--rows", type=user_path, nargs="*", default=[], help="further folders with methods/ rows")
    parser.add_argument(
        "--settings",
        help="JSON of the row's encoder, family and hash, in place of the row (used by the workflow)",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=user_path, help="file to convert")
    source.add_argument("--seed", type=natural_number, help="make seeded, untrained weights")
    parser.add_argument(
        "--container",
        metavar="NAME",
        help="entry of the checkpoint to take (teacher, state_dict_ema, ...) where several fit; or the prefix of its names",
    )
    parser.add_argument(
        "--released",
        action="store_true",
        help="the checkpoint is the file that the row names: demand its family and its published hash",
    )
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="open a pickle that holds more than tensors; runs its code",
    )
    parser.add_argument(
        "--out",
        type=user_path,
        required=True,
        help="weights file to write; report.json goes beside it (one weights file a folder)",
    )
    args = parser.parse_args()

    code = code_version("scripts/convert.py")  # of what was loaded, whatever is edited meanwhile
    if args.settings:
        encoder, released = method_of(args.settings)
    else:
        row = AllRows(args.rows).methods.get(args.method, "--method")
        encoder, released = row["encoder"], row.get("released") or {}
    report = args.out.with_name("report.json")
    with claim(args.out, report):
        refuse_foreign(args.out, report, args.checkpoint)
        if args.seed is not None:
            weights = random_weights(encoder, method=args.method, seed=args.seed)
        else:
            weights = convert(
                args.checkpoint,
                encoder=encoder,
                method=args.method,
                family=released.get("family") if args.released else None,
                claim=released.get("hash") if args.released else None,
                trust_pickle=args.trust_pickle,
                container=args.container,
            )
        save_weights(args.out, weights)
        # as it was given: equal runs in two folders have equal reports
        origin = {"converted_from": str(args.checkpoint)} if args.checkpoint else {}
        made = {**weights.meta, **origin, "code": code, "weights_file_sha256": file_hash(args.out)}
        write_record(report, made)
    print(json.dumps(weights.meta, indent=2))
    if stripped := weights.meta.get("stripped"):
        print(f"note: stripped {', '.join(stripped)} from the names of the checkpoint", file=sys.stderr)
    for note in weights.meta.get("notes", []):
        print(f"note: {note}", file=sys.stderr)


def method_of(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Encoder and released file of a method, from JSON."""
    settings = settings_of(text)
    if not isinstance(settings.get("encoder"), dict):
        raise Refusal("--settings: no encoder in it", expected="JSON with `encoder`", do="correct --settings")
    return settings["encoder"], settings.get("released") or {}


def refuse_foreign(out: Path, report: Path, checkpoint: Path | None) -> None:
    """Raise Refusal before a file is replaced that no conversion wrote."""
    if out.name == report.name:
        raise Refusal(f"--out {out}: the name of the report", expected="another name", do="name it weights.pt")
    if checkpoint is not None and checkpoint.exists() and out.exists() and checkpoint.samefile(out):
        raise Refusal(f"--out {out}: the checkpoint itself", expected="another file", do="name another --out")
    ours = False
    if report.is_file():
        try:
            found = read_json(report)
        except Refusal:
            found = None if out.exists() else {}
        ours = isinstance(found, dict) and "converter_version" in found
        if found is not None and not ours:
            raise _foreign(report)
    if out.exists() and not ours:
        if out.is_dir():
            raise Refusal(f"--out {out}: a folder", expected="a file", do=f"name a file in it: {out / 'weights.pt'}")
        try:
            ours = is_canonical(read_checkpoint(linked(out)))
        except Refusal:
            ours = False
        if not ours:
            raise _foreign(out)


def _foreign(path: Path) -> Refusal:
    return Refusal(
        f"{path}: a file that scripts/convert.py did not write; nothing was changed",
        expected="nothing there, or a file of an earlier conversion",
        do="name another --out, or move this file elsewhere",
    )


if __name__ == "__main__":
    run_program(main)
