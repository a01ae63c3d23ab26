"""What SLURM says of jobs: the queue, single jobs, and which words of it will not pass by themselves."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from corrbench.slurm.patience import Patience, RunEnds

TIMEOUT = 60
"""Seconds after which a command that has not answered counts as failed."""
ENDED = frozenset(("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
                   "REVOKED", "TIMEOUT"))  # fmt: skip
"""States of a job that does not run any more."""
RETURNING = frozenset(("PREEMPTED", "NODE_FAIL"))
"""Ended states that a job leaves again when SLURM puts it back into the queue."""
_STANDING = re.compile(
    r"PartitionTimeLimit|PartitionConfig|MaxMemPerLimit|BadConstraints|InvalidAccount|InvalidQOS|AccountNotAllowed|QOSNotAllowed"
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


def parse(text: str) -> dict[str, Row]:
    """The rows of squeue in `Queue.FORMAT`, by number of the job. Lines that are none are passed over."""
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


class Queue:
    """The jobs of one name, as the controller tells of them."""

    FORMAT = "%i|%T|%r|%S|%D|%k"

    def __init__(self, name: str, patience: Patience) -> None:
        self.name, self.patience = name, patience

    def look(self) -> dict[str, Row] | None:
        """All jobs of the name, those that have ended as long as the controller remembers them; None while it does not answer."""
        done = run(
            ["squeue", "--me", "--array", "--states=all", "--noheader", "--name", self.name, "--format", self.FORMAT]
        )
        if done.returncode:
            self.away(done.stderr)
            return None
        self.patience.over("away")
        return parse(done.stdout)

    def wait(self) -> dict[str, Row]:
        """The same, as soon as the controller answers. Raises RunEnds when the run ends meanwhile."""
        for _ in self.patience.tries():
            if (rows := self.look()) is not None:
                return rows
        raise RunEnds

    def state_of(self, number: str) -> str | None:
        """The state of a job as the controller knows it, also where squeue is stale.

        Empty when it has forgotten the job, or has given the number to one of another name; None when it does not answer.
        """
        done = run(["scontrol", "show", "job", number, "-o"])
        if done.returncode == 0:
            name, state = (re.search(rf"\b{key}=(\S*)", done.stdout) for key in ("JobName", "JobState"))
            if name is None or state is None:
                return None
            return state[1] if name[1] == self.name else ""
        return "" if "invalid job id" in (done.stdout + done.stderr).lower() else None

    def cancel(self, numbers: Iterable[str]) -> bool:
        """Ask for the end of jobs; False when the controller does not answer. Jobs that have ended do no harm."""
        asked = sorted(numbers)
        return not asked or run(["scancel", "--quiet", *asked]).returncode == 0

    def away(self, said: str) -> None:
        """Say that the controller does not answer, in the words of the command that failed."""
        words = " ".join(said.split())[:200]
        self.patience.say("away", f"The SLURM controller does not answer ({words}). The run waits for it.")
