"""Propagate masks with STM through every video of a benchmark, and write them in the submission layout."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from corrbench.benchmarks.base import Video
from corrbench.datasets.palette import save_mask
from corrbench.encoders.stm import STM
from corrbench.errors import Refusal, few
from corrbench.files import atomic, digest, file_hash, linked
from corrbench.images import NOTHING_KNOWN, Known, Pixels, read_image
from corrbench.machine import peak_memory_mb
from corrbench.outputs import RunRecord, remove_temporaries
from corrbench.progress import Progress
from corrbench.reading import is_litter, list_files
from corrbench.segmentation.engine import Engine, Frames
from corrbench.segmentation.protocol import MaskPropagation


@dataclass(frozen=True)
class Job:
    """One video and the names of its frames; `wanted` frames are written (all that are predicted, if None)."""

    frames: Frames
    names: tuple[str, ...]
    wanted: frozenset[str] | None = None


def job_of(video: Video) -> Job:
    """What is to be predicted of a video."""
    written = frozenset(video.written)
    frames = frames_of(video.name, video.images, video.prompts, video.known)
    return Job(frames, video.frames, None if len(written) == len(video.images) else written)


def frames_of(
    name: str, images: tuple[Path, ...], annotations: Mapping[int, Any], known: Known = NOTHING_KNOWN
) -> Frames:
    """A video whose frames are read from disk when they are needed; `known`: what the doctor recorded of them."""

    def rgb(t: int) -> Pixels:
        return cv2.cvtColor(read_image(images[t], known), cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)

    return Frames(name, len(images), rgb, annotations)


def segment_benchmark(
    net: STM, jobs: Iterable[Job], rules: MaskPropagation, device: torch.device, folder: Path, *, record: dict[str, Any]
) -> dict[str, Any]:
    """Write ``<video>/<frame>.png`` for every video below `folder`; return a summary.

    A video that an earlier run with the same `record` finished, and whose masks are as they were written, is kept; other
    masks of ours are removed. Raises Refusal, before anything is touched, when the folder holds other files.
    """
    folder, key = linked(folder), digest(record)
    jobs = list(jobs)
    done = _begin(folder, key, record, {job.frames.name for job in jobs})
    ordered: dict[str, Any] = {}
    engine = Engine(net, rules, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with Progress("segment", sum(job.frames.count for job in jobs), unit="frame") as bar:
        for job in jobs:
            name = job.frames.name
            if name in done and hashes_of(folder / name) == done[name]["files"]:
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
                "files": hashes_of(folder / name),
            }  # fmt: skip
            done[name] = ordered[name]
            _note(folder, key, record, done)
    for stray in set(done) - set(ordered):  # an earlier, larger selection
        shutil.rmtree(folder / stray, ignore_errors=True)
    _note(folder, key, record, ordered, complete=True)
    seconds, frames = (sum(v[k] for v in ordered.values()) for k in ("seconds", "frames"))
    most = {k: max((v[k] for v in ordered.values() if v[k]), default=None) for k in ("peak_ram_mb", "peak_gpu_mb")}
    return {
        "sequences": ordered, "key": key, "frames": frames, "fps": frames / seconds if seconds else None,
        "gpu_seconds": seconds if device.type == "cuda" else None, **most,
    }  # fmt: skip


def hashes_of(folder: Path) -> dict[str, str]:
    """sha256 of every mask of one video by ``<video>/<frame>.png``; empty where the folder is missing."""
    return {f"{folder.name}/{p.name}": file_hash(p) for p in list_files(folder, (".png",))}


def _begin(folder: Path, key: str, record: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """Videos that a run with this key finished; masks of another run are removed, and the folder says whose it is now.

    `names`: the videos of this run.
    """
    record_file = _record(folder)
    path = record_file.path
    found = record_file.read() or {"key": None, "videos": {}}
    there = (
        sorted(p for p in folder.rglob("*") if not p.is_dir() and p != path and not is_litter(p.name))
        if folder.is_dir()
        else []
    )
    # a video may be complete and not yet noted when a run is killed: below a record, masks of the run's videos are ours
    videos = names | set(found["videos"]) if record_file.exists else set()
    ours = [p for p in there if p.suffix == ".png" and p.parent.parent == folder and p.parent.name in videos]
    foreign = [p.relative_to(folder).as_posix() for p in there if p not in set(ours)]
    if foreign:
        raise Refusal(
            f"{folder}: holds files that no mask propagation wrote ({few(foreign, 3)}); nothing was changed",
            expected="an empty folder, or the masks of an earlier run (with record.json) and nothing else",
            do="name another folder, or move these files elsewhere",
        )
    remove_temporaries(folder)
    if found["key"] == key:
        return dict(found["videos"])
    for old in ours:
        old.unlink()
    _note(folder, key, record, {})
    return {}


def _record(folder: Path) -> RunRecord:
    return RunRecord(folder, "the record of finished videos", ("key", "videos"))


def _note(
    folder: Path, key: str, record: Mapping[str, Any], done: Mapping[str, Any], *, complete: bool = False
) -> None:
    _record(folder).note({"key": key, "record": record, "videos": done}, complete=complete)
