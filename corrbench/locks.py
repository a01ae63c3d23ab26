"""Snakemake's locks with the name of the run that holds them, so that a lock whose run is gone is no lock."""

from __future__ import annotations

import fcntl
import json
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

OWNER = "# held by "
"""Begins the line of a lock file that names its run; the other lines are paths, and no path begins so."""


def owner_line() -> str:
    """The line for this process: host, boot and process namespace tell whether its number means anything where it is read."""
    return OWNER + json.dumps(_identity(os.getpid()))


def _identity(pid: int) -> dict[str, Any]:
    return {
        "host": platform.node(),
        "machine": _machine(),
        "boot": _boot(),
        "namespace": _namespace(),
        "pid": pid,
        "start": _start(pid),
    }


def _machine() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _start(pid: int) -> str | None:
    """When a process started, in ticks since the boot; None where that cannot be known, or where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def owner_of(lock: Path) -> dict[str, Any] | None:
    """The run that holds a lock file; None for a lock that names none, as those of other workflows."""
    try:
        return owner_in(lock.read_text(errors="replace").partition("\n")[0])
    except OSError:
        return None


def owner_in(line: str) -> dict[str, Any] | None:
    """The run that a line of `owner_line` names; None for any other line."""
    try:
        owner = json.loads(line.removeprefix(OWNER)) if line.startswith(OWNER) else None
    except ValueError:
        return None
    return owner if isinstance(owner, dict) else None


def is_gone(owner: dict[str, Any]) -> bool:
    """True if the run is surely over: its host is this one, and was started anew since, or has no such process any more."""
    if owner.get("host") != platform.node():
        return False
    if owner.get("machine") != _machine():
        return False  # another machine of the same name: containers and clones often have one
    if owner.get("boot") != _boot():
        return True
    if owner.get("namespace") != _namespace():
        return False
    pid = owner.get("pid")
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return _start(pid) != owner.get("start") or _is_dead(pid)


def _is_dead(pid: int) -> bool:
    """True for a process that has ended and that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except (OSError, IndexError):
        return False


def remove_dead(folder: Path) -> list[Path]:
    """Remove the locks in a folder whose runs are gone; returns them.

    One process at a time looks and removes: another one may just have taken the name of a dead lock for its own.
    """
    if not any(folder.glob("*.lock")):
        return []
    with (folder.parent / f".{folder.name}.cleaning").open("w") as guard:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(guard, fcntl.LOCK_EX)
        locks = sorted(folder.glob("*.lock"))
        dead = [lock for lock in locks if (owner := owner_of(lock)) is not None and is_gone(owner)]
        for lock in dead:
            lock.unlink(missing_ok=True)
    return dead


def at_work_here(folder: Path) -> bool:
    """True if a run that holds a lock in a folder is alive on this host."""
    owners = [owner_of(lock) for lock in folder.glob("*.lock")]
    return any(
        o.get("host") == platform.node() and o.get("namespace") == _namespace() and not is_gone(o) for o in owners if o
    )


def holders(folder: Path) -> str:
    """Who holds the locks in a folder, in words."""
    owners = [owner_of(lock) for lock in sorted(folder.glob("*.lock"))]
    words = [f"process {o.get('pid')} on {o.get('host')}" if o else "a run that left no name" for o in owners]
    return ", ".join(dict.fromkeys(words)) or "nobody"
