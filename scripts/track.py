"""Track every target of a benchmark with a probed encoder: one file of boxes per target.

Targets that an earlier, interrupted run finished with the same settings are kept; results of any other run are removed first.
"""

import argparse
import os
from dataclasses import replace

import torch

from corrbench.datasets.opening import read_findings
from corrbench.datasets.otb import open_otb
from corrbench.errors import run_program
from corrbench.files import canonical_json, settings_of, write_record
from corrbench.machine import pick_device
from corrbench.outputs import claim
from corrbench.provenance import code_version, device_name, libraries
from corrbench.reading import positive, user_path
from corrbench.tracking.run import Parts, track_benchmark
from corrbench.tracking.siamfc import head_hash
from corrbench.weights.canonical import load_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entry", required=True, help="entry id, for the record")
    parser.add_argument("--settings", required=True, help="JSON: the probe's kind, head, network options and tracker")
    parser.add_argument("--weights", type=user_path, help="canonical weights file; none for the kind stay")
    parser.add_argument(
        "--head", type=user_path, help="checkpoint.pth of the trained probe; without it the layer in --weights"
    )
    parser.add_argument("--data", type=user_path, required=True, help="inputs.json that the doctor wrote")
    parser.add_argument("--root", type=user_path, required=True, help="data root; never written to")
    parser.add_argument("--boxes", type=user_path, required=True, help="folder for the box files")
    parser.add_argument("--out", type=user_path, required=True, help="summary to write when all are done")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--workers", type=positive, default=os.cpu_count(), help="processes on CPUs; on a GPU threads that make crops"
    )
    args = parser.parse_args()

    code = code_version("scripts/track.py")  # of what was loaded, whatever is edited meanwhile
    settings, data = settings_of(args.settings), read_findings(args.data)
    device = pick_device(args.device)
    print(f"{args.entry} on {data['label']}, device {device_name(device)}")
    parts, hashes = None, {"weights_sha256": [], "head": None}
    if settings["kind"] != "stay":
        parts = Parts(canonical_json(settings), args.weights, args.head)
        parts.network(torch.device("cpu"))  # refuses what does not fit before anything is tracked
        sha256, head = load_weights(args.weights).meta["sha256"], head_hash(args.head) if args.head else None
        hashes = {"weights_sha256": [sha256], "head": head}
        parts = replace(parts, recorded=(sha256, head))
    record = {
        "settings": settings,
        **hashes,
        "inputs": data["fingerprint"],
        # a run that goes on elsewhere starts over: half a result from another device or library is no result
        "device": device_name(device),
        "libraries": libraries(),
        "code": code,
    }
    otb = open_otb(args.root, data["row"], data["sequences"], data)
    with claim(args.out), claim(args.boxes):
        summary = track_benchmark(otb, parts, device, args.boxes, record=record, workers=args.workers)
        made = {"entry": args.entry, "record": record, "device": record["device"], "libraries": record["libraries"]}
        write_record(args.out, {**summary, **made})
    print(f"{summary['frames']} frames, " + (f"{summary['fps']:.2f} frames/s" if summary["fps"] else "nothing to time"))


if __name__ == "__main__":
    run_program(main)
