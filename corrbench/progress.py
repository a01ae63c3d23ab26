"""Progress of long work: a bar with rate and remaining time on a terminal, plain lines now and then otherwise."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from types import TracebackType

from tqdm import tqdm

LINE_EVERY = 15.0
"""Seconds between plain lines."""


class Progress:
    """``with Progress("propagate", 1999, unit="frame") as bar: bar.advance()``."""

    def __init__(self, name: str, total: int | None, *, unit: str = "it", done: int = 0) -> None:
        self.name, self.total, self.unit, self.done = name, total, unit, done
        self._start, self._last = time.monotonic(), time.monotonic()
        self._first = done
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, desc=name, unit=unit, initial=done, unit_scale=unit == "B")

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more as done; `note` is shown behind the bar."""
        self.done += count
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last > LINE_EVERY:
            self._last = time.monotonic()
            self._print(self._line(note))

    def _print(self, line: str) -> None:
        with suppress(BrokenPipeError):  # whoever read it has gone; the work need not stop for that
            print(line, file=sys.stderr, flush=True)

    def _line(self, note: str) -> str:
        rate = (self.done - self._first) / max(time.monotonic() - self._start, 1e-9)
        of = f" of {self.total}" if self.total else ""
        left = f", {(self.total - self.done) / rate:.0f} s left" if self.total and rate else ""
        return f"{self.name}: {self.done}{of} {self.unit}, {rate:.2f} {self.unit}/s{left} {note}".rstrip()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None:
            self._print(self._line(""))
