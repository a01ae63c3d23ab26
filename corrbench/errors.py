"""The one exception of the library, a refusal that a user can act on, and how a program ends."""

from __future__ import annotations

import difflib
import errno
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

UNSAID = 74
"""Exit status (sysexits' EX_IOERR) of a program that could not even write why it stopped."""
UNKNOWN = 70
"""Exit status (sysexits' EX_SOFTWARE) of a program that met an error which nobody foresaw."""


STOPPED = "stopped by {}: what is finished is kept; run the same command again to go on"


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


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived. Handled like Ctrl-C."""


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


def of_system(error: OSError, path: Path | str | None = None) -> Refusal:
    """The refusal for an error of the operating system; `path` names the file where the error does not."""
    place = error.filename if error.filename is not None else path
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno is None:  # of a library, about a content or a setting; its words say what
        return Refusal(
            f"{place or type(error).__name__}: {reason}", expected="what it names", do="correct what it names"
        )
    do = {
        errno.ENOENT: "correct the path",
        errno.ENOTDIR: "name a path whose parents are folders",
        errno.EISDIR: "name a file",
        errno.EEXIST: "remove what lies there, or name another path",
        errno.ELOOP: "remove the link that leads back to itself",
        errno.ENAMETOOLONG: "use shorter names",
        errno.EMFILE: "raise the limit of open files (ulimit -n)",
        errno.EROFS: "name a place that can be written",
        errno.ENOSPC: "free some space, or put `results:` on a larger disk",
        errno.EDQUOT: "free some space, or put `results:` on a larger disk",
    }.get(error.errno or 0, "check the permissions of the file and of its folder, or name another path")
    kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else Refusal
    return kind(f"{place or 'a file'}: {reason}", expected="a file or folder that this user may use", do=do)


def run_program(main: Callable[[], None]) -> NoReturn:
    """Run a program and end the process: 0 when all is done, else one block on stderr that says why, never a traceback.

    Exit statuses: 1 for a refusal, 130 after SIGINT and 143 after SIGTERM (what is finished is kept), 74 when even the
    refusal could not be written, 70 for an error that nobody foresaw. With CORRBENCH_DEBUG=1 the traceback comes first.
    A reader of stdout that stops early, as ``| head`` does, ends the program with status 1.
    """
    signal.signal(signal.SIGTERM, _terminate)
    if not os.environ.get("CORRBENCH_DEBUG"):
        sys.unraisablehook = lambda _: (
            None
        )  # a file of a library that cannot be closed on a full disk; the refusal says why
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell starts what runs in the background
        signal.signal(signal.SIGINT, _interrupt)
    try:
        main()
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError as error:
        if not _is_stdout_closed():
            raise SystemExit(_end_refused(error)) from error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's own flush fails at exit
        sys.exit(1)
    except KeyboardInterrupt as stopped:
        _end_stopped(signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)
    except Exception as error:
        if _stops and explain(error) is None:  # a library that was interrupted says so in its own way
            _end_stopped(_stops[0])
        sys.exit(_end_refused(error))
    sys.exit(0)


_stops: list[int] = []
"""The signals that asked this process to end."""


def _end_stopped(number: int) -> NoReturn:
    _say(STOPPED.format("SIGTERM" if number == signal.SIGTERM else "SIGINT"))
    with suppress(OSError, AttributeError, ValueError):
        sys.stdout.flush()
    os._exit(128 + number)  # threads that still work on what is given up would hold a normal exit


def _interrupt(number: int, frame: Any) -> None:
    _stops.append(number)
    raise KeyboardInterrupt


def _end_refused(error: Exception) -> int:
    """Say why a program stops; returns its exit status."""
    if os.environ.get("CORRBENCH_DEBUG"):
        traceback.print_exc()
    refusal = explain(error)
    _say(f"refused: {refusal or _unforeseen(error)}")
    return 1 if refusal is not None else UNKNOWN


def _is_stdout_closed() -> bool:
    """Whether the reader of stdout has stopped, as ``| head`` does; any other broken pipe is a worker's."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, AttributeError, ValueError):
        return True


def explain(error: BaseException) -> Refusal | None:
    """An exception as a refusal; None where its cause is unknown."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, OSError):
        return of_system(error)
    if isinstance(error, UnicodeError):
        return Refusal(
            f"a text that cannot be read or written here: {error}",
            expected="UTF-8 text",
            do="save the file as UTF-8; in a terminal set LANG=C.UTF-8",
        )
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator" in str(error)
    ):
        said = " ".join(str(error).split())[:200]
        return Refusal(
            f"not enough memory ({said})", expected="room for the work", do="use a machine or a job with more memory"
        )
    if type(error).__name__ == "BrokenProcessPool":
        return Refusal(
            "a worker process died (killed by the system, mostly for memory)",
            expected="workers that live until their work is done",
            do="use fewer --workers, or a machine or a job with more memory",
        )
    return None


def _unforeseen(error: BaseException) -> Refusal:
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "corrbench" in f.filename or "scripts" in f.filename
    ]
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return Refusal(
        f"an error that nobody foresaw{place}: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
        expected="input of the documented kinds",
        do="check the files that you named; CORRBENCH_DEBUG=1 shows the traceback for a bug report",
    )


def _say(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except (
        OSError,
        AttributeError,
        ValueError,
    ):  # the log lies on the disk that is full: only the status is left to say so
        os._exit(UNSAID)


def _terminate(number: int, frame: Any) -> None:
    _stops.append(number)
    raise Terminated
