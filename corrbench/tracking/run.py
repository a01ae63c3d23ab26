"""Track every target of a benchmark: many targets together on a GPU, one process per core on CPUs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from corrbench.datasets.boxes import write_boxes, write_times
from corrbench.datasets.otb import Otb, Track
from corrbench.errors import Refusal
from corrbench.files import atomic, digest, file_hash, linked
from corrbench.machine import peak_memory_mb
from corrbench.outputs import remove_temporaries
from corrbench.parallel import parallel_map
from corrbench.parallel import threads as thread_pool
from corrbench.pretraining.recipe import options_of
from corrbench.progress import Progress
from corrbench.tracking.crops import Image
from corrbench.tracking.folder import begin, note
from corrbench.tracking.probe import Options, backbone_of, load_backbone
from corrbench.tracking.protocol import Figures
from corrbench.tracking.siamfc import Network, Target, hash_of, load_head, read_head
from corrbench.weights.canonical import load_weights
from corrbench.weights.load import check_unchanged

LANES = 16
"""Targets that share a forward pass on a GPU."""


@dataclass(frozen=True)
class Result:
    """One tracked target."""

    name: str
    boxes: NDArray[np.float64]
    """``[F, 4]``, 1-based; the first is the annotation."""
    seconds: NDArray[np.float64]
    """``[F]``: crops, network and update of each frame; its share where targets are tracked together. Reading is left out."""
    peak_ram_mb: float


@dataclass(frozen=True)
class Parts:
    """What a process needs to build the network."""

    settings: str
    """JSON of `Probe.track_settings`."""
    weights: Path
    head: Path | None
    """checkpoint.pth of a probe; None: the layer is in the weights file."""
    recorded: tuple[str, str | None] | None = None
    """Hashes of both, once a record names them: every process must then load these."""

    def options(self) -> Options:
        """Figures of the network."""
        return options_of(Options, json.loads(self.settings)["options"], "probe: options")

    def figures(self) -> Figures:
        """Figures of the tracker."""
        return Figures(**json.loads(self.settings)["tracker"])

    def network(self, device: torch.device) -> Network:
        """Load everything. Raises Refusal for weights or a layer that do not belong together."""
        options, weights = self.options(), load_weights(self.weights)
        check_unchanged(self.weights, weights.meta["sha256"], self.recorded and self.recorded[0])
        backbone = backbone_of(options)
        load_backbone(
            backbone, {"state_dict": weights.state_dict, "extra": weights.extra, "meta": weights.meta}, options
        )
        if self.head is None:
            return Network(backbone, load_head(weights.extra, options, str(self.weights)), device)
        raw = read_head(self.head)
        check_unchanged(self.head, hash_of(raw), self.recorded and self.recorded[1])
        if raw["weights_sha256"] != weights.meta["sha256"]:
            raise Refusal(
                f"{self.head}: trained on the weights {raw['weights_sha256'][:12]}",
                expected=f"a layer trained on {weights.meta['sha256'][:12]}, {self.weights}",
                do="train the probe of these weights",
            )
        return Network(backbone, load_head(raw["state_dict"], options, str(self.head)), device)


def track_together(
    network: Network, tracks: Iterable[Track], options: Options, figures: Figures, *, lanes: int, threads: int
) -> Iterator[Result]:
    """Track up to `lanes` targets at a time, each a frame further in every step; results as targets end.

    Images are read ahead and crops made by `threads` threads. The boxes are those of one target after another, up to the
    rounding of a larger batch.
    """
    waiting = iter(tracks)
    active: list[_Lane] = []
    with thread_pool(threads) as pool:
        while True:
            while len(active) < lanes and (track := next(waiting, None)) is not None:
                active.append(_Lane(track, pool))
            if not active:
                return
            new = [lane for lane in active if lane.target is None]
            if new:
                images = [lane.image() for lane in new]
                start = time.perf_counter()
                for lane, image in zip(new, images, strict=True):
                    lane.begin(image, options, figures)
                kernels = network.kernels([lane.target.exemplar for lane in new])  # type: ignore[union-attr]
                spent = (time.perf_counter() - start) / len(new)
                for lane, kernel in zip(new, kernels, strict=True):
                    lane.kernel, lane.seconds[0] = kernel, spent
            moving = [lane for lane in active if lane.t + 1 < len(lane.track.images)]
            if moving:
                for lane in moving:
                    lane.t += 1
                images = [lane.image() for lane in moving]
                start = time.perf_counter()
                crops = list(pool.map(lambda pair: pair[0].target.search(pair[1]), zip(moving, images, strict=True)))
                stacked = torch.stack([lane.kernel for lane in moving])
                responses = network.responses(stacked, [patch for each in crops for patch in each])
                per_lane = responses.reshape(len(moving), -1, *responses.shape[1:])
                for lane, found in zip(moving, per_lane, strict=True):
                    lane.boxes[lane.t] = lane.target.update(found)  # type: ignore[union-attr]
                spent = (time.perf_counter() - start) / len(moving)
                for lane in moving:
                    lane.seconds[lane.t] = spent
            for lane in [lane for lane in active if lane.t + 1 == len(lane.track.images)]:
                active.remove(lane)
                yield Result(lane.track.name, lane.boxes, lane.seconds, peak_memory_mb())


def _rgb(track: Track, t: int) -> Image:
    """Frame t, ``[H, W, 3]`` uint8 RGB, decoded by OpenCV in training and in tracking."""
    return cv2.cvtColor(track.image(t), cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


class _Lane:
    """A target on its way through its frames; the next image is read while the network runs."""

    def __init__(self, track: Track, pool: ThreadPoolExecutor) -> None:
        self.track, self.pool, self.t = track, pool, 0
        self.target: Target | None = None
        self.kernel = torch.zeros(0)
        self.boxes = np.zeros((len(track.images), 4))
        self.boxes[0] = track.boxes[0]
        self.seconds = np.zeros(len(track.images))
        self._ahead: Future[Image] = pool.submit(_rgb, track, 0)

    def image(self) -> Image:
        """The image of frame t; starts to read the next one."""
        image = self._ahead.result()
        if self.t + 1 < len(self.track.images):
            self._ahead = self.pool.submit(_rgb, self.track, self.t + 1)
        return image

    def begin(self, image: Image, options: Options, figures: Figures) -> None:
        """Take up the target in its first frame."""
        try:
            self.target = Target(image, self.track.boxes[0], options, figures)
        except Refusal as refusal:
            raise Refusal(f"{self.track.name}: {refusal}") from refusal


def stay(track: Track) -> Result:
    """The first box in every frame."""
    return Result(track.name, np.repeat(track.boxes[:1], len(track.boxes), 0), np.zeros(len(track.boxes)), 0.0)


@lru_cache(maxsize=1)
def _network(parts: Parts) -> Network:
    return parts.network(torch.device("cpu"))


def _alone(arguments: tuple[Parts, Track]) -> Result:
    """One target in a process of its own."""
    parts, track = arguments
    torch.set_num_threads(1)
    (result,) = track_together(_network(parts), [track], parts.options(), parts.figures(), lanes=1, threads=1)
    return result


def track_benchmark(
    otb: Otb, parts: Parts | None, device: torch.device, folder: Path, *, record: dict[str, Any], workers: int
) -> dict[str, Any]:
    """Write ``<target>.txt`` and ``times/<target>_time.txt`` for every target below `folder`; return a summary.

    `parts` None: the first box stays. Targets that an earlier run with the same `record` finished are kept; files of any
    other run are removed first, so nothing stale is ever scored.
    """
    folder, key = linked(folder), digest(record)
    done = begin(folder, key, record)
    remove_temporaries(folder)
    remove_temporaries(folder / "times")
    tracks = [otb.track(name) for name in otb.sequences]
    todo = sorted((t for t in tracks if t.name not in done), key=lambda t: -len(t.images))  # long ones first
    kept = sum(len(t.images) for t in tracks if t.name in done)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with Progress("track", sum(len(t.images) for t in tracks), unit="frame", done=kept) as bar:
        for result in _results(todo, parts, device, workers):
            on_gpu = device.type == "cuda"
            with atomic(folder / "times" / f"{result.name}_time.txt") as temporary:
                write_times(temporary, result.seconds)
            with atomic(folder / f"{result.name}.txt") as temporary:
                write_boxes(temporary, result.boxes)
            done[result.name] = {
                "frames": len(result.boxes), "seconds": float(result.seconds.sum()) or None, "peak_ram_mb": result.peak_ram_mb or None,
                "peak_gpu_mb": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None, "sha256": file_hash(folder / f"{result.name}.txt"),
            }  # fmt: skip
            note(folder, key, record, done)
            bar.advance(len(result.boxes), result.name)
    ordered = {name: done[name] for name in otb.sequences}
    for name in set(done) - set(ordered):  # of an earlier, larger selection
        (folder / f"{name}.txt").unlink(missing_ok=True)
        (folder / "times" / f"{name}_time.txt").unlink(missing_ok=True)
    note(folder, key, record, ordered, complete=True)
    return {"key": key, "sequences": ordered, **_totals(ordered, device)}


def _results(tracks: list[Track], parts: Parts | None, device: torch.device, workers: int) -> Iterator[Result]:
    if parts is None:
        yield from map(stay, tracks)
    elif device.type == "cuda":
        network = parts.network(device)
        yield from track_together(
            network, tracks, parts.options(), parts.figures(), lanes=LANES, threads=max(workers, 2)
        )
    else:
        # as they end: one long target must not hold back what the others have finished
        yield from parallel_map(_alone, [(parts, t) for t in tracks], workers, ordered=False)


def _totals(done: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Frames, speed and memory of all targets. fps is frames over time, unlike the toolkit's mean of reciprocals."""
    seconds = sum(d["seconds"] or 0 for d in done.values())
    frames = sum(d["frames"] for d in done.values())
    most = {k: max((d[k] for d in done.values() if d[k]), default=None) for k in ("peak_ram_mb", "peak_gpu_mb")}
    on_gpu = device.type == "cuda"
    return {
        "frames": frames,
        "fps": frames / seconds if seconds else None,
        "gpu_seconds": seconds if on_gpu else None,
        **most,
    }
