"""What a run keeps on disk about its SLURM jobs, below ``.snakemake/slurm-jobs`` of the working folder.

For every job ``<token>.json`` says what it makes, ``<token>.sh`` is what it runs, and ``<token>.status`` is how it ended:
exit status, begin and end in seconds since 1970. A job that the controller has forgotten is known by its status, and a run that
follows a killed one knows its jobs by their notes. ``identity`` is a word of the folder's own.
"""

from __future__ import annotations

import json
import os
import shlex
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from corrbench.files import write_json
from corrbench.locks import owner_line

FOLDER = Path(".snakemake/slurm-jobs")


@dataclass
class Note:
    """A job that was, or is about to be, submitted."""

    token: str
    what: str
    """Rule and wildcards, which the job has as its comment: ``rule_propagate_wildcards_davis2017-val_crw-r18.released.own``."""
    key: str
    """Digest of what decides the job's result."""
    outputs: list[str]
    number: str = ""
    """Number of the SLURM job; empty until sbatch has told it."""
    since: float = field(default_factory=time.time)
    """When it was submitted, in seconds since 1970."""
    owner: str = field(default_factory=owner_line)
    """The process that submitted it."""


class Status(NamedTuple):
    """How a job ended."""

    code: int
    began: float
    ended: float


class Notes:
    """The notes of one working folder."""

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir
        self.folder = workdir / FOLDER

    def identity(self) -> str:
        """What tells this folder from one of the same path on another host: drawn once, and kept with the notes."""
        path = self.folder / "identity"
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError), path.open("x") as file:
                file.write(uuid.uuid4().hex)
            return path.read_text().strip()
        return ""

    def write(self, note: Note) -> None:
        """Keep a note of a job; replaces the one that it has."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / f"{note.token}.json", asdict(note))

    def script(self, token: str, command: str) -> Path:
        """Write what the job runs: a command, whose exit status it leaves behind."""
        status, path = self.folder / f"{token}.status", self.folder / f"{token}.sh"
        final, new = shlex.quote(str(status)), shlex.quote(f"{status}.new")
        path.write_text(
            "#!/bin/sh\n"
            f"rm -f {final}\n"  # of a time before SLURM put the job back into the queue
            # a node where HOME is missing or cannot be written to: Snakemake keeps a cache there
            'cache="${XDG_CACHE_HOME:-$HOME/.cache}/snakemake"\n'
            '{ mkdir -p "$cache" && [ -w "$cache" ]; } 2> /dev/null || '
            f"export XDG_CACHE_HOME={shlex.quote(str(self.workdir / '.snakemake/cache'))}\n"
            "began=$(date +%s)\n"
            # true while every controller is down by its own client's words; not where SLURM cannot be asked from here
            'away() { case "$(scontrol ping 2> /dev/null)" in *" UP"*) return 1;; *" DOWN"*) return 0;; esac; return 1; }\n'
            "while :; do\n"
            f"( {command} )\n"
            "status=$?\n"
            # srun fails while the controller is away, which is not the job's fault: once more when it is back
            "[ $status -eq 0 ] || ! away && break\n"
            "while away; do sleep ${CORRBENCH_PING:-10}; done\n"
            "done\n"
            f'echo "$status $began $(date +%s)" > {new} && mv {new} {final}\n'
            "exit $status\n"
        )
        return path

    def status(self, token: str) -> Status | None:
        """How a job ended, as far as it could say so."""
        try:
            code, began, ended = (self.folder / f"{token}.status").read_text().split()
            return Status(int(code), float(began), float(ended))
        except (OSError, ValueError):
            return None

    def ended(self) -> set[str]:
        """The tokens of the jobs that have left their status."""
        with suppress(OSError):
            return {path.stem for path in self.folder.glob("*.status")}
        return set()

    def read(self) -> list[Note]:
        """All notes. Files that are none are passed over."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            with suppress(OSError, ValueError, TypeError):
                found.append(Note(**{**json.loads(path.read_text()), "token": path.stem}))
        return found

    def have_outputs(self, note: Note) -> bool:
        """True when every file that the job makes is there, and was written since it was submitted."""
        with suppress(OSError):
            for folder in {(self.workdir / path).parent for path in note.outputs}:
                os.listdir(folder)  # has a network file system look anew
            return all((self.workdir / path).stat().st_mtime >= note.since - 60 for path in note.outputs)
        return False

    def remove(self, token: str) -> None:
        """Remove what is kept of a job that is over."""
        for path in self.folder.glob(f"{token}.*"):
            with suppress(OSError):
                path.unlink(missing_ok=True)
