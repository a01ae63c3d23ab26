"""The one exception of the library: a refusal that a user can act on."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

UNSAID = 74
"""Exit status (sysexits' EX_IOERR) of a program that could not even write why it stopped."""


class Refusal(Exception):
    """Something that must not be scored. The message says what was found, what was expected and what to do."""

    def __init__(self, found: str, *, expected: str = "", do: str = "") -> None:
        lines = [found]
        if expected:
            lines.append(f"  expected: {expected}")
        if do:
            lines.append(f"  what to do: {do}")
        super().__init__("\n".join(lines))


class DiskFull(Refusal):
    """A file found no room: nothing about its content, so nothing that may be skipped."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that looks most like `name`, as a hint: ``did you mean 'crw'?``; else the list of names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known names: " + (", ".join(known) if known else "none")


def few(names: Sequence[str], count: int = 5) -> str:
    """The first names of a list, for a message: ``a, b, c, d, e, ...``."""
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def run_program(main: Callable[[], None]) -> NoReturn:
    """Run a stage program: a refusal goes to stderr in one block and ends with exit status 1.

    A reader of stdout that stops early, as ``| head`` does, ends it without a traceback.
    """
    try:
        main()
        sys.stdout.flush()
    except Refusal as refusal:
        try:
            print(f"refused: {refusal}", file=sys.stderr, flush=True)
        except OSError:  # the log lies on the disk that is full: only the status is left to say so
            os._exit(UNSAID)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's own flush fails at exit
        sys.exit(1)
    sys.exit(0)
