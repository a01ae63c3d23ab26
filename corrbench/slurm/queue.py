"""What SLURM says of jobs: the queue, single jobs, and which words of it will not pass by themselves."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

TIMEOUT = 60
"""Seconds after which a command that has not answered counts as failed."""
ENDED = frozenset(("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
                   "REVOKED", "TIMEOUT"))  # fmt: skip
"""States of a job that does not run any more."""
RETURNING = frozenset(("PREEMPTED", "NODE_FAIL"))
"""Ended states that a job leaves again when SLURM puts it back into the queue."""
_STANDING = re.compile(
    r"PartitionTimeLimit|MaxMemPerLimit|BadConstraints|InvalidAccount|InvalidQOS|AccountNotAllowed|QOSNotAllowed"
    r"|DependencyNeverSatisfied|JobHoldMaxRequeue|job_requeued_in_held_state"
    r"|(QOS|Assoc|AssocGrp|QOSGrp)Max\w*(PerJob|PerJobLimit|WallDurationPerJobLimit)|QOSMinGRES|QOSMin\w+"
)  # fmt: skip
"""Reasons of a pending job that time does not cure."""
_PASSING = re.compile(
    r"unable to contact|contact slurm controller|socket timed out|timed out|unexpected message|zero bytes|transport endpoint|connection refused"
    r"|connection reset|temporarily|try again|resource temporarily unavailable|MaxSubmit|max_?submit"
    r"|in standby mode|controller is busy|slurmdbd|protocol authentication|credential (expired|replayed)|nodes? configuration.*reconfig"
    r"|requested operation is presently disabled|invalid job credential|message receive failure|node failure|exceeds? .*job count",
    re.IGNORECASE,
)
"""Words of an sbatch that refuses for a while only."""
SUBMIT_LIMIT = re.compile(r"MaxSubmit|max_?submit", re.IGNORECASE)
"""Words of an sbatch that refuses because the user has enough jobs in the queue."""


@dataclass(frozen=True)
class Row:
    """A job as squeue shows it."""

    id: str
    state: str
    reason: str
    start: datetime | None
    """When it began to run, as far as it did."""
    nodes: int
    comment: str

    @property
    def live(self) -> bool:
        """True while it waits, runs, or is about to."""
        return self.state not in ENDED


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of SLURM in a session of its own, which no Ctrl-C of this terminal reaches. One that hangs counts as failed."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, start_new_session=True
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} timed out")
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]}: {error}")


def squeue(name: str) -> list[str]:
    """The command that lists all jobs of a name, those that have ended as long as the controller remembers them."""
    return ["squeue", "--me", "--array", "--states=all", "--noheader", "--name", name, "--format", "%i|%T|%r|%S|%D|%k"]


def parse(text: str) -> dict[str, Row]:
    """The rows of `squeue`, by number of the job. Lines that are none are passed over."""
    rows = {}
    for line in text.splitlines():
        parts = line.strip().split("|", 5)
        if len(parts) > 1 and re.fullmatch(r"\d+(_\d+)?", parts[0]):
            number, state, reason, start, nodes, comment = [*parts, *[""] * (6 - len(parts))]
            rows[number] = Row(number, state, reason, _time(start), int(nodes) if nodes.isdigit() else 1, comment)
    return rows


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def state_of(number: str) -> str | None:
    """The state of one job as the controller knows it; empty when it has forgotten it, None when it does not answer."""
    done = run(["scontrol", "show", "job", number, "-o"])
    if done.returncode == 0:
        found = re.search(r"JobState=(\w+)", done.stdout)
        return found[1] if found else None
    return "" if "invalid job id" in (done.stdout + done.stderr).lower() else None


def accounted(number: str) -> str:
    """The state of one job in the accounting; empty where there is none."""
    done = run(["sacct", "-X", "-n", "-P", "-o", "State", "-j", number])
    return done.stdout.split()[0] if done.returncode == 0 and done.stdout.strip() else ""


def stands_still(row: Row) -> bool:
    """True for a job that waits for what will not come."""
    return row.state in ("REQUEUE_HOLD", "SPECIAL_EXIT") or (
        row.state == "PENDING" and _STANDING.search(row.reason.replace(" ", "_")) is not None
    )


def will_pass(said: str) -> bool:
    """True when sbatch refuses for a reason that time cures."""
    return _PASSING.search(said) is not None
