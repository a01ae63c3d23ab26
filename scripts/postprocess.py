"""Decode score files into palette masks in the DAVIS submission layout."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from corrbench.datasets.palette import save_mask
from corrbench.errors import Refusal, run_program
from corrbench.files import file_hash, read_record, settings_of, write_record
from corrbench.metrics.masks import SUMMARY
from corrbench.outputs import made_folder
from corrbench.parallel import threads
from corrbench.progress import Progress
from corrbench.propagation.decode import mask_of
from corrbench.propagation.folder import check_score_file
from corrbench.propagation.protocol import Decode
from corrbench.provenance import code_version, libraries
from corrbench.reading import positive, user_path


@dataclass(frozen=True)
class Work:
    """One sequence: its score file with the hash that the summary lists, and the folder of its masks."""

    scores: Path
    sha256: str
    masks: Path
    rule: Decode
    key: str
    summary: Path


def decode_sequence(work: Work) -> dict[str, str]:
    """Write the masks of one sequence; returns their hashes by name. Raises Refusal when the score file is not of this run."""
    reader = check_score_file(work.scores, work.sha256, work.summary)
    if reader.record.get("key") != work.key:
        raise Refusal(
            f"{work.scores}: made by other settings than the summary beside it",
            expected=f"key {work.key}",
            do=f"remove {work.summary} and run the same command again",
        )
    work.masks.mkdir(parents=True)
    hashes = {}
    for t, (frame, scores) in enumerate(zip(reader.frames, reader, strict=True)):
        mask = mask_of(t, scores, reader.first_mask, reader.ids, reader.sizes, work.rule)
        path = work.masks / f"{frame}.png"
        save_mask(path, mask)
        hashes[f"{work.masks.name}/{path.name}"] = file_hash(path)
    return hashes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--propagation", type=user_path, required=True, help="summary that propagate.py wrote")
    parser.add_argument("--labels", type=user_path, required=True, help="folder of score files")
    parser.add_argument("--settings", required=True, help="JSON: {decode: {...}}, the protocol's decode rules")
    parser.add_argument("--out", type=user_path, required=True, help="folder of masks to write")
    parser.add_argument("--workers", type=positive, default=1, help="threads")
    args = parser.parse_args()

    code = code_version("scripts/postprocess.py")  # of what was loaded, whatever is edited meanwhile
    torch.set_num_threads(1)
    settings = settings_of(args.settings)
    rule = Decode(**settings["decode"])
    summary = read_record(args.propagation, "a summary of propagation", keys=SUMMARY)
    work = [
        Work(args.labels / f"{n}.npz", d["sha256"], Path(n), rule, summary["key"], args.propagation)
        for n, d in summary["sequences"].items()
    ]
    missing = [w.scores.stem for w in work if not w.scores.exists()]
    if missing:
        raise Refusal(
            f"{args.labels}: no score file for {', '.join(missing)}",
            expected="every sequence of the summary",
            do=f"remove {args.propagation} and run the workflow again",
        )
    files: dict[str, str] = {}
    with made_folder(args.out, "masks") as temporary:
        todo = [replace(w, masks=temporary / w.masks) for w in work]
        # threads, not processes: the work is in torch and the PNG encoder, and a process would import torch again
        with threads(args.workers) as pool, Progress("postprocess", len(work), unit="sequence") as bar:
            for w, hashes in zip(todo, pool.map(decode_sequence, todo), strict=True):
                files |= hashes
                bar.advance(note=w.masks.name)
        made = {"propagation": summary["key"], "entry": summary["entry"], "settings": settings, "code": code}
        write_record(temporary / "record.json", {**made, "libraries": libraries(), "files": files})


if __name__ == "__main__":
    run_program(main)
