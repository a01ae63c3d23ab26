"""Propagate masks with STM through every video of a benchmark, and write them in the submission layout."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch

from corrbench.datasets.davis import Davis, read_annotation, read_image
from corrbench.datasets.palette import save_mask
from corrbench.datasets.youtube_vos import YoutubeVos
from corrbench.encoders.stm import STM
from corrbench.files import atomic, digest, read_json, write_json
from corrbench.machine import peak_memory_mb
from corrbench.progress import Progress
from corrbench.segmentation.engine import Engine, Frames
from corrbench.segmentation.protocol import MaskPropagation


@dataclass(frozen=True)
class Job:
    """One video and the names of its frames; `wanted` frames are written (all that are predicted, if None)."""

    frames: Frames
    names: tuple[str, ...]
    wanted: frozenset[str] | None = None


def davis_jobs(davis: Davis, *, single_object: bool) -> Iterable[Job]:
    """The sequences of DAVIS: objects of the first annotation, all frames written."""
    for name in davis.sequences:
        sequence = davis.sequence(name)
        first = read_annotation(sequence.annotations[0], single_object=single_object)
        yield Job(frames_of(sequence.name, sequence.images, {0: first}), tuple(sequence.frames))


def youtube_vos_jobs(data: YoutubeVos) -> Iterable[Job]:
    """The videos of YouTube-VOS: objects start where they are annotated; only the frames that the server scores are written."""
    for name in data.sequences:
        video = data.video(name)
        annotations = {t: read_annotation(path) for t, path in video.annotations.items()}
        yield Job(frames_of(name, video.images, annotations), tuple(p.stem for p in video.images), video.scored)


def frames_of(name: str, images: tuple[Path, ...], annotations: Mapping[int, Any]) -> Frames:
    """A video whose frames are read from disk when they are needed."""
    return Frames(name, len(images), lambda t: cv2.cvtColor(read_image(images[t]), cv2.COLOR_BGR2RGB), annotations)  # type: ignore[return-value,arg-type]


def segment_benchmark(
    net: STM, jobs: Iterable[Job], rules: MaskPropagation, device: torch.device, folder: Path, *, record: dict[str, Any]
) -> dict[str, Any]:
    """Write ``<video>/<frame>.png`` for every video below `folder`; return a summary.

    A video that an earlier run with the same `record` finished is kept; anything else in the folder is removed.
    """
    key = digest(record)
    path = folder / "record.json"
    earlier: dict[str, Any] = read_json(path) if path.exists() else {"key": None}
    if earlier["key"] != key and folder.exists():
        shutil.rmtree(folder)
    done: dict[str, Any] = earlier["videos"] if earlier["key"] == key else {}
    ordered: dict[str, Any] = {}
    engine = Engine(net, rules, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    jobs = list(jobs)
    with Progress("segment", sum(job.frames.count for job in jobs), unit="frame") as bar:
        for job in jobs:
            name = job.frames.name
            if name in done and (folder / name).is_dir():
                ordered[name] = done[name]
                bar.advance(job.frames.count, f"{name} (kept)")
                continue
            before = (engine.timing.frames, engine.timing.seconds)
            written = 0
            with atomic(folder / name) as temporary:
                temporary.mkdir()
                for t, ids in engine.run(job.frames):
                    if job.wanted is None or job.names[t] in job.wanted:
                        save_mask(temporary / f"{job.names[t]}.png", ids)
                        written += 1
                    bar.advance(note=name)
            height, width = (n + sum(engine.pad[i : i + 2]) for n, i in zip(engine.inner, (2, 0), strict=True))
            ordered[name] = {
                "frames": engine.timing.frames - before[0], "seconds": engine.timing.seconds - before[1], "written": written,
                "objects": len(engine.ids), "grid": f"{height // 16}x{width // 16}", "peak_ram_mb": peak_memory_mb(),
                "peak_gpu_mb": torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None,
            }  # fmt: skip
            done[name] = ordered[name]
            write_json(path, {"key": key, "record": record, "videos": done})
    for stray in {p.name for p in folder.iterdir() if p.is_dir()} - set(ordered):
        shutil.rmtree(folder / stray)
    write_json(path, {"key": key, "record": record, "videos": ordered})
    seconds, frames = (sum(v[k] for v in ordered.values()) for k in ("seconds", "frames"))
    most = {k: max((v[k] for v in ordered.values() if v[k]), default=None) for k in ("peak_ram_mb", "peak_gpu_mb")}
    return {
        "sequences": ordered, "key": key, "frames": frames, "fps": frames / seconds if seconds else None,
        "gpu_seconds": seconds if device.type == "cuda" else None, **most,
    }  # fmt: skip
