"""What SLURM says of jobs: the queue, single jobs, and which words of it will not pass by themselves."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
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
_TOO_MUCH = re.compile(
    r"PartitionTimeLimit|PartitionConfig|MaxMemPerLimit|BadConstraints"
    r"|(QOS|Assoc|AssocGrp|QOSGrp)Max\w*(PerJob|PerJobLimit|WallDurationPerJobLimit)|QOSMin\w+"
)
_NOT_ALLOWED = re.compile(r"InvalidAccount|InvalidQOS|AccountNotAllowed|QOSNotAllowed")
_HELD = re.compile(r"DependencyNeverSatisfied|JobHoldMaxRequeue|job_requeued_in_held_state|requeued_held")
_HELD_STATES = frozenset(("REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"))
_PASSING = re.compile(
    r"unable to contact|contact slurm controller|configuration source|no route|unreachable|resolve|lookup|socket timed out|timed out|unexpected message|zero bytes|transport endpoint|connection refused"
    r"|connection reset|temporarily|try again|resource temporarily unavailable|MaxSubmit|max_?submit|SubmitJobs?Limit"
    r"|inactive or drain|error writing script"
    r"|in standby mode|controller is busy|slurmdbd|protocol authentication|credential (expired|replayed)|nodes? configuration.*reconfig"
    r"|requested operation is presently disabled|invalid job credential|message receive failure|node failure|exceeds? .*job count",
    re.IGNORECASE,
)
"""Words of an sbatch that refuses for a while only."""
SUBMIT_LIMIT = re.compile(r"MaxSubmit|max_?submit|SubmitJobs?Limit", re.IGNORECASE)
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


def run(command: Sequence[str], timeout: float = TIMEOUT) -> subprocess.CompletedProcess[str]:
    """Run a command of SLURM in a session of its own, which no Ctrl-C of this terminal reaches.

    One that takes longer than `timeout` seconds is killed with everything that it started, and counts as failed.
    """
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]}: {error}")
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} timed out")
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


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


def is_over(state: str | None) -> bool:
    """True for a state, as `Queue.state_of` gives it, of a job that has ended or that the controller has forgotten."""
    return state is not None and (state == "" or state in ENDED)


def accounted(number: str) -> str:
    """The state of one job in the accounting; empty where there is none."""
    done = run(["sacct", "-X", "-n", "-P", "-o", "State", "-j", number])
    return done.stdout.split()[0] if done.returncode == 0 and done.stdout.strip() else ""


def stands_still(state: str, reason: str) -> str:
    """What to do about a job that waits for what time does not bring; empty for any other job."""
    reason = reason.replace(" ", "_")
    if state in _HELD_STATES or (state == "PENDING" and _HELD.search(reason)):
        return (
            "SLURM holds it after it could not start, or after too many requeues; look at the node in scontrol show job, and keep "
            "it out with --slurm-exclude-failed-nodes if it is broken"
        )
    if state == "PENDING" and _NOT_ALLOWED.search(reason):
        return "name an account or QOS that you may use (CORRBENCH_SLURM_ACCOUNT, slurm_qos under default-resources)"
    if state == "PENDING" and _TOO_MUCH.search(reason):
        return (
            "ask for less with set-resources in slurm/config.yaml, or name another partition (CORRBENCH_SLURM_PARTITION, "
            "CORRBENCH_SLURM_GPU_PARTITION)"
        )
    return ""


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

    def states(self, numbers: Iterable[str]) -> dict[str, str | None]:
        """The states of jobs, from squeue, and from `state_of` for those that it does not show; None where nothing is known."""
        rows = self.look()
        if rows is None:
            return dict.fromkeys(numbers)
        return {n: rows[n].state if n in rows else self.state_of(n) for n in numbers}

    def cancel(self, numbers: Iterable[str]) -> None:
        """Ask for the end of jobs, only of those of this name. Jobs that have ended do no harm."""
        if asked := sorted(numbers):
            run(["scancel", "--quiet", "--name", self.name, *asked])

    def away(self, said: str) -> None:
        """Say that the controller does not answer, in the words of the command that failed."""
        words = " ".join(said.split())[:200]
        self.patience.say("away", f"The SLURM controller does not answer ({words}). The run waits for it.")
