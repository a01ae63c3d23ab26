"""Whether a job goes on, is done, or has failed: what SLURM says, and what the job left on disk."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from corrbench.slurm import queue
from corrbench.slurm.notes import Note, Notes, Status
from corrbench.slurm.queue import Queue, Row

SURE = 30
"""Seconds after which a state that a job may still leave (PREEMPTED), or a file that a job should have left, is believed."""
VERY_SURE = 600
"""Seconds after which a job with an exit status has ended, although SLURM goes on to show it as running."""


@dataclass
class Watched:
    """A job of this run, as the run has seen it."""

    note: Note
    row: Row | None = None
    """What squeue said of it last."""
    oddly: float | None = None
    """Since when its state is one that needs a second look (monotonic seconds)."""
    status: Status | None = None
    """How it ended, in its own words."""
    until: float = 0.0
    """When it was known to have ended, in seconds since 1970."""
    failed: str = ""
    """Why it failed; empty for a job that is done or goes on."""

    @property
    def hours(self) -> float:
        """Node hours that it ran."""
        began = self._began()
        ended = self.status.ended if self.status else self.until
        return max(0.0, ended - began) * (self.row.nodes if self.row else 1) / 3600 if began else 0.0

    @property
    def waited(self) -> float:
        """Seconds that it waited in the queue."""
        began = self._began()
        return max(0.0, began - self.note.since) if began else 0.0

    def _began(self) -> float:
        if self.status is not None:
            return self.status.began
        return self.row.start.timestamp() if self.row is not None and self.row.start is not None else 0.0

    def lasts(self, seconds: float) -> bool:
        """True when a state that needs a second look has lasted."""
        self.oddly = self.oddly or time.monotonic()
        return time.monotonic() - self.oddly > seconds


def judge(job: Watched, rows: Mapping[str, Row] | None, notes: Notes, jobs: Queue) -> str | None:
    """None for a job that goes on, empty for one that is done, else why it failed.

    `rows` is what the queue shows, None where the controller does not answer. A failed job is surely over: one that SLURM might
    still start is canceled.
    """
    number = job.note.number
    row = rows.get(number) if rows is not None else None
    job.row = row or job.row
    job.status = notes.status(job.note.token)
    if job.status is not None and job.status.code == 0:
        return ""
    if row is None:
        return None if rows is None else _judge_absent(job, notes, jobs)
    if row.state == "COMPLETED":
        return "" if job.lasts(SURE) else None  # its status is about to appear; without one SLURM's word counts
    if row.state in queue.RETURNING:
        if not job.lasts(SURE):
            return None
        jobs.cancel([number])  # so that SLURM cannot put it back any more
        return f"SLURM status is: '{row.state}'"
    if row.state in queue.ENDED:
        return f"SLURM status is: '{row.state}'"
    if job.status is not None and row.state in ("RUNNING", "COMPLETING"):
        # of this execution, or of one before SLURM put the job back: SLURM will say; a controller that lost its memory will not
        return f"exit status {job.status.code}" if job.lasts(VERY_SURE) else None
    if queue.stands_still(row):
        if not job.lasts(SURE):
            return None
        jobs.cancel([number])
        return (
            f"it would wait for ever: SLURM says {row.state} for the reason {row.reason}; ask for less with set-resources in "
            "slurm/config.yaml, or name another partition (CORRBENCH_SLURM_PARTITION, CORRBENCH_SLURM_GPU_PARTITION)"
        )
    job.oddly = None
    return None


def _judge_absent(job: Watched, notes: Notes, jobs: Queue) -> str | None:
    """The same for a job that the queue does not show."""
    state = jobs.state_of(job.note.number)  # squeue alone may be stale
    if state is None or (state and state not in queue.ENDED):
        job.oddly = None
        return None
    if job.status is not None:
        return f"exit status {job.status.code}"
    if not job.lasts(SURE):
        return None
    seen = job.row.state if job.row is not None and not job.row.live else ""
    state = state or seen or queue.accounted(job.note.number)
    if state == "COMPLETED" or notes.have_outputs(job.note):
        return ""
    return (
        f"SLURM status is: '{state}'"
        if state
        else "SLURM has forgotten it, and it left neither an exit status nor its files"
    )


def summary(ended: list[Watched]) -> list[str]:
    """What the jobs of a run came to, in lines; none without jobs."""
    if not ended:
        return []
    tasks: dict[str, list[Watched]] = {}
    for job in ended:
        tasks.setdefault(job.note.what, []).append(job)
    failed = sum(1 for job in ended if job.failed)
    hours, minutes = sum(job.hours for job in ended), sum(job.waited for job in ended) / 60
    lines = [
        f"SLURM jobs: {len(ended)} for {len(tasks)} tasks, {failed} of them failed; {hours:.2f} node hours, "
        f"{minutes:.0f} minutes of waiting in the queue."
    ]
    for what, tried in tasks.items():
        if any(job.failed for job in tried):
            ends = [
                f"attempt {n} (job {job.note.number}): {job.failed or 'done'}" for n, job in enumerate(tried, start=1)
            ]
            lines.append(f"  {what}: {'; '.join(ends)}")
    return lines
