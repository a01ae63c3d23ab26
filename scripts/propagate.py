"""Propagate the first-frame labels of every sequence of a benchmark: one score file per sequence.

Sequences that an earlier, interrupted run finished with the same settings are kept.
"""

import argparse
from contextlib import nullcontext

import torch

from corrbench.benchmarks.registry import benchmark_of
from corrbench.datasets.davis import open_davis
from corrbench.datasets.opening import read_findings
from corrbench.errors import run_program
from corrbench.files import settings_of, write_record
from corrbench.machine import pick_device
from corrbench.outputs import claim
from corrbench.propagation.parts import part_numbers, part_of
from corrbench.propagation.protocol import Protocol
from corrbench.propagation.run import propagate_benchmark
from corrbench.provenance import code_version, device_name, libraries
from corrbench.reading import positive, user_path
from corrbench.weights.canonical import load_weights
from corrbench.weights.load import load_encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entry", required=True, help="entry id, for the record")
    parser.add_argument("--settings", required=True, help="JSON: encoder, protocol and copy of the entry")
    parser.add_argument("--weights", type=user_path, nargs="*", default=[], help="canonical weights files of the entry")
    parser.add_argument("--data", type=user_path, required=True, help="inputs.json that the doctor wrote")
    parser.add_argument("--root", type=user_path, required=True, help="data root; never written to")
    parser.add_argument("--labels", type=user_path, required=True, help="folder for the score files")
    parser.add_argument("--out", type=user_path, required=True, help="summary to write when all are done")
    parser.add_argument("--part", help="I/K: only every K-th sequence from the I-th (0-based)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=positive, help="CPU threads")
    args = parser.parse_args()

    code = code_version("scripts/propagate.py")  # of what was loaded, whatever is edited meanwhile
    if args.threads:
        torch.set_num_threads(args.threads)
    settings, data = settings_of(args.settings), read_findings(args.data)
    protocol = Protocol.from_settings({**settings["protocol"], "copy": settings["copy"]})
    device = pick_device(args.device)
    print(f"{args.entry} on {data['label']}, device {device_name(device)}")
    hashes = [load_weights(path).meta["sha256"] for path in args.weights]
    for path, sha in zip(args.weights, hashes, strict=True):
        print(f"weights {path}: sha256 {sha}")
    encoder = None if protocol.copy else load_encoder(settings["encoder"], args.weights, device, sha256=hashes)
    record = {
        "settings": settings,
        "weights_sha256": hashes,
        "inputs": data["fingerprint"],
        "scoring": data["row"]["scoring"],
        # a run that goes on elsewhere starts over: half a result from another device or library is no result
        "device": device_name(device),
        "libraries": libraries(),
        "code": code,
    }
    sequences = data["sequences"]
    if args.part:
        sequences = part_of(sequences, *part_numbers(args.part))
    provenance = {"entry": args.entry, "device": device_name(device), "libraries": libraries()}
    with claim(args.out), claim(args.labels) if args.part is None else nullcontext():
        summary = propagate_benchmark(
            encoder,
            open_davis(args.root, data["row"], sequences, data),
            protocol,
            device,
            args.labels,
            record=record,
            single_object=benchmark_of(data["row"]).single_object,
            whole=args.part is None,
        )
        write_record(args.out, {**summary, "record": record, **provenance})
    rate = f"{summary['fps']:.2f} frames/s" if summary["fps"] else "all kept from before"
    print(f"{summary['frames']} frames, {rate}")


if __name__ == "__main__":
    run_program(main)
