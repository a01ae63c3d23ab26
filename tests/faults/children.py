"""Programs in forked children of this process, which has imported them: a start costs milliseconds."""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from corrbench.errors import run_program
from corrbench.pretraining.recipe import pretrain_code
from corrbench.provenance import code_version

PROGRAMS = (
    "convert", "doctor", "evaluate", "evaluate_boxes", "explain", "frames", "overlays", "overlays_boxes", "plots", "postprocess",
    "pretrain", "propagate", "report", "submission", "synthetic", "table", "track",
)  # fmt: skip
HANG = "it did not end"
STOPS = (signal.SIGTERM, signal.SIGINT)
Arguments = Callable[[], Sequence[object]]
"""Gives the arguments of a program; called in the child, in its folder."""


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    status: int
    """Exit status; negative for a signal."""
    out: str
    err: str
    seconds: float
    """Wall time."""
    cpu: float

    @property
    def hung(self) -> bool:
        """True if it was killed at its time limit."""
        return self.err.endswith(HANG)


@dataclass(frozen=True)
class Stop:
    """A signal, sent after some seconds, or else before a file gets its final name."""

    signal: signal.Signals
    seconds: float = 0
    renames: int = 0
    """Which rename the process does not live to see, from 1; 0: the seconds count."""


def import_programs() -> None:
    """Import what children will need. No thread is started: a fork would not have it."""
    torch.set_num_threads(1)
    for name in PROGRAMS:
        importlib.import_module(f"scripts.{name}")
        code_version(f"scripts/{name}.py")
    for name in ("corrbench.pretraining.crw", "matplotlib.pyplot"):
        importlib.import_module(name)
    pretrain_code("crw")


def run(
    folder: Path,
    program: str,
    arguments: Arguments,
    *,
    limit: float = 120,
    stop: Stop | None = None,
) -> Ended:
    """Run ``scripts/<program>.py`` in `folder`; `stop` ends it before."""
    start = time.monotonic()
    with Pipe() as out, Pipe() as err:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        pid = os.fork()
        if pid == 0:
            _child(folder, program, arguments, out.number, err.number, stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        process = os.pidfd_open(pid)
        try:
            if stop is not None and not stop.renames and not _ended(process, stop.seconds):
                os.kill(pid, stop.signal)
            hung = not _ended(process, limit)
            # and whatever it left behind: until it is waited for, nobody else can have its number
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
        finally:
            os.close(process)
        said = err.text() + (HANG if hung else "")
        return Ended(
            os.waitstatus_to_exitcode(status),
            out.text(),
            said,
            time.monotonic() - start,
            usage.ru_utime + usage.ru_stime,
        )


class Pipe:
    """A file without a name that takes what a program says."""

    def __enter__(self) -> Pipe:
        self.number = os.memfd_create("said")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.number)

    def text(self) -> str:
        """All of it."""
        return os.pread(self.number, os.fstat(self.number).st_size, 0).decode(errors="replace")


def _ended(process: int, seconds: float) -> bool:
    """Wait for the end of a process, at most for so long."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _stop_before_rename(stop: Stop) -> None:
    rename, count = os.replace, 0

    def replace(source: str, target: str) -> None:
        nonlocal count
        count += 1
        if count == stop.renames:
            os.kill(os.getpid(), stop.signal)
        rename(source, target)

    os.replace = replace  # type: ignore[assignment]


def _child(folder: Path, program: str, arguments: Arguments, out: int, err: int, stop: Stop | None) -> NoReturn:
    def main() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)  # only now a signal finds the program's own way to end
        sys.modules[f"scripts.{program}"].main()

    status = 70
    try:
        os.setsid()
        for number, stream in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
            os.dup2(number, stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(folder)
        sys.argv = [f"scripts/{program}.py", *map(str, arguments())]
        if stop is not None and stop.renames:
            _stop_before_rename(stop)
        run_program(main)
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        for written in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                written.flush()
        os._exit(status)
