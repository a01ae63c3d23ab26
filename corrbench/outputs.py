"""What a program writes: one run at a time on an output, and folders that are replaced only where an earlier run made them."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from corrbench.errors import Refusal, few, of_system
from corrbench.files import atomic, linked, make_parents, read_json, read_record, write_record
from corrbench.reading import is_system_file

MANIFEST = ".corrbench.json"
"""In a folder that corrbench made: what it is, and the names of all its files."""
TEMPORARY = re.compile(r"\.(?P<stem>.+)\.\d+-[0-9a-f]+\.tmp(?P<suffix>\.\w+)?$")
"""Names that `atomic` gives while something is written."""
WAIT = "CORRBENCH_WAIT"
"""Environment variable: seconds that a program waits for another run on its output before it refuses (the workflow sets
it, so that a job waits for one that a killed Snakemake left behind)."""


@contextmanager
def claim(path: Path, *beside: Path) -> Iterator[None]:
    """Hold an output (a file, or a folder by its name) against other runs while the block lasts.

    The lock lies beside it as ``.<name>.lock`` and is the kernel's: it is gone with the process that holds it, however that
    ends. The files `beside` it, which are written with it, are held as well. Temporaries that a killed run left are
    removed: of these outputs, and in `path` if it is a folder. Raises Refusal that names the process that is at work.
    """
    path = linked(path)
    make_parents(path)
    lock = _place(path)
    handle = _lock(lock, path, time.monotonic() + _patience())
    try:
        remove_temporaries(path.parent, path)
        remove_temporaries(path)
        if beside:
            with claim(*beside):
                yield
        else:
            yield
    finally:
        if handle is not None:
            lock.unlink(missing_ok=True)  # while it is held: nobody can have taken this file since
            os.close(handle)


def _place(path: Path) -> Path:
    """Where the lock of an output lies: beside it, or in a folder whose parent cannot be written (a mount point)."""
    inside = path.is_dir() and not os.access(path.parent, os.W_OK)
    return path / f".{path.name}.lock" if inside else path.with_name(f".{path.name}.lock")


def _patience() -> float:
    """Seconds from the environment variable `WAIT`."""
    said = os.environ.get(WAIT) or "0"
    try:
        seconds = float(said)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise Refusal(f"{WAIT}={said}: not a number of seconds", expected="seconds, for example 30", do=f"unset {WAIT}")
    return seconds


def _lock(lock: Path, path: Path, until: float) -> int | None:
    """An exclusive lock on the file; None on a file system that has no locks."""
    while True:
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise of_system(OSError(error.errno, f"no lock can be written ({error.strerror})", str(lock))) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip()
            os.close(handle)
            if time.monotonic() < until:
                time.sleep(0.2)
                continue
            raise Refusal(
                f"{path}: another run is writing it ({holder or 'it has just started'})",
                expected="one run at a time on an output",
                do="wait until it has finished, or name another output",
            ) from None
        except OSError as error:
            os.close(handle)
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                return None
            raise of_system(error, lock) from error
        try:
            current = os.stat(lock).st_ino == os.fstat(handle).st_ino
        except FileNotFoundError:
            current = False
        if current:  # else its last holder has just removed it
            try:
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} on {platform.node()}".encode(), 0)
            except OSError:
                pass  # a full disk: the lock itself holds without the words
            return handle
        os.close(handle)


def remove_temporaries(folder: Path, output: Path | None = None) -> None:
    """Remove what killed runs left half written in a folder: of one output, or of every output that no run holds now.

    For a folder or an output that this run has claimed. The names are such that nobody but `atomic` gives them.
    """
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        found = TEMPORARY.match(path.name)
        if found is None:
            continue
        name = found["stem"] + (found["suffix"] or "")
        if name != output.name if output is not None else _is_held(folder / f".{name}.lock"):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_held(lock: Path) -> bool:
    """Whether a run holds a lock file now."""
    try:
        handle = os.open(lock, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


@contextmanager
def made_folder(path: Path, kind: str) -> Iterator[Path]:
    """A folder that appears when the block has filled it, in place of one of the same kind that an earlier run made.

    Gives the temporary folder. Into a folder with files that corrbench did not write it refuses to write, before anything
    is made or removed: see `refuse_foreign`. Raises Refusal, also while another run writes the same folder.
    """
    path = linked(path)
    with claim(path):
        refuse_foreign(path, kind)
        with atomic(path) as temporary:
            temporary.mkdir(parents=True)
            yield temporary
            write_manifest(temporary, kind)


def refuse_within(out: Path, root: Path, scored: Path) -> None:
    """Raise Refusal for an output below a data root, which is never written to, or in the folder that is scored."""
    place = out.resolve()
    inside = root.resolve() in (place, *place.parents)
    if inside or place == scored.resolve():
        raise Refusal(
            f"--out {out}: " + (f"below the data root {root}" if inside else "the folder that is scored"),
            expected="a folder of its own",
            do="name another --out",
        )


def refuse_replacing(folder: Path, names: Sequence[str], record: str, key: str) -> None:
    """Raise Refusal before files of these names are replaced that corrbench did not write; else note that they will be ours.

    They are ours in a folder that says so, or if `record`, one of them, has the entry `key` or is damaged.
    """
    there = [name for name in names if (folder / name).exists()]
    if there and not (folder / MANIFEST).exists():
        try:
            found = read_json(folder / record) if record in there else None
        except Refusal:
            found = {key: "damaged"}
        if not (isinstance(found, dict) and key in found):
            raise Refusal(
                f"{folder}: holds {few(there)} that corrbench did not write; nothing was changed",
                expected=f"an empty folder, or that of an earlier run (with its {record})",
                do="name another --out, or move these files elsewhere",
            )
    write_record(folder / MANIFEST, {"made": "scores", "files": sorted(names)})


def write_manifest(folder: Path, kind: str) -> None:
    """Note the names of all files of a folder that is complete, so that a later run knows them as ours."""
    write_record(folder / MANIFEST, {"made": kind, "files": sorted(_files(folder))})


def _files(folder: Path) -> list[str]:
    """Files, links and empty folders below a folder, as relative paths; the manifest and what nobody wrote left out."""

    def failed(error: OSError) -> None:
        raise of_system(error)

    found = []
    for place, folders, files in os.walk(folder, onerror=failed):
        inside = Path(place).relative_to(folder)
        found += [(inside / name).as_posix() for name in files if name != MANIFEST and not is_nobodys(name)]
        found += [
            (inside / name).as_posix()
            for name in folders
            if os.path.islink(path := os.path.join(place, name)) or not any(os.scandir(path))
        ]
    return found


def is_nobodys(name: str) -> bool:
    """True for a file that no person misses: what an operating system leaves in folders, and locks and temporaries of ours."""
    return is_system_file(name) or bool(TEMPORARY.match(name) or re.match(r"\..+\.lock$", name))


def refuse_foreign(path: Path, kind: str) -> None:
    """Raise Refusal when a folder that is to be replaced holds anything that corrbench did not put there.

    A folder that is missing or empty may be filled; one with a manifest may be replaced if it holds nothing else than
    what the manifest lists.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise Refusal(f"{path}: a file", expected="a folder, or nothing", do="remove it, or name another folder")
    try:
        there = _files(path)
        if not there and not (path / MANIFEST).exists():
            return
    except OSError as error:
        raise of_system(error, path) from error
    try:
        made = read_record(path / MANIFEST, "a manifest")
    except Refusal:
        made = {"made": None, "files": []}
    foreign = sorted(set(there) - set(made["files"]))
    if foreign or made["made"] != kind:
        what = (
            f"{len(foreign)} files that corrbench did not write ({few(foreign, 3)})"
            if foreign
            else f"a {made['made']} folder"
        )
        raise Refusal(
            f"{path}: holds {what}; nothing was changed",
            expected=f"an empty folder, or a {kind} folder of an earlier run and nothing else",
            do="name another folder, or move these files elsewhere",
        )


class RunRecord:
    """What of a run is finished in its folder: ``.progress.json`` while it is at work, ``record.json`` once it is complete.

    So nothing half done has a final name, and a folder says whose it is from the first moment on.
    """

    def __init__(self, folder: Path, what: str, keys: Sequence[str]) -> None:
        """`what` the record is of, and the `keys` that it has, for a refusal."""
        self.folder, self.what, self.keys = folder, what, keys
        self.path, self.progress = folder / "record.json", folder / ".progress.json"

    @property
    def exists(self) -> bool:
        """Whether an earlier run began in this folder."""
        return self.progress.exists() or self.path.exists()

    def read(self) -> dict[str, Any]:
        """What the last run noted; empty where there was none. Raises Refusal for a record that is damaged or of another kind."""
        if not self.exists:
            return {}
        path = self.progress if self.progress.exists() else self.path
        return read_record(path, self.what, f"remove {self.folder} and run again", self.keys)

    def note(self, value: Mapping[str, Any], *, complete: bool = False) -> None:
        """Write down what is finished; `complete`: all of it."""
        if complete:
            write_record(self.path, value)
            self.progress.unlink(missing_ok=True)
        else:
            write_record(self.progress, value)
            self.path.unlink(missing_ok=True)
