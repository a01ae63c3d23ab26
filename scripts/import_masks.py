"""Take in masks that somebody else made: check them against a benchmark's frames and write them as the other stages do.

What a folder or an archive may look like is in corrbench/datasets/given_masks.py and docs/given-masks.md.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from corrbench.benchmarks.base import Video
from corrbench.benchmarks.registry import benchmark_of, code_of
from corrbench.datasets.given_masks import Wanted, find_masks, opened, read_sequence
from corrbench.datasets.opening import read_findings
from corrbench.datasets.palette import save_mask
from corrbench.errors import Refusal, few, run_program
from corrbench.files import digest, file_hash, json_option, settings_of, write_record
from corrbench.images import read_ids
from corrbench.outputs import claim, made_folder
from corrbench.progress import Progress
from corrbench.provenance import libraries
from corrbench.reading import user_path, what_lies_in


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entry", required=True, help="entry id, for the record")
    parser.add_argument("--given", type=user_path, required=True, help="folder or archive of masks")
    parser.add_argument("--settings", required=True, help="JSON: where the masks are inside it")
    parser.add_argument("--version", default="", help="content version of the masks, for the record")
    parser.add_argument("--claim", default="null", help="JSON: the published hash of the archive")
    parser.add_argument("--data", type=user_path, required=True, help="inputs.json that the doctor wrote")
    parser.add_argument("--root", type=user_path, required=True, help="data root; never written to")
    parser.add_argument("--masks", type=user_path, required=True, help="folder of masks to write")
    parser.add_argument("--out", type=user_path, required=True, help="summary to write when all are done")
    args = parser.parse_args()

    settings, data = settings_of(args.settings), read_findings(args.data)
    benchmark, code = benchmark_of(data["row"]), code_of("import_masks", data["row"])
    given = _identity(args.given, json_option(args.claim, "--claim"))
    # who made the masks with what is not known: no device, no torch
    versions = {name: version for name, version in libraries().items() if name != "torch"}
    record = {
        "settings": settings, "weights_sha256": [], "inputs": data["fingerprint"], "scoring": data["row"]["scoring"],
        "version": args.version, "given": given, "code": code,
    }  # fmt: skip
    sequences, frames = {}, 0
    with claim(args.out), opened(args.given, args.out) as folder, made_folder(args.masks, "masks") as temporary:
        if inside := settings.get("inside"):
            folder = folder / inside
            if not folder.is_dir():
                raise Refusal(
                    f"{args.given}: no folder {inside} inside; it holds {what_lies_in(folder.parent)}",
                    expected="a folder of masks",
                    do="correct `inside:`",
                )
        places = find_masks(folder, data["sequences"], args.given)
        with Progress("import", len(places), unit="sequence") as bar:
            for name in data["sequences"]:
                written = _sequence(
                    places[name],
                    wanted(benchmark.video(args.root, name, data), single=benchmark.single_object),
                    temporary / name,
                )
                sequences[name] = {"frames": len(written), "files": written}
                frames += len(written)
                bar.advance(note=name)
        record["files"] = digest({name: v["files"] for name, v in sequences.items()}, 64)
        key = digest(record)
        files = {name: sha for video in sequences.values() for name, sha in video["files"].items()}
        made = {"propagation": key, "entry": args.entry, "settings": settings, "code": code, "libraries": versions}
        write_record(temporary / "record.json", {**made, "files": files})
        costs = dict.fromkeys(("fps", "gpu_seconds", "peak_ram_mb", "peak_gpu_mb"))
        summary = {"entry": args.entry, "key": key, "sequences": sequences, "frames": frames, **costs, "record": record}
        write_record(args.out, {**summary, "device": None, "libraries": versions})
    empty = [name for name in sequences if not any(read_ids(args.masks / f).any() for f in sequences[name]["files"])]
    if empty:
        print(f"look at this: every mask of {few(empty)} is empty", file=sys.stderr)
    print(f"{args.entry}: {frames} masks of {len(sequences)} sequences")


def _identity(path: Path, claim: Mapping[str, str] | None) -> dict[str, Any]:
    """What was given: the name and hash of an archive. Raises Refusal for one that is not the published file."""
    if not path.is_file():
        if claim is not None:
            raise Refusal(f"{path}: a folder", expected="the archive that `hash:` is of", do="remove `hash:`")
        return {"name": path.name, "sha256": None, "claim": None}
    if claim is not None and not (found := file_hash(path, claim["algorithm"])).startswith(claim["value"]):
        if claim.get("on_mismatch", "refuse") != "warn":
            raise Refusal(
                f"{path}: {claim['algorithm']} is {found}, published is {claim['value']}",
                expected="the published file",
                do="download it again",
            )
        print(f"warning: {path}: {claim['algorithm']} is {found}, published is {claim['value']}", file=sys.stderr)
    return {"name": path.name, "sha256": file_hash(path), "claim": claim}


def wanted(video: Video, *, single: bool) -> Wanted:
    """What the masks of one video must be. An object starts in the first frame that is given with it."""
    starts: dict[int, str] = {}
    for t, ids in sorted(video.prompts.items()):
        for number in np.unique(ids[ids > 0]).tolist():
            starts.setdefault(number, video.frames[t])
    first = video.prompts[min(video.prompts)]
    return Wanted(video.frames, video.written, starts, first, video.scored, single=single)


def _sequence(folder: Path, what: Wanted, out: Path) -> dict[str, str]:
    """Write the masks of one sequence; their hashes by ``<sequence>/<frame>.png``."""
    out.mkdir()
    for frame, ids in read_sequence(folder, what):
        save_mask(out / f"{frame}.png", ids)
    for frame in set(what.scored) - set(what.needed(min(what.starts.values(), key=what.frames.index))):
        if not (out / f"{frame}.png").exists():  # before any object starts
            save_mask(out / f"{frame}.png", np.zeros(what.first.shape, np.uint8))
    return {f"{out.name}/{p.name}": file_hash(p) for p in sorted(out.iterdir())}


if __name__ == "__main__":
    run_program(main)
