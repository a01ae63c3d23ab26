"""The signals that ask a run to save and stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

from corrbench.pretraining.order import STOP_SIGNALS


class Asked:
    """Notes the signals that ask a job to stop: SIGTERM (SLURM before a time limit or a pre-emption), SIGUSR1, SIGINT.

    A second Ctrl-C ends the program at once.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._old: dict[int, Any] = {}

    @contextmanager
    def held_back(self, workers: int) -> Iterator[None]:
        """The `workers` processes started in this block get none of the signals; one that arrives meanwhile is noted at its end."""
        if workers:
            resource_tracker.ensure_running()  # it would let SIGINT and SIGTERM through when it is started in the block
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __enter__(self) -> Asked:
        for number in STOP_SIGNALS:
            self._old[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C means it
        self.signal = number
