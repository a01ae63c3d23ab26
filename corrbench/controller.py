"""What the workflow adds to Snakemake itself: results that do not belong are made again, and locks of dead runs are none.

Snakemake 9.20 has no public way for either, so one method of its workflow object is wrapped: the one that makes the graph of
jobs, before the graph is built. Only the main process does so, never the processes that it starts for single jobs.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from corrbench.errors import Refusal
from corrbench.locks import at_work_here, holders, owner_line, remove_dead

PARENT = "CORRBENCH_PARENT"
"""Environment variable: the process that started Snakemake and ends with it."""
PATIENCE = 20
"""Seconds that a run waits for another one that is about to end, and that the jobs of one that ends have."""
STALE = "Made again where the target needs it, because it does not belong to what is asked now:"


def watch(workflow: Any, stale: Callable[[], Mapping[Path, str]], warn: Callable[[str], None]) -> None:
    """Have the workflow force what `stale` names (reasons by path) and say why, and take locks under the name of this process.

    A forced file is made again if the target needs it; it is no target itself, as those of ``--forcerun`` are.
    """
    prepare = workflow._prepare_dag
    end_with_parent()

    def prepared(*arguments: Any, **settings: Any) -> None:
        prepare(*arguments, **settings)
        if not workflow.dryrun and not settings.get("nolock") and hasattr(workflow.persistence, "_lockdir"):
            name_locks(workflow.persistence)
        found = stale()
        if found:
            warn("\n".join([STALE, *_lines(found)]))
            workflow.dag.forcefiles.update(map(str, found))

    workflow._prepare_dag = prepared


def _lines(found: Mapping[Path, str]) -> Iterator[str]:
    """Every reason, and below it its files."""
    files: dict[str, list[str]] = {}
    for path, why in found.items():
        files.setdefault(" ".join(why.split()), []).append(str(path))
    for why, paths in files.items():
        yield f"  {why}"
        yield from (f"    {path}" for path in paths)


def parse_stale(text: str) -> dict[str, str]:
    """The reasons by path, from what a run printed."""
    found: dict[str, str] = {}
    why = None
    for line in text.splitlines():
        if line.strip() == STALE:
            why = ""
        elif why is not None and line.startswith("    "):
            found[line[4:]] = why
        elif why is not None and line.startswith("  "):
            why = line[2:]
        else:
            why = None
    return found


def stop(refusal: Refusal) -> NoReturn:
    """End snakemake with the words of a refusal; an exception would be shown with its traceback."""
    print(f"refused: {refusal}", file=sys.stderr, flush=True)
    sys.exit(1)


def keep_cache() -> None:
    """Have Snakemake keep its cache in the working folder where it cannot write below HOME; it would end with a traceback."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    folder = base / "snakemake"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        pass
    os.environ["XDG_CACHE_HOME"] = str(Path(".snakemake/cache").resolve())


def name_locks(persistence: Any) -> None:
    """Have Snakemake's locks name this process, remove those of dead runs first, and refuse in words those of living ones."""
    folder = Path(persistence._lockdir)
    write, lock = persistence._write_locks, persistence.lock

    def write_named(kind: str, keys: Iterable[str]) -> None:
        found = list(keys)
        for attempt in range(5 if found else 0):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                write(kind, [owner_line(), *found])
                return
            except FileNotFoundError:  # the run that has just ended removed the folder with its locks
                if attempt == 4:
                    raise

    @contextmanager
    def locked() -> Iterator[None]:
        until = time.monotonic() + PATIENCE
        remove_dead(folder)
        while persistence.locked and time.monotonic() < until:
            time.sleep(0.5)
            remove_dead(folder)
        if persistence.locked:
            unlock = shlex.join(["snakemake", "--unlock", *sys.argv[1:]])
            stop(Refusal(
                f"another run makes these results: {holders(folder)}",
                expected="one run at a time on a results folder",
                do="wait until it has finished, or stop it with Ctrl-C in its terminal"
                if at_work_here(folder)
                else f"wait until it has finished; if none is at work anywhere, this removes its lock: {unlock}",
            ))  # fmt: skip
        with lock():
            yield

    remove = persistence.cleanup_locks

    def remove_of_others() -> None:
        remove_dead(folder)
        if at_work_here(folder):
            stop(Refusal(
                f"--unlock: {holders(folder)} is at work on these results",
                expected="a lock whose run is over",
                do="wait until it has finished, or stop it with Ctrl-C in its terminal",
            ))  # fmt: skip
        remove()

    persistence._write_locks, persistence.lock, persistence.cleanup_locks = write_named, locked, remove_of_others


def end_with_parent() -> None:
    """End this process and its jobs soon after the program that started it has ended, however that ended (`PARENT`)."""
    parent = os.environ.pop(PARENT, "")
    if not parent.isdigit() or os.getpgid(0) != os.getpid():
        return

    def wait() -> None:
        while os.getppid() == int(parent):
            time.sleep(1)
        os.killpg(0, signal.SIGTERM)
        time.sleep(PATIENCE)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()
