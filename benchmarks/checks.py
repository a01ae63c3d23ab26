"""What it costs that every stage checks what it reads: hashes of frames, whole JPEGs, masks and score files.

python benchmarks/checks.py [--frames DAVIS/JPEGImages/480p/car-shadow]
"""

import argparse
import hashlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from corrbench.datasets.palette import save_mask
from corrbench.datasets.synthetic import sequence_frames
from corrbench.files import file_hash
from corrbench.images import Known, decode_image, read_ids, read_image, write_image
from corrbench.reading import list_files, read_bytes


def milliseconds(function, items, rounds=7):
    """Median over rounds of the mean time of one call."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for item in items:
            function(item)
        times.append(1000 * (time.perf_counter() - start) / len(items))
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=Path, help="folder of frames (default: synthetic ones of 480x854)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.frames or Path(scratch)
        made = sequence_frames(0, frames=12, height=480, width=854, objects=3)
        for t, (image, ids) in enumerate(made):
            if args.frames is None:
                write_image(folder / f"{t:05d}.jpg", image)
            save_mask(Path(scratch) / f"{t:05d}.png", ids)
        frames = list_files(folder, (".jpg",))[:40]
        masks = list_files(Path(scratch), (".png",))
        scores = Path(scratch) / "labels.npz"
        scores.write_bytes(np.random.default_rng(0).bytes(20_000_000))
        hashed = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in [*frames, *masks]}
        cv2.setNumThreads(1)
        rows = {
            "frame: read and decode": milliseconds(lambda p: decode_image(p, read_bytes(p)), frames),
            "frame: and compare with the doctor's hash": milliseconds(
                lambda p: read_image(p, Known(folder, hashed, "inputs")), frames
            ),
            "frame: and decode strictly (the doctor, once)": milliseconds(read_image, frames),
            "mask: read, checksums, decode": milliseconds(read_ids, masks),
            "mask: and compare with the record's hash": milliseconds(
                lambda p: read_ids(p, Known(Path(scratch), hashed, "annotations")), masks
            ),
            "score file of 20 MB: hash": milliseconds(file_hash, [scores]),
        }
        for name, value in rows.items():
            print(f"{name:48s} {value:8.2f} ms")


if __name__ == "__main__":
    main()
