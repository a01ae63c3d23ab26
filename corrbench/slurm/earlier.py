"""Jobs that an earlier run of the folder left, which the next run takes up instead of computing twice."""

from __future__ import annotations

import platform
import threading
from collections.abc import Iterable

from corrbench.locks import is_gone, owner_in
from corrbench.slurm import queue
from corrbench.slurm.notes import Note, Notes
from corrbench.slurm.patience import Patience
from corrbench.slurm.queue import Queue, Row


class Earlier:
    """The living jobs of a folder whose run is over."""

    def __init__(self, notes: Notes, jobs: Queue, patience: Patience) -> None:
        self.notes, self.queue, self.patience = notes, jobs, patience
        self.left: list[Note] | None = None
        """Those that no job of this run has met yet; None until they were looked for."""
        self.seen: set[str] = set()
        """Every job of the name that the queue showed before this run submitted any."""
        self._lock = threading.Lock()

    def _find(self) -> list[Note]:
        if self.left is None:
            rows = self.queue.wait()
            self.seen |= set(rows)
            notes = self.notes.read()
            self._number(notes, rows)
            self.left = [note for note in notes if self._lives(note, rows)]
        return self.left

    def _number(self, notes: list[Note], rows: dict[str, Row]) -> None:
        """Find the jobs of notes whose run was killed before sbatch had told the number, by what they make."""
        numbers = {note.number for note in notes}
        free = {n: row.comment for n, row in rows.items() if row.live and n not in numbers}
        for note in notes:
            if not note.number and (found := next((n for n, what in free.items() if what == note.what), "")):
                note.number = found
                del free[found]

    def take(self, outputs: list[str], key: str) -> Note | None:
        """The living job that makes just these files in just this way. Waits for a controller that is away.

        Jobs that make some of the files otherwise are canceled, and waited for, so that no two jobs write the same file. Raises
        RunEnds when the run ends meanwhile.
        """
        with self._lock:
            meeting = [note for note in self._find() if set(note.outputs) & set(outputs)]
            same = [note for note in meeting if (note.outputs, note.key) == (outputs, key)][:1]
            others = [note for note in meeting if note not in same]
            if others:
                numbers = ", ".join(note.number for note in others)
                self.patience.logger.info(
                    f"SLURM jobs {numbers} of an earlier run make the same files otherwise, or from other files: they are canceled."
                )
                self._cancel(note.number for note in others)
            self.left = [note for note in self._find() if note not in meeting]
        return same[0] if same else None

    def _lives(self, note: Note, rows: dict[str, Row]) -> bool:
        """True for a job to take up. Removes the note of one that is over."""
        owner = owner_in(note.owner)
        if owner is not None and not is_gone(owner) and owner.get("host") == platform.node():
            return False  # of a run on other targets that is at work beside this one
        if note.number:
            state = rows[note.number].state if note.number in rows else self.queue.state_of(note.number)
            if not queue.is_over(state):
                return True
        self.notes.remove(note.token)
        return False

    def _cancel(self, numbers: Iterable[str]) -> None:
        """Cancel jobs and wait until they are gone, also for a node that is slow to end them and a controller that is away."""
        waiting = set(numbers)
        for _ in self.patience.tries():
            self.queue.cancel(waiting)
            self.patience.ending.wait(1)
            waiting = {n for n, state in self.queue.states(waiting).items() if not queue.is_over(state)}
            if not waiting:
                return
            self.patience.say(
                "canceled",
                f"SLURM jobs {', '.join(sorted(waiting))} were canceled and have not ended yet. The run waits for them.",
            )
