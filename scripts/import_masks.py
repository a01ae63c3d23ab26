"""Take in masks that somebody else made: check them against a benchmark's frames and write them as the other stages do.

What a folder or an archive may look like is in corrbench/datasets/given_masks.py and docs/given-masks.md.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corrbench.datasets.davis import open_davis
from corrbench.datasets.given_masks import find_masks, opened, read_sequence
from corrbench.datasets.opening import is_youtube_vos, read_findings
from corrbench.datasets.palette import save_mask
from corrbench.datasets.youtube_vos import open_youtube_vos
from corrbench.errors import Refusal, run_program
from corrbench.files import digest, file_hash, settings_of, write_record
from corrbench.images import read_ids
from corrbench.outputs import claim, made_folder
from corrbench.progress import Progress
from corrbench.provenance import code_version, libraries
from corrbench.reading import user_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entry", required=True, help="entry id, for the record")
    parser.add_argument("--given", type=user_path, required=True, help="folder or archive of masks")
    parser.add_argument("--settings", required=True, help="JSON: where the masks are inside it")
    parser.add_argument("--version", default="", help="content version of the masks, for the record")
    parser.add_argument("--data", type=user_path, required=True, help="inputs.json that the doctor wrote")
    parser.add_argument("--root", type=user_path, required=True, help="data root; never written to")
    parser.add_argument("--masks", type=user_path, required=True, help="folder of masks to write")
    parser.add_argument("--out", type=user_path, required=True, help="summary to write when all are done")
    args = parser.parse_args()

    code = code_version("scripts/import_masks.py")
    settings, data = settings_of(args.settings), read_findings(args.data)
    # who made the masks with what is not known: no device, no torch
    versions = {name: version for name, version in libraries().items() if name != "torch"}
    record = {
        "settings": settings, "weights_sha256": [], "inputs": data["fingerprint"], "scoring": data["row"]["scoring"],
        "version": args.version, "code": code,
    }  # fmt: skip
    sequences, frames = {}, 0
    with claim(args.out), opened(args.given, args.out.parent) as folder, made_folder(args.masks, "masks") as temporary:
        if inside := settings.get("inside"):
            folder = folder / inside
            if not folder.is_dir():
                raise Refusal(f"{folder}: no such folder", expected="a folder of masks", do="correct `inside:`")
        places = find_masks(folder, data["sequences"])
        with Progress("import", len(places), unit="sequence") as bar:
            for name in data["sequences"]:
                written = _sequence(places[name], name, data, args.root, temporary / name)
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
    print(f"{args.entry}: {frames} masks of {len(sequences)} sequences")


def _sequence(folder: Path, name: str, data: Mapping[str, Any], root: Path, out: Path) -> dict[str, str]:
    """Write the masks of one sequence; their hashes by ``<sequence>/<frame>.png``."""
    row = data["row"]
    if is_youtube_vos(row):
        video = open_youtube_vos(root, row, [name], data).video(name)
        frames = sorted(video.scored)
        first = read_ids(next(iter(video.annotations.values())), video.known)
        objects, scored = None, frames
    else:
        sequence = open_davis(root, row, [name], data).sequence(name)
        first = sequence.first_annotation(single_object=row["scoring"] == "single-object")
        frames, objects = sequence.frames, int(first.max())
        scored = frames if row["scoring"] == "server" else frames[1:-1]  # the first and the last are not scored here
    out.mkdir()
    height, width = first.shape
    for frame, ids in read_sequence(folder, frames, shape=(height, width), objects=objects, scored=scored):
        save_mask(out / f"{frame}.png", ids)
    return {f"{name}/{p.name}": file_hash(p) for p in sorted(out.iterdir())}


if __name__ == "__main__":
    run_program(main)
