"""sbatch, asked until it takes a job or will never take it."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Collection, Mapping
from pathlib import Path

from snakemake_executor_plugin_slurm import validate_or_get_slurm_job_id
from snakemake_interface_common.exceptions import WorkflowError

from corrbench.slurm import queue
from corrbench.slurm.patience import Patience, RunEnds
from corrbench.slurm.queue import Queue, Row

SBATCH = 300
"""Seconds for one sbatch, which asks a busy controller again for two minutes by itself."""


class Refused(Exception):
    """sbatch refuses a job, in words that time does not change."""


class Submitting:
    """Submits the jobs of one run, and knows which jobs of the queue are its own."""

    def __init__(self, jobs: Queue, patience: Patience, others: set[str]) -> None:
        self.queue, self.patience = jobs, patience
        self.numbers: set[str] = set()
        """Jobs that this run submitted or took up."""
        self.others = others
        """Jobs of the same name that were there before it."""
        self._in_doubt: set[str] = set()
        """What those jobs make of which sbatch did not say whether it took them."""
        self._one_at_a_time = threading.Lock()

    def sbatch(self, call: str, script: Path, what: str) -> str:
        """Submit a job and return its number.

        A refusal that passes (the controller is away, a submit limit) is waited for; whether the job was taken all the same
        is looked up first. Raises Refused for any other refusal, and RunEnds when the run ends meanwhile.
        """
        command = f"{call} --wrap {shlex.quote(f'sh {shlex.quote(str(script))}')}"
        for _ in self.patience.tries():
            with self._one_at_a_time:  # else a job that was taken without a word could be another one's
                if what in self._in_doubt and (taken := self._taken(what)):
                    return taken
                done = queue.run(["sh", "-c", command], timeout=SBATCH)
                said = " ".join((done.stderr or done.stdout).split())
                if done.returncode == 0 and (number := _number(done.stdout)):
                    self.numbers.add(number)
                    self._settle(what)
                    return number
                self._in_doubt.add(what)
                answers = self.queue.look() is not None
                if taken := self._taken(what):
                    return taken
            if answers and done.returncode and not queue.will_pass(said):
                self._in_doubt.discard(what)
                raise Refused(said or f"exit status {done.returncode}")
            limit = (
                "; CORRBENCH_SLURM_JOBS sets how many jobs are submitted at a time"
                if queue.SUBMIT_LIMIT.search(said)
                else ""
            )
            self.patience.say(
                said,
                f"sbatch does not take jobs now ({said}){limit}. It is asked again until it does; no attempt is lost.",
            )
        raise RunEnds

    def _taken(self, what: str) -> str:
        """The number of a job that was taken though sbatch did not say so; empty where there is none. Waits for the controller."""
        found = sorted(self._unknown(what, self.queue.wait()))
        if found:
            self.numbers.add(found[0])
            self._settle(what)
        return found[0] if found else ""

    def _settle(self, what: str) -> None:
        """A job has its number: cancel a second one, of an sbatch that was lost and did its work later after all."""
        if what in self._in_doubt and (rows := self.queue.look()) is not None:
            self.queue.cancel(self._unknown(what, rows))
        self._in_doubt.discard(what)

    def _unknown(self, what: str, rows: Mapping[str, Row]) -> set[str]:
        return {n for n, row in rows.items() if row.live and row.comment == what and not self._knows(n)}

    def living(self, over: Collection[str] = ()) -> set[str] | None:
        """The jobs of this run that have not ended, those in doubt among them; None while the controller does not answer.

        `over` are those that are known to have. Jobs in COMPLETING have ended for this purpose: they were told to.
        """
        rows = self.queue.look()
        if rows is None:
            return None
        doubtful = set().union(*(self._unknown(what, rows) for what in self._in_doubt))
        states = {
            n: rows[n].state if n in rows else self.queue.state_of(n)
            for n in (self.numbers | doubtful).difference(over)
        }
        return {n for n, state in states.items() if not queue.is_over(state) and state != "COMPLETING"}

    def _knows(self, number: str) -> bool:
        return number in self.numbers or number in self.others


def _number(said: str) -> str:
    """The number in what sbatch printed; empty where none can be made out, as below the banner of a site."""
    first = said.strip().split(";")[0]
    try:
        return str(validate_or_get_slurm_job_id(first, said)) if first else ""
    except WorkflowError:
        return ""
