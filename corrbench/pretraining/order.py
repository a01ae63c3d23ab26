"""Which samples a step sees: a pure function of seed, epoch and step, so that a resumed run needs no sampler state."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from corrbench.errors import Refusal

Samples = NDArray[np.int64]
"""``[n, k]``: video, then whatever the method needs (frame numbers)."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""What asks a run to save and stop."""
TRIES = 5
"""Other samples tried in place of one that cannot be read."""


class DataIndex(Protocol):
    """What a data set lists: videos (`datasets.videos.Index`) or annotated tracks (`datasets.got10k.TrackIndex`)."""

    @property
    def videos(self) -> Sequence[Any]:
        """Its videos, in a stable order."""

    @property
    def fingerprint(self) -> str:
        """12 hex digits over what it lists."""


class DataReader(Protocol):
    """What gives a data set's images; how is between a method's `Source` and its reader."""

    @property
    def index(self) -> Any:
        """The `DataIndex`."""


class SampleSource(Protocol):
    """What a method file offers as `Source`: lists of samples, and one sample as tensors."""

    def epoch(self, index: Any, rng: Generator) -> Samples:
        """The samples of one epoch, in order."""

    def load(self, reader: Any, sample: NDArray[np.int64], rng: Generator) -> dict[str, Tensor]:
        """One sample, augmented."""


def stream(*numbers: int) -> Generator:
    """An independent generator for (purpose, seed, epoch, position, ...)."""
    return np.random.default_rng(np.random.SeedSequence(list(numbers)))


ORDER, LOAD, STEP = 0, 1, 2
"""Purposes of streams."""


class Order:
    """Epoch lists of one run: all as long as the first one, so that every epoch has the same number of steps."""

    def __init__(
        self, source: SampleSource, index: DataIndex, seed: int, batch: int, *, drop_last: bool, world: int = 1
    ) -> None:
        self.source, self.index, self.seed, self.batch = source, index, seed, batch
        self._cache: tuple[int, Samples] | None = None
        self.length = len(source.epoch(index, stream(ORDER, seed, 0)))
        self.steps = self.length // batch
        self.epochs = 1
        """Epochs of the whole run, for sources that change as it goes on; set by the run."""
        if not drop_last and self.length % batch >= world:  # a last batch with a sample for every process
            self.steps += 1
        if not self.steps:
            raise Refusal(
                f"{self.length} samples in an epoch of {len(index.videos)} videos",
                expected=f"at least one batch of {batch}",
                do="use more videos, or a smaller batch",
            )

    def samples(self, epoch: int) -> Samples:
        """The list of one epoch; a shorter list repeats its beginning, a longer one is cut."""
        if self._cache is None or self._cache[0] != epoch:
            if hasattr(self.source, "progress"):  # a curriculum
                self.source.progress = epoch / self.epochs
            found = self.source.epoch(self.index, stream(ORDER, self.seed, epoch))
            self._cache = epoch, np.resize(found, (self.length, found.shape[1]))
        return self._cache[1]

    def positions(self, step: int, rank: int, world: int) -> list[tuple[int, int]]:
        """(epoch, position) of the samples of one process in one step: its contiguous share of the batch."""
        epoch, inside = divmod(step, self.steps)
        first = inside * self.batch
        count = min(self.batch, self.length - first) // world  # the last batch may be smaller
        return [(epoch, first + rank * count + i) for i in range(count)]


class StepData(Dataset[dict[str, Tensor]]):
    """Samples by (epoch, position); the random numbers of a sample depend on nothing else."""

    def __init__(self, order: Order, reader: DataReader) -> None:
        self.order, self.reader = order, reader

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        epoch, position = key
        rng = stream(LOAD, self.order.seed, epoch, position)
        samples = self.order.samples(epoch)
        refused: Refusal | None = None
        for replaced in range(TRIES):
            sample = samples[position if not replaced else int(rng.integers(len(samples)))]
            try:
                loaded = self.order.source.load(self.reader, sample, rng)
                return {**loaded, "replaced": torch.tensor(replaced)}
            except Refusal as refusal:  # one bad file must not end a run of days; the log counts them
                refused = refusal
        raise Refusal(f"{TRIES} samples in a row cannot be read; the last: {refused}", do="check the data set")


class Steps:
    """Batches of keys of one process, from one step to another."""

    def __init__(self, order: Order, first: int, end: int, rank: int, world: int) -> None:
        self.order, self.first, self.end, self.rank, self.world = order, first, end, rank, world

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.first, self.end):
            yield self.order.positions(step, self.rank, self.world)

    def __len__(self) -> int:
        return self.end - self.first


def loader(data: StepData, steps: Steps, workers: int, *, pin: bool) -> DataLoader[dict[str, Tensor]]:
    """One loader for the whole run: its workers never restart between epochs."""
    more: dict[str, Any] = {"multiprocessing_context": "forkserver", "prefetch_factor": 4} if workers else {}
    return DataLoader(
        data, batch_sampler=steps, num_workers=workers, pin_memory=pin, collate_fn=collate, worker_init_fn=_one_thread, **more
    )  # fmt: skip


def collate(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Samples as a batch."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def _one_thread(worker: int) -> None:
    import cv2

    for number in STOP_SIGNALS:  # SLURM signals every process of a job; the workers go on until the run has saved
        signal.signal(number, signal.SIG_IGN)

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
