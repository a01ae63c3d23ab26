"""Convert a checkpoint of any known family to the canonical weights file, with strict checks and a report.

python -m scripts.convert --method crw-r18 --checkpoint pretrained.pth --out weights.pt
python -m scripts.convert --method random-r18 --seed 0 --out weights.pt
"""

import argparse
import json
from pathlib import Path

from corrbench.errors import run_program
from corrbench.files import write_json
from corrbench.rows import AllRows
from corrbench.weights.canonical import save_weights
from corrbench.weights.convert import convert, random_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", required=True, help="row of config/methods/ that the weights are for")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="further folders with methods/ rows")
    parser.add_argument(
        "--settings",
        help="JSON of the row's encoder, family and hash, in place of the row (used by the workflow)",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, help="file to convert")
    source.add_argument("--seed", type=int, help="make seeded, untrained weights")
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
    parser.add_argument("--out", type=Path, required=True, help="weights file to write; report.json goes beside it")
    args = parser.parse_args()

    if args.settings:
        settings = json.loads(args.settings)
    else:
        row = AllRows(args.rows).methods.get(args.method, "--method")
        settings = {"encoder": row["encoder"], "released": row.get("released")}
    encoder, released = settings["encoder"], settings["released"] or {}
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
        )
    save_weights(args.out, weights)
    write_json(args.out.with_name("report.json"), weights.meta)
    print(json.dumps(weights.meta, indent=2))


if __name__ == "__main__":
    run_program(main)
