"""How long a run waits for SLURM, and how often it says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

PAUSES = (5, 10, 20, 40, 60)
"""Seconds between tries of a command that fails for a while; the last one from then on."""
TELL = 600
"""Seconds between two lines about the same trouble."""


class RunEnds(Exception):
    """The run ends while something still waits."""


class Patience:
    """Tries again for as long as the run lasts, and says what it waits for."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self.ending = threading.Event()
        self._told: dict[str, float] = {}

    def tries(self) -> Iterator[None]:
        """Once for every try, with growing pauses between them and no end. Raises RunEnds when the run ends."""
        for pause in chain(PAUSES, repeat(PAUSES[-1])):
            if self.ending.is_set():
                raise RunEnds
            yield
            self.ending.wait(pause)

    def say(self, about: str, line: str) -> None:
        """Warn of a trouble, and not again within ten minutes unless it was over in between."""
        if time.monotonic() - self._told.get(about, -TELL) >= TELL:
            self._told[about] = time.monotonic()
            self.logger.warning(line)

    def over(self, about: str) -> None:
        """A trouble is over."""
        self._told.pop(about, None)
