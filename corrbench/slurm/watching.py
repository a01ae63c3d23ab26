"""Whether a job goes on, is done, or has failed: what SLURM says, and what the job left on disk."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from corrbench.slurm import queue
from corrbench.slurm.notes import Note, Notes, Status
from corrbench.slurm.queue import Queue, Row

SURE = 30
"""Seconds after which a state that a job may still leave (PREEMPTED) is believed."""
CANCELED = "canceled"
"""What is said of jobs that Ctrl-C ended."""
VERY_SURE = 600
"""Seconds after which it is said that SLURM goes on to show a job as running which has left an exit status."""


@dataclass
class Watched:
    """A job of this run, as the run has seen it."""

    note: Note
    attempt: int = 1
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


def judge(job: Watched, rows: Mapping[str, Row] | None, notes: Notes, jobs: Queue, late: float = SURE) -> str | None:
    """None for a job that goes on, empty for one that is done, else why it failed.

    `rows` is what the queue shows, None where the controller does not answer. `late` are the seconds after which files that the
    file system does not show are not there. A job is judged as failed only when it is surely over.
    """
    number = job.note.number
    row = rows.get(number) if rows is not None else None
    job.row = row or job.row
    job.status = notes.status(job.note.token)
    if job.status is not None and job.status.code == 0:
        return ""
    if rows is None:
        return None
    # squeue alone may be stale: what it does not show is asked for by number
    state, reason = (row.state, row.reason) if row is not None else (jobs.state_of(number), "")
    if state is None:
        return None
    if state == "COMPLETED":
        return "" if job.lasts(late) else None  # its status is about to appear; without one SLURM's word counts
    if state in queue.RETURNING:
        if not job.lasts(SURE):
            return None
        return _canceled(job, jobs, f"SLURM status is: '{state}'")
    if state in queue.ENDED:
        return f"SLURM status is: '{state}'"
    if state == "":
        return _judge_forgotten(job, notes, late)
    if job.status is not None and state in ("RUNNING", "COMPLETING"):
        # of this execution, or of one before SLURM put the job back: SLURM will say which
        if job.lasts(VERY_SURE):
            jobs.patience.say(
                number,
                f"SLURM job {number} left the exit status {job.status.code} and is {state}. The run waits for its end.",
            )
        return None
    if remedy := queue.stands_still(state, reason):
        if not job.lasts(SURE):
            return None
        return _canceled(
            job, jobs, f"it would wait for ever: SLURM says {state} for the reason {reason or 'unknown'}; {remedy}"
        )
    job.oddly = None
    return None


def _canceled(job: Watched, jobs: Queue, failed: str) -> str | None:
    """The verdict, once the job is canceled so that SLURM cannot start it any more."""
    jobs.cancel([job.note.number])
    return failed if queue.is_over(jobs.state_of(job.note.number)) else None


def _judge_forgotten(job: Watched, notes: Notes, late: float) -> str | None:
    """The same for a job that the controller does not know any more."""
    if job.status is not None:
        return f"exit status {job.status.code}"
    if notes.have_outputs(job.note):
        return ""
    if not job.lasts(late):
        return None
    seen = job.row.state if job.row is not None and not job.row.live else ""
    state = seen or queue.accounted(job.note.number)
    if state == "COMPLETED":
        return ""
    return (
        f"SLURM status is: '{state}'"
        if state
        else "SLURM has forgotten it, and it left neither an exit status nor its files"
    )


def _span(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _job(job: Watched) -> str:
    return f"job {job.note.number}" if job.note.number else "not submitted"


def summary(ended: list[Watched]) -> list[str]:
    """What the jobs of a run came to, in lines; none without jobs."""
    if not ended:
        return []
    tasks: dict[str, list[Watched]] = {}
    for job in ended:
        tasks.setdefault(job.note.what, []).append(job)
    ends = {
        job.note.number: "canceled" if job.failed == CANCELED else "failed" if job.failed else "done" for job in ended
    }
    ends.pop("", None)  # attempts that were refused
    counts = [f"{n} {end}" for end in ("done", "failed", "canceled") if (n := list(ends.values()).count(end))]
    ran, waited = sum(job.hours for job in ended) * 3600, sum(job.waited for job in ended)
    lines = [
        f"SLURM jobs: {len(ends)} for {len(tasks)} tasks ({', '.join(counts) or 'none ran'}); {_span(ran)} on nodes, "
        f"{_span(waited)} in the queue, all jobs together."
    ]
    for what, tried in tasks.items():
        if any(job.failed not in ("", CANCELED) for job in tried):
            attempts = [f"attempt {job.attempt} ({_job(job)}): {job.failed or 'done'}" for job in tried]
            lines.append(f"  {what}: {'; '.join(attempts)}")
    return lines
