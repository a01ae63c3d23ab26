"""Time one propagation step of the CRW protocol: the engine against the plain dense formula, in turn, same features.

    python benchmarks/propagation.py [--rounds 5] [--memory] [--device cuda] [--frames JPEGImages/480p/car-shadow]

The features are those of a seeded ResNet-18 on the first 22 frames of --frames, else on synthetic ones, of 480x854: 60x107 cells, 256 channels, 21 context
frames. Dense is what the reference codes do: all context frames x all cells, the window added as a mask, one top-k over
the joint axis; tests/reference/propagation.py. `--memory` runs whole videos of two lengths in fresh processes.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from reference.propagation import crw_context, dense_topk, window  # noqa: E402

from corrbench.datasets.davis import read_image  # noqa: E402
from corrbench.datasets.synthetic import sequence_frames  # noqa: E402
from corrbench.encoders.resnet import ResNet, random_resnet  # noqa: E402
from corrbench.machine import peak_memory_mb, pick_device  # noqa: E402
from corrbench.propagation.inputs import network_size, prepare  # noqa: E402
from corrbench.propagation.labels import first_labels  # noqa: E402
from corrbench.propagation.memory import Memory  # noqa: E402
from corrbench.propagation.protocol import Protocol  # noqa: E402
from corrbench.propagation.run import encode  # noqa: E402
from corrbench.propagation.tiles import Workspace  # noqa: E402
from corrbench.rows import Rows  # noqa: E402

T = 21
"""The first target whose context holds 21 different frames."""


def load(device, frames):
    rules = Protocol.from_row(Rows([ROOT / "config"], "protocols", "protocol").get("crw", "benchmark"))
    net = ResNet("resnet18")
    net.load_weights(random_resnet("resnet18", 0), {})
    net.eval().to(device)
    pairs = sequence_frames(0, frames=T + 1, height=480, width=854, objects=2)
    if frames:
        images = [read_image(path) for path in sorted(frames.glob("*.jpg"))[: T + 1]]
        pairs = [(image, ids) for image, (_, ids) in zip(images, pairs, strict=True)]
    sizes = network_size(480, 854, rules.image)
    features = [encode(net, prepare(image, sizes, rules.image, net.preprocess).to(device), rules) for image, _ in pairs]
    labels, _ = first_labels(pairs[0][1], features[0].shape[:2], rules.labels, stride=8)
    return rules, features, labels.to(device)


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="also measure the memory of whole videos")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=Path, help="folder of at least 22 real frames of 480x854")
    parser.add_argument("--video", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.video:
        return video(args.video)
    device = pick_device(args.device)
    rules, features, labels = load(device, args.frames)
    h, w, c = features[0].shape
    memory = Memory(rules, features[0], labels)
    soft = [labels]
    allowed = window(h, w, "disc", 12).to(device)
    with Workspace(device) as workspace:
        for t in range(1, T):  # the labels of the context, by the engine
            soft.append(memory.read(t, features[t], workspace))
            memory.add(t, features[t], soft[-1])
        context = crw_context(T, 20)

        def engine():
            return memory.read(T, features[T], workspace)

        def dense(chunk=None):
            rows = chunk or h
            parts = [
                dense_topk(
                    features[T][y : y + rows], [features[i] for i in context], [soft[i] for i in context], exempt=1,
                    allowed=allowed[y * w : (y + rows) * w], topk=10, temperature=0.05,
                )
                for y in range(0, h, rows)
            ]  # fmt: skip
            return torch.cat(parts)

        forms = {"engine": engine, "dense": dense, "dense, ten rows of queries at a time": lambda: dense(10)}
        times = {name: [] for name in forms}
        for name, form in forms.items():  # warm-up, and proof that all compute the same
            difference = (form() - engine()).abs().max(-1).values
            print(f"{name}: equal to 1e-5 at {100 * (difference < 1e-5).float().mean():.3f} % of the cells")
        for _ in range(args.rounds):
            for name, form in forms.items():
                synchronize(device)
                start = time.perf_counter()
                form()
                synchronize(device)
                times[name].append(time.perf_counter() - start)
        medians = {name: statistics.median(values) for name, values in times.items()}
        print(
            f"\n{h}x{w} cells, {c} channels, {len(context)} context frames, {torch.get_num_threads()} threads, torch {torch.__version__}, {device}"
        )
        for name, values in times.items():
            ratios = sorted(a / b for a, b in zip(values, times["engine"], strict=True))
            print(f"{name:<40}{1e3 * medians[name]:9.1f} ms median  {ratios[len(ratios) // 2]:6.1f}x the engine")
        where(device, engine)
    if args.memory:
        for frames in (30, 90):
            done = subprocess.run(
                [sys.executable, __file__, "--video", str(frames)], capture_output=True, text=True, check=True
            )
            print(done.stdout.strip())


def where(device, engine):
    """Where the engine's time goes, and how fast its matrix products are."""
    if device.type != "cpu":
        return
    from torch.profiler import ProfilerActivity, profile

    each = Workspace.each
    Workspace.each = lambda self, work, items: [work(item) for item in items]  # the profiler sees one thread
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        engine()
    Workspace.each = each
    events = {e.key: e.self_cpu_time_total / 1e3 for e in profiler.key_averages()}
    total = sum(events.values())
    print(f"\nwhere the engine's time goes (one tile at a time, {total:.0f} ms):")
    products = events.pop("aten::bmm", 0) + events.pop("aten::mm", 0)
    selection = sum(events.pop(k, 0) for k in ("aten::topk", "aten::amax", "aten::gather", "aten::index", "aten::sort"))
    for name, value in (
        ("matrix products", products),
        ("maxima, top-k, gathering", selection),
        ("the rest", sum(events.values())),
    ):
        print(f"  {name:<28}{value:8.1f} ms  {100 * value / total:5.1f} %")


def video(frames):
    """Peak memory of a whole video of 480x854, encoder included."""
    from corrbench.datasets.davis import Sequence
    from corrbench.propagation.run import propagate_sequence

    folder = Path(f"/tmp/corrbench-benchmark-{frames}")
    folder.mkdir(exist_ok=True)
    import cv2

    from corrbench.datasets.palette import save_mask

    for t, (image, ids) in enumerate(sequence_frames(0, frames=10, height=480, width=854, objects=2)):
        cv2.imwrite(str(folder / f"{t:05d}.jpg"), image)
        save_mask(folder / f"{t:05d}.png", ids)
    rules = Protocol.from_row(Rows([ROOT / "config"], "protocols", "protocol").get("crw", "benchmark"))
    net = ResNet("resnet18").eval()
    net.load_weights(random_resnet("resnet18", 0), {})
    images = tuple(sorted(folder.glob("*.jpg")) * (frames // 10))
    start = time.perf_counter()
    for _ in propagate_sequence(net, Sequence("s", images, (folder / "00000.png",)), rules, torch.device("cpu")):
        pass
    peak = peak_memory_mb()
    print(
        f"video of {frames} frames: {peak:.0f} MB peak resident memory, {frames / (time.perf_counter() - start):.2f} frames/s with encoding"
    )


if __name__ == "__main__":
    main()
