"""Propagate the first annotation through a video, and a whole benchmark, frame by frame."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from corrbench.datasets.davis import Davis, Sequence, read_annotation, read_image
from corrbench.errors import Refusal
from corrbench.files import atomic, digest, read_json, write_json
from corrbench.machine import peak_memory_mb
from corrbench.progress import Progress
from corrbench.propagation.decode import Sizes, decode_classes
from corrbench.propagation.inputs import network_size, prepare
from corrbench.propagation.labels import Mask, first_labels, one_hot, shrink
from corrbench.propagation.memory import Memory
from corrbench.propagation.parts import totals
from corrbench.propagation.protocol import Protocol
from corrbench.propagation.scoremaps import ScoreReader, ScoreWriter
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


def _prepared(sequence: Sequence, sizes: Sizes, protocol: Protocol, colour: str) -> Iterator[Tensor]:
    """The prepared images in order, read ahead by a thread."""

    def load(path: Path) -> Tensor:
        image = read_image(path)
        if image.shape[:2] != sizes.image:
            raise Refusal(
                f"{path}: {image.shape[1]}x{image.shape[0]} pixels",
                expected=f"{sizes.image[1]}x{sizes.image[0]} as the first frame",
                do="check the data set with python -m scripts.doctor",
            )
        return prepare(image, sizes, protocol.image, colour)

    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting: list[Future[Tensor]] = []
        for path in sequence.images:
            waiting.append(pool.submit(load, path))
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


@torch.inference_mode()
def propagate_sequence(
    encoder: nn.Module | None,
    sequence: Sequence,
    protocol: Protocol,
    device: torch.device,
    *,
    colour: str = "rgb",
    single_object: bool = False,
) -> Iterator[tuple[Opening, Tensor]]:
    """Yield, for every frame in order, the opening and the class scores ``[h, w, K]``; frame 0 gives its labels.

    `encoder` None copies the first mask at full size (the identity baseline). Raises Refusal for a first frame without
    objects, unreadable or differently sized images, and features that are not finite.
    """
    mask = read_annotation(sequence.annotations[0], single_object=single_object)
    height, width = read_image(sequence.images[0]).shape[:2]
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
            for t, image in enumerate(_prepared(sequence, sizes, protocol, colour)):
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
    colour: str = "rgb",
    single_object: bool = False,
    whole: bool = True,
) -> dict[str, Any]:
    """Write ``<sequence>.npz`` for every sequence of `davis` below `folder`; return a summary.

    With `whole`, files of other sequences in the folder are removed; a part of a benchmark leaves them to the other parts.
    A sequence whose file carries the same `record` is done already (an earlier run was cut off) and is skipped; any
    other file is replaced. Files appear under their final name only when complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = digest(record)
    sequences = [davis.sequence(name) for name in davis.sequences]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    done: dict[str, Any] = {}
    with Progress("propagate", sum(len(s.images) for s in sequences), unit="frame") as bar:
        for sequence in sequences:
            path = folder / f"{sequence.name}.npz"
            earlier = _finished(path, key)
            if earlier is not None:
                done[sequence.name] = earlier
                bar.advance(len(sequence.images), f"{sequence.name} (kept)")
                continue
            start = time.perf_counter()
            frames = propagate_sequence(encoder, sequence, protocol, device, colour=colour, single_object=single_object)
            with atomic(path) as temporary:
                opening, first = next(frames)
                with ScoreWriter(
                    temporary, frames=sequence.frames, ids=opening.ids, grid=opening.grid, sizes=opening.sizes,
                    first_mask=opening.mask, record={**record, "key": key},
                ) as writer:  # fmt: skip
                    writer.write(first)
                    bar.advance(note=sequence.name)
                    for _, scores in frames:
                        writer.write(scores)
                        bar.advance(note=sequence.name)
            seconds = time.perf_counter() - start
            grid = f"{opening.grid[0]}x{opening.grid[1]}"
            on_gpu = device.type == "cuda"
            done[sequence.name] = {
                "frames": len(sequence.images), "grid": grid, "seconds": seconds, "peak_ram_mb": peak_memory_mb(),
                "peak_gpu_mb": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None,
            }  # fmt: skip
            write_json(path.with_suffix(".json"), done[sequence.name])
    if whole:
        for name in {p.stem for p in folder.glob("*.npz")} - set(done):  # of an earlier, larger selection
            (folder / f"{name}.npz").unlink()
            (folder / f"{name}.json").unlink(missing_ok=True)
    return {"sequences": done, "key": key, **totals(done)}


def _finished(path: Path, key: str) -> dict[str, Any] | None:
    """Frames of a finished file with this key; None when the sequence must be computed."""
    if not path.exists():
        return None
    try:
        reader = ScoreReader(path)
    except Refusal:
        return None
    if reader.record.get("key") != key:
        return None
    timing = path.with_suffix(".json")  # written after the scores: a kill between the two loses only the time
    found = read_json(timing) if timing.exists() else {"seconds": None}
    return {**found, "frames": len(reader.frames), "grid": f"{reader.grid[0]}x{reader.grid[1]}"}
