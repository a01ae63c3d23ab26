"""Decode score files into palette masks in the DAVIS submission layout."""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from corrbench.datasets.palette import save_mask
from corrbench.errors import Refusal, run_program
from corrbench.files import atomic, read_json, write_json
from corrbench.progress import Progress
from corrbench.propagation.decode import decode
from corrbench.propagation.protocol import Decode
from corrbench.propagation.scoremaps import ScoreReader
from corrbench.provenance import code_version, libraries


def decode_sequence(arguments: tuple[Path, Path, Decode, str]) -> str:
    """Write the masks of one sequence. Raises Refusal when the score file is not of this run."""
    path, folder, rule, key = arguments
    reader = ScoreReader(path)
    if reader.record.get("key") != key:
        raise Refusal(
            f"{path}: made by other settings than the summary beside it",
            expected=f"key {key}",
            do="run the propagate stage again",
        )
    folder.mkdir(parents=True)
    for t, (frame, scores) in enumerate(zip(reader.frames, reader, strict=True)):
        first = t == 0 and rule.first_frame == "annotation"
        mask = reader.first_mask if first else decode(scores, reader.ids, reader.sizes, rule)
        save_mask(folder / f"{frame}.png", mask)
    return path.stem


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--propagation", type=Path, required=True, help="summary that propagate.py wrote")
    parser.add_argument("--labels", type=Path, required=True, help="folder of score files")
    parser.add_argument("--settings", required=True, help="JSON: {decode: {...}}, the protocol's decode rules")
    parser.add_argument("--out", type=Path, required=True, help="folder of masks to write")
    parser.add_argument("--workers", type=int, default=1, help="threads")
    args = parser.parse_args()

    code = code_version("scripts/postprocess.py")  # of what was loaded, whatever is edited meanwhile
    torch.set_num_threads(1)
    rule = Decode(**json.loads(args.settings)["decode"])
    summary = read_json(args.propagation)
    names = list(summary["sequences"])
    missing = [n for n in names if not (args.labels / f"{n}.npz").is_file()]
    if missing:
        raise Refusal(
            f"{args.labels}: no score file for {', '.join(missing)}",
            expected="every sequence of the summary",
            do=f"remove {args.propagation} and run the workflow again",
        )
    with atomic(args.out) as temporary:
        work = [(args.labels / f"{n}.npz", temporary / n, rule, summary["key"]) for n in names]
        # threads, not processes: the work is in torch and the PNG encoder, and a process would import torch again
        with ThreadPoolExecutor(args.workers) as pool, Progress("postprocess", len(work), unit="sequence") as bar:
            for name in pool.map(decode_sequence, work):
                bar.advance(note=name)
        record = {
            "propagation": summary["key"],
            "settings": json.loads(args.settings),
            "code": code,
            "libraries": libraries(),
        }
        write_json(temporary / "record.json", record)


if __name__ == "__main__":
    run_program(main)
