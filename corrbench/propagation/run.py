"""Propagate the first annotation through a video, and a whole benchmark, frame by frame."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from corrbench.datasets.davis import Davis
from corrbench.encoders.preprocess import Preprocess
from corrbench.errors import Refusal, of_system
from corrbench.files import atomic, digest, linked
from corrbench.machine import peak_memory_mb
from corrbench.outputs import claim
from corrbench.parallel import threads
from corrbench.progress import Progress
from corrbench.propagation.clip import Video
from corrbench.propagation.decode import Sizes, decode_classes
from corrbench.propagation.folder import finish, finished, refuse_foreign_labels, remove_strays
from corrbench.propagation.inputs import network_size, prepare
from corrbench.propagation.labels import Mask, first_labels, one_hot, shrink
from corrbench.propagation.memory import Memory
from corrbench.propagation.parts import totals
from corrbench.propagation.protocol import Protocol
from corrbench.propagation.scoremaps import ScoreWriter
from corrbench.propagation.tiles import Workspace

AHEAD = 4
"""Images read and prepared ahead of the network."""


@torch.inference_mode()
def encode(encoder: nn.Module, image: Tensor, protocol: Protocol) -> Tensor:
    """Dense features ``[h, w, C]`` of one prepared image ``[3, H, W]``, in the protocol's precision."""
    dtype = getattr(torch, protocol.features.precision)
    with torch.autocast(image.device.type, dtype=dtype, enabled=dtype != torch.float32):
        features = encoder(image[None])[0]
    features = features.float()
    if not torch.isfinite(features).all():
        raise Refusal(
            "the encoder gave values that are not finite",
            expected="finite features",
            do="use precision float32, or check the weights",
        )
    if protocol.features.l2_normalize:
        features = nn.functional.normalize(features, dim=0)  # eps 1e-12
    return features.permute(1, 2, 0).contiguous().to(dtype)


def _prepared(sequence: Video, sizes: Sizes, protocol: Protocol, preprocess: Preprocess) -> Iterator[Tensor]:
    """The prepared images in order, read ahead by a thread."""

    def load(t: int) -> Tensor:
        image = sequence.image(t)
        if image.shape[:2] != sizes.image:
            raise Refusal(
                f"{sequence.images[t]}: {image.shape[1]}x{image.shape[0]} pixels",
                expected=f"{sizes.image[1]}x{sizes.image[0]} as the first frame",
                do="check the data set with python -m scripts.doctor",
            )
        return prepare(image, sizes, protocol.image, preprocess)

    with threads(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting: list[Future[Tensor]] = []
        for t in range(len(sequence.images)):
            waiting.append(pool.submit(load, t))
            if len(waiting) > AHEAD:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


@dataclass(frozen=True)
class Opening:
    """What is known before the first step: sizes, the first mask, and its labels on the feature grid."""

    sizes: Sizes
    mask: Mask
    grid: tuple[int, int]
    ids: list[int]


class Clock:
    """Time of the network and the engine alone: no start-up, no reading, no writing, whatever else the machine does."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds, self.frames = device, 0.0, 0

    def start(self) -> None:
        self._began = self._now()

    def stop(self) -> None:
        """Count one frame since `start`."""
        self.seconds += self._now() - self._began
        self.frames += 1

    @property
    def fps(self) -> float | None:
        """Frames per second; None when nothing was measured."""
        return self.frames / self.seconds if self.seconds else None

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


@torch.inference_mode()
def propagate_sequence(
    encoder: nn.Module | None,
    sequence: Video,
    protocol: Protocol,
    device: torch.device,
    *,
    single_object: bool = False,
    clock: Clock | None = None,
) -> Iterator[tuple[Opening, Tensor]]:
    """Yield, for every frame in order, the opening and the class scores ``[h, w, K]``; frame 0 gives its labels.

    `encoder` None copies the first mask at full size (the identity baseline). `clock` measures the network and the engine,
    frame 0 left out. Raises Refusal for a first frame without
    objects, unreadable or differently sized images, and features that are not finite.
    """
    clock = clock or Clock(device)
    mask = sequence.first_annotation(single_object=single_object)
    height, width = sequence.image(0).shape[:2]
    if mask.shape != (height, width):
        raise Refusal(
            f"{sequence.name}: the first annotation is {mask.shape[1]}x{mask.shape[0]}",
            expected=f"{width}x{height} as the image",
            do="check the data set with python -m scripts.doctor",
        )
    sizes = network_size(height, width, protocol.image)
    try:
        if encoder is None:
            labels, ids = first_labels(mask, mask.shape, protocol.labels, stride=1)
            opening = Opening(sizes, mask, (height, width), ids)
            for _ in sequence.images:
                yield opening, labels
            return
        label_mask = mask
        if sizes.padded:
            label_mask = np.pad(mask, [(0, n - i) for n, i in zip(sizes.network, sizes.image, strict=True)])
        memory: Memory | None = None
        with Workspace(device) as workspace:
            prepared = _prepared(sequence, sizes, protocol, encoder.preprocess)  # type: ignore[arg-type]
            for t, image in enumerate(prepared):
                clock.start()
                features = encode(encoder, image.to(device, non_blocking=True), protocol)
                grid = (features.shape[0], features.shape[1])
                if memory is None:
                    labels, ids = first_labels(label_mask, grid, protocol.labels, stride=encoder.stride)  # type: ignore[arg-type]
                    opening = Opening(sizes, mask, grid, ids)
                    labels = labels.to(device)
                    memory = Memory(protocol, features, labels)
                    yield opening, labels
                    continue
                scores = memory.read(t, features, workspace)
                clock.stop()
                if not torch.isfinite(scores).all():
                    raise Refusal(
                        f"frame {t}: label scores that are not finite",
                        expected="finite scores",
                        do="use precision float32 (raw features overflow in half precision), or a window with cells",
                    )
                yield opening, scores
                if protocol.labels.memory == "hard":
                    classes = decode_classes(scores.permute(2, 0, 1), sizes, protocol.decode)
                    small = shrink(classes, grid, protocol.labels, stride=encoder.stride)  # type: ignore[arg-type]
                    scores = one_hot(small, scores.shape[2]).to(device)
                memory.add(t, features, scores)
    except Refusal as refusal:
        raise Refusal(f"sequence {sequence.name}: {refusal}") from refusal


def propagate_benchmark(
    encoder: nn.Module | None,
    davis: Davis,
    protocol: Protocol,
    device: torch.device,
    folder: Path,
    *,
    record: dict[str, Any],
    single_object: bool = False,
    whole: bool = True,
) -> dict[str, Any]:
    """Write ``<sequence>.npz`` for every sequence of `davis` below `folder`; return a summary.

    With `whole`, files of other sequences in the folder are removed; a part of a benchmark leaves them to the other parts.
    A sequence whose file carries the same `record` and has not changed since is done already (an earlier run was cut off)
    and is skipped; any other file is replaced. Files appear under their final name only when complete. Raises Refusal,
    before anything is touched, when the folder holds files that no propagation wrote.
    """
    folder = linked(folder)
    refuse_foreign_labels(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise of_system(error, folder) from error
    key = digest(record)
    sequences = [davis.sequence(name) for name in davis.sequences]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    done: dict[str, Any] = {}
    with Progress("propagate", sum(len(s.images) for s in sequences), unit="frame") as bar:
        for sequence in sequences:
            path = folder / f"{sequence.name}.npz"
            with claim(path):  # another part of the benchmark may have the same sequence
                earlier = finished(path, key)
                if earlier is not None:
                    done[sequence.name] = earlier
                    bar.advance(len(sequence.images), f"{sequence.name} (kept)")
                    continue
                start, clock = time.perf_counter(), Clock(device)
                frames = propagate_sequence(
                    encoder, sequence, protocol, device, single_object=single_object, clock=clock
                )
                with atomic(path) as temporary:
                    opening, first = next(frames)
                    with ScoreWriter(
                        temporary, frames=sequence.frames, ids=opening.ids, grid=opening.grid, sizes=opening.sizes,
                        first_mask=opening.mask, record={**record, "key": key, "sequence": sequence.name},
                    ) as writer:  # fmt: skip
                        writer.write(first)
                        bar.advance(note=sequence.name)
                        for _, scores in frames:
                            writer.write(scores)
                            bar.advance(note=sequence.name)
                seconds = time.perf_counter() - start
                grid = f"{opening.grid[0]}x{opening.grid[1]}"
                on_gpu = device.type == "cuda"
                done[sequence.name] = finish(path, key, {
                    "frames": len(sequence.images), "grid": grid, "seconds": seconds, "fps": clock.fps, "peak_ram_mb": peak_memory_mb(),
                    "peak_gpu_mb": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None,
                })  # fmt: skip
    if whole:
        remove_strays(folder, set(done))
    return {"sequences": done, "key": key, **totals(done)}
