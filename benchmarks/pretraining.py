"""Loader and step of every recipe at its paper size: samples a second of one core, seconds a step, cores that keep up.

    python benchmarks/pretraining.py --videos FOLDER [--recipes crw vfs-r18 ...] [--samples 24] [--step]

FOLDER holds video files at any depth; they are extracted first (short side 256) into a temporary folder, and read in place for comparison.
A step is only measured with --step: at paper size it wants a GPU.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from corrbench.datasets.videos import Reader, build_index  # noqa: E402
from corrbench.machine import pick_device  # noqa: E402
from corrbench.pretraining.cost import step_seconds  # noqa: E402
from corrbench.pretraining.loop import Run  # noqa: E402
from corrbench.pretraining.order import Order, StepData, collate  # noqa: E402
from corrbench.pretraining.processes import Processes  # noqa: E402
from corrbench.pretraining.recipe import Recipe, options_of  # noqa: E402
from corrbench.rows import Rows  # noqa: E402

RECIPES = ("crw", "vfs-r18", "vfs-r18-object", "vfs-r50", "fc", "mast", "liir-a", "liir-e")


def loading(recipe: Recipe, reader: Reader, samples: int) -> float:
    """Median over three rounds of samples a second in this one thread."""
    source = recipe.module.Source(options_of(recipe.module.Options, recipe.options, recipe.name))
    data = StepData(Order(source, reader.index, 0, 1, drop_last=False), reader)
    rates = []
    for round_ in range(3):
        start = time.perf_counter()
        for i in range(samples):
            data[round_, i % data.order.length]
        rates.append(samples / (time.perf_counter() - start))
    return statistics.median(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--step", action="store_true", help="measure a training step at paper size too")
    parser.add_argument("--batch", type=int, help="another batch for the step")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    cv2.setNumThreads(1)
    device, threads = pick_device(args.device), torch.get_num_threads()
    rows = Rows([ROOT / "config"], "recipes", "recipe")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        start = time.perf_counter()
        index, _ = build_index(args.videos, "**/*.mp4", "videos", out=out, workers=1)
        count = sum(v.frames for v in index.videos)
        print(f"frames: {count / (time.perf_counter() - start):.0f} a second on one core ({len(index.videos)} videos)")
        frames = Reader(out, index, "frames")
        files = Reader(args.videos, build_index(args.videos, "**/*.mp4", "videos")[0], "videos")
        print(
            "| recipe | samples/s per core, frame folders | video files | s/step | batch | cores that keep up |\n|---|---|---|---|---|---|"
        )
        for name in args.recipes:
            recipe = replace(Recipe.from_row(rows.get(name, "--recipes"), "paper"), init=None, precision=args.precision)
            torch.set_num_threads(1)
            rates = [loading(recipe, reader, args.samples) for reader in (frames, files)]
            torch.set_num_threads(threads)
            line = [name, f"{rates[0]:.1f}", f"{rates[1]:.1f}", "", str(recipe.batch), ""]
            if args.step:
                recipe = replace(recipe, batch=args.batch or recipe.batch)
                run = Run(recipe, 0, frames, out / "run", Processes(0, 1, device), identity={})
                run.start(None)
                data = StepData(run.order, frames)
                keys = run.order.positions(0, 0, 1)
                few = [data[key] for key in keys[:8]]
                batch = collate([few[i % len(few)] for i in range(len(keys))])
                seconds = statistics.median([step_seconds(run, batch) for _ in range(5)][1:])
                line[3:] = [f"{seconds:.3f}", str(recipe.batch), f"{recipe.batch / seconds / rates[0]:.1f}"]
                if device.type == "cuda":
                    line[3] += f" ({torch.cuda.max_memory_allocated() / 2**30:.1f} GiB)"
                    torch.cuda.reset_peak_memory_stats()
            print("| " + " | ".join(line) + " |", flush=True)


if __name__ == "__main__":
    main()
