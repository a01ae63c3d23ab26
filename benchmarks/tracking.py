"""Times of the tracking probe: a training step and a tracked frame, against the plain form with one crop per forward pass.

python benchmarks/tracking.py [--arch resnet50] [--device cuda] [--rounds 5]
The forms run in turn; medians, and the median of their ratios round by round. Both give the same numbers (checked here).
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from corrbench.machine import pick_device
from corrbench.provenance import device_name
from corrbench.tracking.head import focal_loss, response_labels
from corrbench.tracking.inputs import normalize
from corrbench.tracking.probe import Model, Options
from corrbench.tracking.protocol import Figures
from corrbench.tracking.run import LANES
from corrbench.tracking.siamfc import Network, Target
from corrbench.weights.convert import random_weights

PAIRS = 9335 // 8
"""Training steps of an epoch of GOT-10k."""


def timed(form: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    form()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(
    name: str, forms: dict[str, Callable[[], object]], device: torch.device, rounds: int, per: float = 1
) -> None:
    """Run the forms in turn and print a table; the first is ours."""
    for form in forms.values():
        form()
    seconds = {label: [] for label in forms}
    for _ in range(rounds):
        for label, form in forms.items():
            seconds[label].append(timed(form, device) / per)
    first = next(iter(forms))
    print(f"\n{name}\n| form | median ms | against ours |\n|---|---|---|")
    for label, values in seconds.items():
        ratio = statistics.median(v / f for v, f in zip(values, seconds[first], strict=True))
        print(f"| {label} | {1000 * statistics.median(values):.1f} | {ratio:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=("resnet18", "resnet50"), default="resnet18")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="CPU threads")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    options = Options() if args.arch == "resnet18" else Options(arch="resnet50", channels=2048, scale=1e-5)
    weights = random_weights({"arch": args.arch}, method="random", seed=0)
    model = Model(options)
    model.load_init({"state_dict": weights.state_dict, "extra": weights.extra, "meta": weights.meta})
    model.to(device).train()
    print(f"{args.arch}, {device_name(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}")

    rng = torch.Generator().manual_seed(0)
    batch = {
        n: torch.randint(0, 256, (8, 3, s, s), dtype=torch.uint8, generator=rng).to(device)
        for n, s in (("z", 120), ("x", 239))
    }
    labels = response_labels(16, radius=options.radius, stride=options.stride).to(device)

    def together() -> torch.Tensor:
        model.zero_grad()
        loss = model(batch, rng)["loss"]
        loss.backward()
        return loss.detach()

    def one_pair() -> torch.Tensor:
        model.zero_grad()
        responses = []
        for z, x in zip(batch["z"], batch["x"], strict=True):
            with torch.no_grad():
                fz, fx = (model.backbone(normalize(crop[None], model.backbone.preprocess)) for crop in (z, x))
            kernel = model.head.kernel(fz)
            responses.append(torch.nn.functional.conv2d(model.head.x_convs[0](fx), kernel)[:, 0] * options.scale)
        loss = focal_loss(torch.cat(responses), labels, gamma=options.gamma)
        loss.backward()
        return loss.detach()

    torch.testing.assert_close(together(), one_pair(), rtol=1e-4, atol=1e-5)
    compare(
        f"training step, 8 pairs (an epoch of GOT-10k has {PAIRS})",
        {"crops of a batch together": together, "one pair at a time": one_pair},
        device,
        args.rounds,
    )

    image = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    network = Network(model.backbone, model.head, device)
    targets = [
        Target(image, np.array([200.0, 120, 80, 60]), options, Figures())
        for _ in range(LANES if device.type == "cuda" else 1)
    ]
    kernels = network.kernels([t.exemplar for t in targets])

    def frame() -> np.ndarray:
        crops = [c for t in targets for c in t.search(image)]
        return network.responses(kernels, crops)

    def crop_by_crop() -> np.ndarray:
        out = []
        for i, target in enumerate(targets):
            for c in target.search(image):
                pixels = torch.from_numpy(c.transpose(2, 0, 1).copy())[None].to(device)
                with torch.inference_mode():
                    found = torch.nn.functional.conv2d(
                        model.head.x_convs[0](model.backbone(normalize(pixels, model.backbone.preprocess))),
                        kernels[i : i + 1],
                    )
                out.append((found[0, 0] * options.scale).cpu().numpy())
        return np.stack(out)

    np.testing.assert_allclose(frame(), crop_by_crop(), rtol=1e-3, atol=1e-4)
    label = f"{LANES} targets and their scales together" if len(targets) > 1 else "three scales together"
    compare(
        "a tracked frame (crops and network)",
        {label: frame, "one crop at a time": crop_by_crop},
        device,
        args.rounds,
        per=len(targets),
    )


if __name__ == "__main__":
    main()
