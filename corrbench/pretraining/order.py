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

from corrbench.errors import DiskFull, Refusal

Samples = NDArray[np.int64]
"""``[n, k]``: video, then whatever the method needs (frame numbers)."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""What asks a run to save and stop."""
TRIES = 5
"""Samples tried before a batch is given up."""
REPLACED = 0.005
"""Largest share of the samples of a run that may be replaced because they cannot be read."""
SHOWN = 10
"""Files that a refusal names."""


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


class StepData(Dataset[dict[str, Any]]):
    """Samples by (epoch, position); the random numbers of a sample depend on nothing else."""

    def __init__(self, order: Order, reader: DataReader) -> None:
        self.order, self.reader = order, reader

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """The sample, or another one in place of one that cannot be read: `replaced` counts how many were tried in vain.

        Raises Refusal when five in a row cannot be read.
        """
        sample, refused = self._load(key)
        if sample is None:
            raise Refusal(f"{TRIES} samples in a row cannot be read; the last: {refused[-1]}", do="check the data set")
        return sample

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        """The samples of a batch, each with the messages `refused` of those that could not be read.

        A refusal comes back as text: an exception of a worker process arrives as the text of a traceback.
        """
        found = []
        for key in keys:
            sample, refused = self._load(key)
            found.append({**(sample or {}), "refused": refused})
        return found

    def _load(self, key: tuple[int, int]) -> tuple[dict[str, Tensor] | None, list[str]]:
        epoch, position = key
        rng = stream(LOAD, self.order.seed, epoch, position)
        samples = self.order.samples(epoch)
        refused: list[str] = []
        for replaced in range(TRIES):
            sample = samples[position if not replaced else int(rng.integers(len(samples)))]
            try:
                loaded = self.order.source.load(self.reader, sample, rng)
                return {**loaded, "replaced": torch.tensor(replaced)}, refused
            except DiskFull:
                raise
            except Refusal as refusal:  # one bad file must not end a run of days; `Budget` counts them
                refused.append(str(refusal))
        return None, refused


class Budget:
    """How many samples of a run may be replaced because they cannot be read: a share of all of one process, rounded down."""

    def __init__(self, samples: int, used: int = 0) -> None:
        self.samples, self.used = samples, used
        self.most = int(REPLACED * samples)
        self.seen: dict[str, None] = {}

    def spend(self, refused: Sequence[Sequence[str]]) -> None:
        """Count the samples of a batch, each with the messages of what could not be read in its place.

        Raises Refusal that names the files when they are too many.
        """
        self.used += sum(bool(messages) for messages in refused)
        for messages in refused:
            self.seen |= dict.fromkeys(message.splitlines()[0] for message in messages)
        if self.used > self.most or any(len(messages) == TRIES for messages in refused):
            raise Refusal(
                f"{self.used} of the {self.samples} samples of this run cannot be read:\n    "
                + "\n    ".join([*list(self.seen)[:SHOWN], *(["..."] if len(self.seen) > SHOWN else [])]),
                expected=f"at most {self.most} ({REPLACED:.1%}) that are replaced by other samples",
                do="put these files back, or run the frames stage again (for files of your own it makes the index anew)",
            )


class Steps:
    """Batches of keys of one process, from one step to another."""

    def __init__(self, order: Order, first: int, end: int, rank: int, world: int) -> None:
        self.order, self.first, self.end, self.rank, self.world = order, first, end, rank, world

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.first, self.end):
            yield self.order.positions(step, self.rank, self.world)

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def samples(self) -> int:
        """Samples of this process in the whole run, from its first step."""
        epochs, rest = divmod(self.end, self.order.steps)
        share = [len(self.order.positions(step, self.rank, self.world)) for step in (0, self.order.steps - 1)]
        return epochs * (share[0] * (self.order.steps - 1) + share[1]) + rest * share[0]


class Batches:
    """Batches of a run, in order; the budget of what cannot be read is counted here, in the process that trains."""

    def __init__(self, loader: DataLoader[dict[str, Any]], budget: Budget) -> None:
        self.loader, self.budget = loader, budget

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self._counted(iter(self.loader))  # the workers start now, with the caller's signal handlers

    def _counted(self, arriving: Iterator[dict[str, Any]]) -> Iterator[dict[str, Tensor]]:
        while True:
            try:
                batch = next(arriving)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker (pid" in str(error):
                    raise Refusal(
                        f"a process that loads data died ({' '.join(str(error).split())[:200]})",
                        expected="processes that live until the run ends",
                        do="use fewer --workers, or a machine or a job with more memory",
                    ) from error
                raise
            self.budget.spend(batch.pop("refused"))
            yield batch


def loader(data: StepData, steps: Steps, workers: int, *, pin: bool, used: int = 0) -> Batches:
    """One loader for the whole run: its workers never restart between epochs. `used`: samples that were replaced before."""
    more: dict[str, Any] = {"multiprocessing_context": "forkserver", "prefetch_factor": 4} if workers else {}
    batches: DataLoader[dict[str, Any]] = DataLoader(
        data, batch_sampler=steps, num_workers=workers, pin_memory=pin, collate_fn=collate_counted,
        worker_init_fn=_one_thread, **more,
    )  # fmt: skip
    return Batches(batches, Budget(steps.samples, used))


def collate(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Samples as a batch."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def collate_counted(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The samples of `StepData.__getitems__` as a batch, with their messages as lists under `refused`."""
    refused = [item.pop("refused") for item in items]
    return {**(collate(items) if all(items) else {}), "refused": refused}


def _one_thread(worker: int) -> None:
    import cv2

    for number in STOP_SIGNALS:  # SLURM signals every process of a job; the workers go on until the run has saved
        signal.signal(number, signal.SIG_IGN)

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
