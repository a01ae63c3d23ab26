"""sbatch, asked until it takes a job or will never take it."""

from __future__ import annotations

import shlex
import threading
from pathlib import Path

from snakemake_executor_plugin_slurm import validate_or_get_slurm_job_id

from corrbench.slurm import queue
from corrbench.slurm.patience import Patience, RunEnds
from corrbench.slurm.queue import Queue


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
                done = queue.run(["sh", "-c", command])
                said = " ".join((done.stderr or done.stdout).split())
                if done.returncode == 0 and done.stdout.strip():
                    first = done.stdout.strip().split(";")[0]
                    self.numbers.add(number := str(validate_or_get_slurm_job_id(first, done.stdout)))
                    return number
                self._in_doubt.add(what)
                rows = self.queue.wait()
                self._in_doubt.discard(what)
                taken = [
                    row.id for row in rows.values() if row.live and row.comment == what and not self._knows(row.id)
                ]
                if taken:
                    self.numbers.add(taken[0])
                    return taken[0]
            if not queue.will_pass(said):
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

    def living(self) -> set[str] | None:
        """The jobs of this run that have not ended, those in doubt among them; None while the controller does not answer."""
        rows = self.queue.look()
        if rows is None:
            return None
        return {
            n
            for n, row in rows.items()
            if row.live and (n in self.numbers or (row.comment in self._in_doubt and not self._knows(n)))
        }

    def _knows(self, number: str) -> bool:
        return number in self.numbers or number in self.others
