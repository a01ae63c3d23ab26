"""Propagate the given masks through every video of a benchmark with an STM network: masks in the submission layout.

Videos that an earlier, interrupted run finished with the same settings are kept.
"""

import argparse
import shutil

import torch

from corrbench.benchmarks.registry import benchmark_of, code_of
from corrbench.datasets.opening import read_findings
from corrbench.encoders.stm import STM
from corrbench.errors import run_program
from corrbench.files import settings_of, write_record
from corrbench.machine import pick_device
from corrbench.outputs import claim, made_folder
from corrbench.provenance import device_name, libraries
from corrbench.reading import positive, user_path
from corrbench.segmentation.protocol import MaskPropagation
from corrbench.segmentation.run import job_of, segment_benchmark
from corrbench.weights.canonical import load_weights
from corrbench.weights.load import load_encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entry", required=True, help="entry id, for the record")
    parser.add_argument("--settings", required=True, help="JSON: the rules of mask propagation")
    parser.add_argument("--weights", type=user_path, required=True, help="canonical weights file")
    parser.add_argument("--data", type=user_path, required=True, help="inputs.json that the doctor wrote")
    parser.add_argument("--root", type=user_path, required=True, help="data root; never written to")
    parser.add_argument("--work", type=user_path, required=True, help="folder for the masks of finished videos")
    parser.add_argument("--masks", type=user_path, required=True, help="folder of masks to write when all are done")
    parser.add_argument("--out", type=user_path, required=True, help="summary to write when all are done")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=positive, help="CPU threads")
    args = parser.parse_args()

    if args.threads:
        torch.set_num_threads(args.threads)
    settings, data = settings_of(args.settings), read_findings(args.data)
    rules, device, row = MaskPropagation.from_settings(settings), pick_device(args.device), data["row"]
    code = code_of("segment", row)  # of what was loaded, whatever is edited meanwhile
    print(f"{args.entry} on {data['label']}, device {device_name(device)}")
    sha = load_weights(args.weights).meta["sha256"]
    net = load_encoder({"arch": "stm"}, [args.weights], device, sha256=[sha])
    assert isinstance(net, STM)
    record = {
        "settings": settings, "weights_sha256": [sha], "inputs": data["fingerprint"], "scoring": row["scoring"],
        # a run that goes on elsewhere starts over: half a result from another device or library is no result
        "device": device_name(device), "libraries": libraries(), "code": code,
    }  # fmt: skip
    benchmark = benchmark_of(row)
    jobs = (job_of(benchmark.video(args.root, name, data)) for name in data["sequences"])
    with claim(args.out), claim(args.work):
        summary = segment_benchmark(net, jobs, rules, device, args.work, record=record)
        files = {name: sha for video in summary["sequences"].values() for name, sha in video["files"].items()}
        with made_folder(args.masks, "masks") as temporary:
            for name in summary["sequences"]:
                shutil.copytree(args.work / name, temporary / name)
            made = {"propagation": summary["key"], "entry": args.entry, "settings": settings, "code": code}
            write_record(temporary / "record.json", {**made, "libraries": record["libraries"], "files": files})
        made = {"entry": args.entry, "record": record, "device": record["device"], "libraries": record["libraries"]}
        write_record(args.out, {**summary, **made})
    print(f"{summary['frames']} frames, {summary['fps']:.2f} frames/s" if summary["fps"] else "all kept from before")


if __name__ == "__main__":
    run_program(main)
