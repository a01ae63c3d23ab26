"""Time and memory of STM's mask propagation as objects and frames grow.

python benchmarks/segmentation.py [--objects 1 3 6] [--frames 20 100 400] [--height 480 --width 864] [--device cuda]
Each measurement runs in a process of its own, on noise with untrained weights; figures depend on neither.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from corrbench.encoders.stm import STM  # noqa: E402
from corrbench.machine import peak_memory_mb, pick_device  # noqa: E402
from corrbench.provenance import device_name  # noqa: E402
from corrbench.segmentation.engine import Engine, Frames  # noqa: E402
from corrbench.segmentation.protocol import MaskPropagation  # noqa: E402


def measure(objects: int, count: int, height: int, width: int, device: torch.device) -> dict[str, float]:
    """One video through the engine."""
    ids = np.zeros((height, width), np.uint8)
    for i in range(objects):
        left = i * width // objects
        ids[height // 4 : height * 3 // 4, left + 4 : left + width // objects - 4] = i + 1
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rules = MaskPropagation("b", every=5, top_k=50, sigma=None, memory_frames=100, size="native")
    engine = Engine(STM().eval().to(device), rules, device)
    for _ in engine.run(Frames("b", count, lambda t: np.roll(image, 3 * t, 1), {0: ids})):
        pass
    bank = sum(b.bytes for b in engine.banks)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else peak_memory_mb()
    return {
        "fps": engine.timing.frames / engine.timing.seconds, "peak": peak, "bank": bank / 2**20,
        "remembered": len(engine.banks[0].kept),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3, 6])
    parser.add_argument("--frames", type=int, nargs="+", default=[20, 100, 400])
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=864)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = pick_device(args.device)
    if args.one:
        print(json.dumps(measure(args.objects[0], args.frames[0], args.height, args.width, device)))
        return
    print(f"{args.height}x{args.width}, {device_name(device)}, torch {torch.__version__}")
    print(
        "| objects | frames | frames/s | peak MB | frames remembered at the end, MB of memory |\n|---|---|---|---|---|"
    )
    for objects in args.objects:
        for count in args.frames:
            command = [sys.executable, __file__, "--one", "--objects", str(objects), "--frames", str(count),
                       "--height", str(args.height), "--width", str(args.width), "--device", device.type]  # fmt: skip
            got = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(
                f"| {objects} | {count} | {got['fps']:.2f} | {got['peak']:.0f} | {got['remembered']}, {got['bank']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
