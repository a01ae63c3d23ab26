"""Snakemake's SLURM plugin with the patience that a run of days needs.

What differs from the plugin (`snakemake_executor_plugin_slurm`, 2.8):

- Every job writes its exit status into a file. A job that the controller has forgotten between two queries is therefore
  known to have ended, and how. The plugin waits for it for ever.
- A job that ends as PREEMPTED, or as NODE_FAIL, and is not put back into the queue counts as failed and is submitted again.
- A request that the partition can never grant is refused before anything is submitted. Requests that grow with an attempt
  stop at the partition's limits. A job that waits for a reason which will not pass is canceled, with the reason.
- sbatch that fails for a reason that passes (the controller is away, a submit limit, a network error) is asked again until it
  takes the job, without spending an attempt; whether it took the job all the same is looked up first.
- The jobs of a folder have one name, by which a run that follows a killed one finds those that are still there, and goes on
  with them. Ctrl-C lets an sbatch that is under way answer, and then cancels every job of the run.
- At the end it says how many jobs there were, why some were submitted again, and what they cost.
"""

from __future__ import annotations

import asyncio
import json
import platform
import shlex
import signal
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import snakemake_executor_plugin_slurm as plugin
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from corrbench.controller import stop
from corrbench.files import digest, write_json
from corrbench.locks import is_gone, owner_in, owner_line
from corrbench.slurm import queue
from corrbench.slurm.limits import Limits, limits_of, refusal
from corrbench.slurm.queue import Row

NOTES = Path(".snakemake/slurm-jobs")
"""Below the working folder: for every job ``<token>.json``, what it makes, and ``<token>.status``, how it ended."""
SURE = 30
"""Seconds after which a state that a job may still leave (PREEMPTED), or a file that a job should have left, is believed."""
LONGEST = 60
"""Most seconds between two queries."""
PAUSES = (5, 10, 20, 40, 60)
"""Seconds between calls of an sbatch that refuses for a while; the last one from then on."""
TELL = 600
"""Seconds between two lines about the same trouble."""


def take_over() -> None:
    """Have Snakemake take this executor where the SLURM plugin is asked for."""
    registry = ExecutorPluginRegistry()
    if registry.is_installed("slurm"):
        registry.get_plugin("slurm").executor = Executor


def run_name(prefix: str, folder: Path) -> str:
    """The name of all jobs of a working folder: equal from run to run, another one in another folder."""
    return f"{prefix or 'corrbench'}_{digest(str(folder.resolve()))}"


@dataclass
class Watched:
    """A job that was submitted, as this run has seen it."""

    token: str
    what: str
    since: float = field(default_factory=time.time)
    row: Row | None = None
    until: float | None = None
    """When it was known to have ended."""
    oddly: float | None = None
    """Since when its state is one that needs a second look."""


class Executor(plugin.Executor):  # type: ignore[misc]
    """See the module."""

    def __post_init__(self, test_mode: bool = False) -> None:
        self.ending = threading.Event()
        self._orphans: dict[str, dict[str, Any]] | None = None
        self._lock_orphans, self._one_sbatch = threading.Lock(), threading.Lock()
        self._known: set[str] = set()
        self._mine: set[str] = set()
        """Numbers of the jobs that this run submitted or took up."""
        self._limits: dict[str, Limits] = {}
        self._told: dict[str, float] = {}
        self._ended: list[tuple[Watched, str]] = []
        self._again: list[str] = []
        super().__post_init__(test_mode)
        self.workdir = Path(self.workflow.workdir_init)
        self.notes = self.workdir / NOTES
        self.notes.mkdir(parents=True, exist_ok=True)
        self.run_uuid = run_name(self.workflow.executor_settings.jobname_prefix, self.workdir)
        self._refuse_what_never_starts()
        self.logger.info(f"All jobs of this folder are named {self.run_uuid} (squeue --me --name {self.run_uuid}).")

    # ---- before anything is submitted -------------------------------------------------------------------------------

    def _refuse_what_never_starts(self) -> None:
        """End Snakemake when some job of the run can never start."""
        excess = {}
        for job in self.workflow.dag.needrun_jobs():
            if job.rule.name in excess or job.is_local:
                continue
            try:
                limits = self._limits_for(job)
            except WorkflowError as error:
                if not queue.will_pass(str(error)):
                    raise
                return  # the controller is away; the jobs wait for it, and are looked at then
            if job.attempt == 1 and (said := limits.excess(_asked(job))):
                excess[job.rule.name] = (job.rule.name, limits.partition, said)
        if excess:
            stop(refusal(excess.values()))

    def _limits_for(self, job: Any) -> Limits:
        partition = self.get_partition_arg(job).strip().removeprefix("-p").strip().strip("'\"")
        if partition not in self._limits:
            found = limits_of(partition)
            if found is None and queue.run(queue.squeue(self.run_uuid)).returncode == 0:
                return Limits(
                    partition
                )  # squeue answers, scontrol does not: nothing is known, and nothing is waited for
            if found is None:
                raise WorkflowError("Unable to contact slurm controller: scontrol show partition does not answer")
            self._limits[partition] = found
        return self._limits[partition]

    def _cap(self, job: Any) -> None:
        """Keep what a further attempt asks for within the partition: beyond it the job would never start."""
        limits, asked = self._limits_for(job), _asked(job)
        for key, most in (("runtime", limits.minutes), ("mem_mb", limits.memory_mb)):
            if asked.get(key, 0) > most:
                setattr(job.resources, key, int(most))

    # ---- submitting ---------------------------------------------------------------------------------------------------

    def run_job(self, job: Any) -> None:
        """Submit one job, or take up the one that an earlier run of this folder left for it."""
        try:
            self._run_job(job)
        except Exception as error:
            if self.ending.is_set():
                return
            self.logger.debug("submission", exc_info=True)
            self._report_job_error_threadsafe(SubmittedJobInfo(job), f"not submitted: {type(error).__name__}: {error}")

    def _run_job(self, job: Any) -> None:
        if self.ending.is_set():
            return
        what, key, outputs = self._describe(job)
        if (left := self._left_for(outputs, key)) is not None:
            found, token = left
            self.logger.info(
                f"Job {job.jobid} goes on as SLURM job {found}, which an earlier run of this folder submitted."
            )
            self._submitted(job, found, Watched(token, what))
            return
        token = uuid.uuid4().hex[:12]
        if not self._wait_for_controller(job):
            return
        limits = self._limits_for(job)
        if job.attempt == 1 and (said := limits.excess(_asked(job))):
            raise refusal([(what, limits.partition, said)])
        self._cap(job)
        plugin.validate_slurm_extra(job)
        log = self._log_of(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        note = {"what": what, "key": key, "outputs": outputs, "owner": owner_line()}
        write_json(self.notes / f"{token}.json", note)
        call = plugin.get_submit_command(
            job,
            {
                "run_uuid": self.run_uuid, "slurm_logfile": log, "comment_str": what, "account": next(self.get_account_arg(job)),
                "partition": self.get_partition_arg(job), "workdir": self.workflow.workdir_init,
            },
            settings=self.workflow.executor_settings,
            failed_nodes=self._failed_nodes,
        ) + plugin.set_gres_string(job)  # fmt: skip
        script = self.notes / f"{token}.sh"
        status = self.notes / f"{token}.status"
        script.write_text(
            "#!/bin/sh\n"
            f"rm -f {shlex.quote(str(status))}\n"  # of a time before SLURM put the job back into the queue
            f"( {self.format_job_exec(job)} )\n"
            "status=$?\n"
            f"echo $status > {shlex.quote(f'{status}.new')} && mv {shlex.quote(f'{status}.new')} {shlex.quote(str(status))}\n"
            "exit $status\n"
        )
        number = self._sbatch(call, script, what) or ""
        if not number:
            return  # the run ends
        if number.isdigit():
            with suppress(Exception):  # a full disk: the job was submitted all the same
                write_json(self.notes / f"{token}.json", {**note, "number": number})
        if not number.isdigit():
            self._report_job_error_threadsafe(SubmittedJobInfo(job), f"sbatch refused: {number}\n    {call}")
            return
        self.logger.info(
            f"Job {job.jobid} has been submitted with SLURM jobid {number} (log: {_numbered(log, number)})."
        )
        cluster = job.resources.get("cluster") or job.resources.get("clusters") or job.resources.get("slurm_cluster")
        if cluster:
            self._submitted_job_clusters.add(cluster)
        self._submitted(job, number, Watched(token, what))

    def _wait_for_controller(self, job: Any) -> bool:
        """Wait until partition, account and limits of a job can be asked for; False when the run ends meanwhile."""
        for attempt in range(10**6):
            if self.ending.is_set():
                return False
            try:
                self._limits_for(job)
                next(self.get_account_arg(job))
                return True
            except WorkflowError as error:
                if not queue.will_pass(str(error)):
                    raise
                self._say_away(str(error))
            self.ending.wait(PAUSES[min(attempt, len(PAUSES) - 1)])
        return False

    def _submitted(self, job: Any, number: str, watched: Watched) -> None:
        log = _numbered(self._log_of(job), number)
        self._mine.add(number)
        self._report_job_submission_threadsafe(
            SubmittedJobInfo(job, external_jobid=number, aux={"slurm_logfile": log, "watched": watched})
        )

    def _sbatch(self, call: str, script: Path, what: str) -> str | None:
        """The number of the new job; None when the run ends meanwhile; else what sbatch says that will not change."""
        for attempt in range(10**6):
            if self.ending.is_set():
                return None
            with self._one_sbatch:  # else a job that was taken without a word could be another one's
                done = queue.run(["sh", "-c", f"{call} --wrap {shlex.quote(f'sh {shlex.quote(str(script))}')}"])
                if done.returncode == 0 and (number := done.stdout.strip().split(";")[0]):
                    number = str(plugin.validate_or_get_slurm_job_id(number, done.stdout))
                    self._known.add(number)
                    self._mine.add(number)
                    return number
                said = " ".join((done.stderr or done.stdout).split())
                if (taken := self._taken(what)) is not None:
                    self._known.add(taken)
                    self._mine.add(taken)
                    return taken
            if not queue.will_pass(said):
                return said or f"exit status {done.returncode}"
            remedy = (
                "; CORRBENCH_SLURM_JOBS sets how many jobs are submitted at a time"
                if queue.SUBMIT_LIMIT.search(said)
                else ""
            )
            self._tell(
                said,
                f"sbatch does not take jobs now ({said}){remedy}. It is asked again until it does; no attempt is lost.",
            )
            self.ending.wait(PAUSES[min(attempt, len(PAUSES) - 1)])
        return None

    def _taken(self, what: str) -> str | None:
        """The number of a job that was taken though sbatch said otherwise: a living one of these words that nobody knows.

        Asks until the controller answers: only then may the job be submitted once more.
        """
        rows = self._ask_queue()
        return next((row.id for row in rows if row.live and row.comment == what and row.id not in self._known), None)

    def _ask_queue(self) -> list[Row]:
        """The jobs of this folder; waits for a controller that is away. Empty when the run ends meanwhile."""
        for attempt in range(10**6):
            done = queue.run(queue.squeue(self.run_uuid))
            if done.returncode == 0:
                return list(queue.parse(done.stdout).values())
            if self.ending.is_set():
                break
            self._say_away(done.stderr)
            self.ending.wait(PAUSES[min(attempt, len(PAUSES) - 1)])
        return []

    def _describe(self, job: Any) -> tuple[str, str, list[str]]:
        """Rule and wildcards in words, a digest of what decides the result, and the files that it makes."""
        wildcards = plugin.get_job_wildcards(job)
        what = f"rule_{job.name}" + (f"_wildcards_{wildcards}" if wildcards else "")
        jobs = list(job.jobs) if job.is_group() else [job]
        outputs = sorted(str(path) for each in jobs for path in each.output)
        decided = sorted(
            [each.rule.name, sorted(map(str, each.output)), repr(sorted(each.params.items(), key=repr))]
            for each in jobs
        )
        return what, digest(decided), outputs

    def _log_of(self, job: Any) -> Path:
        kind = "group" if job.is_group() else "rule"
        return Path(self.slurm_logdir) / f"{kind}_{job.name}" / plugin.get_job_wildcards(job) / "%j.log"

    # ---- jobs that an earlier run left --------------------------------------------------------------------------------

    def _left_for(self, outputs: list[str], key: str) -> tuple[str, str] | None:
        """Number and token of a living job that makes just these files in just this way.

        Living jobs that make some of them otherwise are canceled, and waited for, so that nothing is written by two jobs.
        """
        with self._lock_orphans:
            if self._orphans is None:
                self._orphans = self._find_orphans()
            meeting = {n: note for n, note in self._orphans.items() if set(note["outputs"]) & set(outputs)}
            for number in meeting:
                del self._orphans[number]
            same = [n for n, note in meeting.items() if (note["outputs"], note["key"]) == (outputs, key)]
            others = [number for number in meeting if number not in same[:1]]
        if others:
            self.logger.info(
                f"SLURM jobs {', '.join(others)} of an earlier run make the same files otherwise: they are canceled."
            )
            self._cancel_numbers(others)
        return (same[0], meeting[same[0]]["token"]) if same else None

    def _find_orphans(self) -> dict[str, dict[str, Any]]:
        """Living jobs of this folder whose run is over, with what is noted of them. Waits for a controller that is away."""
        rows = {row.id: row for row in self._ask_queue()}
        self._known |= set(rows)
        found = {}
        for token, note in self._read_notes().items():
            owner = owner_in(str(note.get("owner", "")))
            if owner is not None and not is_gone(owner) and owner.get("host") == platform.node():
                continue  # of a run on other targets that is at work beside this one
            number = note.get("number") or next(
                (n for n, row in rows.items() if row.live and row.comment == note["what"]), None
            )
            # squeue alone may be stale
            state = None if number is None else rows[number].state if number in rows else queue.state_of(number)
            if number is not None and state != "" and state not in queue.ENDED:
                found[number] = {**note, "token": token}
            else:
                self._remove(token)
        return found

    def _read_notes(self) -> dict[str, dict[str, Any]]:
        notes = {}
        for path in self.notes.glob("*.json"):
            with suppress(OSError, ValueError):
                value = json.loads(path.read_text())
                if isinstance(value, dict) and value.keys() >= {"what", "key", "outputs"}:
                    notes[path.stem] = value
        return notes

    def _cancel_numbers(self, numbers: Iterable[str]) -> None:
        """Cancel jobs and wait until they are gone. Raises RuntimeError when they are not after two minutes."""
        waiting = set(numbers)
        end = time.monotonic() + 120
        while waiting and not self.ending.is_set():
            if time.monotonic() > end:
                raise RuntimeError(f"SLURM jobs {', '.join(sorted(waiting))} do not end; cancel them, and run again")
            queue.run(["scancel", *waiting])
            done = queue.run(queue.squeue(self.run_uuid))
            if done.returncode == 0:
                rows = queue.parse(done.stdout)
                states = {n: rows[n].state if n in rows else queue.state_of(n) for n in waiting}
                waiting = {n for n, state in states.items() if state != "" and state not in queue.ENDED}
            self.ending.wait(1 if waiting else 0)

    # ---- watching -----------------------------------------------------------------------------------------------------

    async def check_active_jobs(self, active_jobs: Any) -> Any:
        """Report the jobs that have ended; yield the others."""
        first = self.workflow.executor_settings.init_seconds_before_status_checks
        if not active_jobs:
            self.next_seconds_between_status_checks = first
            return
        async with self.status_rate_limiter:
            rows = await self._rows()
        any_ended = False
        for info in active_jobs:
            try:
                verdict = await asyncio.to_thread(self._judge, info, rows)
            except Exception as error:  # a look that fails says nothing of the job
                self._tell(
                    "judging",
                    f"SLURM job {info.external_jobid} cannot be looked at now ({type(error).__name__}: {error}).",
                )
                verdict = None
            if verdict is None:
                yield info
                continue
            any_ended = True
            watched = _watched(info)
            watched.until = time.time()
            self._ended.append((watched, verdict))
            if verdict == "":
                self.report_job_success(info)
                self._forget(watched, info)
            else:
                self._again.append(f"{watched.what}: {verdict}")
                log = str(info.aux["slurm_logfile"])
                self.report_job_error(
                    info, msg=f"SLURM-job '{info.external_jobid}' failed, {verdict}. ", aux_logs=[log]
                )
        grown = min(LONGEST, (self.next_seconds_between_status_checks or first) + 10)
        self.next_seconds_between_status_checks = first if any_ended else max(first, grown)

    async def _rows(self) -> dict[str, Row] | None:
        """The queue; None while the controller does not answer."""
        done = await asyncio.to_thread(queue.run, queue.squeue(self.run_uuid))
        if done.returncode:
            self._say_away(done.stderr)
            return None
        self._told.pop("away", None)
        return queue.parse(done.stdout)

    def _judge(self, info: SubmittedJobInfo, rows: Mapping[str, Row] | None) -> str | None:
        """None for a job that goes on, empty for one that is done, else why it failed."""
        watched = _watched(info)
        row = rows.get(str(info.external_jobid)) if rows is not None else None
        watched.row = row or watched.row
        status = self._status(watched)
        if status == 0:
            return ""
        if row is None:
            return self._judge_absent(info, watched, status, answered=rows is not None)
        if row.state == "COMPLETED":
            return (
                "" if self._is_sure(watched) else None
            )  # its status is about to appear; without one SLURM's word counts
        if row.state in queue.ENDED:
            if row.state in queue.RETURNING:
                if not self._is_sure(watched):
                    return None
                queue.run(["scancel", str(info.external_jobid)])  # so that SLURM cannot put it back any more
            return f"SLURM status is: '{row.state}'"
        if status is not None and row.state in ("RUNNING", "COMPLETING"):
            # of this execution, or of one before SLURM put the job back: SLURM will say; a controller that lost its memory will not
            return f"exit status {status}" if self._is_sure(watched, TELL) else None
        if queue.stands_still(row):
            if not self._is_sure(watched):
                return None
            queue.run(["scancel", str(info.external_jobid)])
            return (
                f"it would wait for ever: SLURM says {row.state} for the reason {row.reason}; ask for less with set-resources in "
                "slurm/config.yaml, or name another partition (CORRBENCH_SLURM_PARTITION, CORRBENCH_SLURM_GPU_PARTITION)"
            )
        watched.oddly = None
        return None

    def _judge_absent(
        self, info: SubmittedJobInfo, watched: Watched, status: int | None, *, answered: bool
    ) -> str | None:
        """The same for a job that the queue does not show."""
        if not answered:
            return None
        state = queue.state_of(str(info.external_jobid))  # squeue alone may be stale
        if state is None or (state and state not in queue.ENDED):
            watched.oddly = None
            return None
        if status is not None:
            return f"exit status {status}"
        if not self._is_sure(watched):
            return None
        seen = watched.row.state if watched.row is not None and not watched.row.live else ""
        state = state or seen or queue.accounted(str(info.external_jobid))
        if state == "COMPLETED" or self._has_outputs(info, watched):
            return ""
        return (
            f"SLURM status is: '{state}'"
            if state
            else "SLURM has forgotten it, and it left neither an exit status nor its files"
        )

    def _status(self, watched: Watched) -> int | None:
        """The exit status that a job left."""
        try:
            return int((self.notes / f"{watched.token}.status").read_text())
        except (OSError, ValueError):
            return None

    def _is_sure(self, watched: Watched, seconds: float | None = None) -> bool:
        """False until a state has lasted, by default for `SURE` seconds."""
        watched.oddly = watched.oddly or time.monotonic()
        return time.monotonic() - watched.oddly > (SURE if seconds is None else seconds)

    def _has_outputs(self, info: SubmittedJobInfo, watched: Watched) -> bool:
        jobs = list(info.job.jobs) if info.job.is_group() else [info.job]
        paths = [self.workdir / str(path) for job in jobs for path in job.output]
        with suppress(OSError):
            return all(path.stat().st_mtime >= watched.since - 60 for path in paths)
        return False

    def _forget(self, watched: Watched, info: SubmittedJobInfo) -> None:
        self._remove(watched.token)
        if not self.workflow.executor_settings.keep_successful_logs:
            with suppress(OSError):
                info.aux["slurm_logfile"].unlink(missing_ok=True)  # type: ignore[index]

    def _remove(self, token: str) -> None:
        """Remove what is noted of a job that is over."""
        with suppress(OSError):
            for path in self.notes.glob(f"{token}.*") if token else ():
                path.unlink(missing_ok=True)

    def _say_away(self, said: str) -> None:
        """Say that the controller does not answer, in the words of the command that failed."""
        words = " ".join(said.split())[:200]
        self._tell("away", f"The SLURM controller does not answer ({words}). The run waits for it.")

    def _tell(self, what: str, line: str) -> None:
        """Say a thing, and not again for ten minutes."""
        if time.monotonic() - self._told.get(what, -TELL) >= TELL:
            self._told[what] = time.monotonic()
            self.logger.warning(line)

    # ---- the end ------------------------------------------------------------------------------------------------------

    def cancel_jobs(self, active_jobs: Any) -> None:
        """Cancel every job of this folder, also those whose number is not known. A second Ctrl-C changes nothing."""
        self.ending.set()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: self.logger.info("The jobs of this run are being canceled already."))
        self.logger.info("Canceling all jobs of this run.")
        self._job_submission_executor.shutdown(
            wait=True, cancel_futures=True
        )  # sbatch calls under way come to their end
        mine = sorted(self._mine)
        end = time.monotonic() + 60
        while mine and time.monotonic() < end:
            asked = queue.run(["scancel", "--quiet", *mine]).returncode == 0
            left = queue.run(queue.squeue(self.run_uuid))
            rows = queue.parse(left.stdout)
            if asked and left.returncode == 0 and not any(row.live for n, row in rows.items() if n in self._mine):
                return
            time.sleep(1)
        if mine:
            self.logger.warning(
                f"Not all jobs are known to be canceled. When the controller answers again: scancel {' '.join(mine)}"
            )

    def shutdown(self) -> None:
        """End, and say what the jobs of this run came to."""
        self.ending.set()
        self._job_submission_executor.shutdown(wait=True, cancel_futures=True)
        super().shutdown()
        if self._orphans:
            self.logger.info(
                f"Jobs of an earlier run that this one had no use for still run: {', '.join(self._orphans)}."
            )
        for line in self.summary():
            self.logger.info(line)

    def summary(self) -> list[str]:
        """What the jobs of this run came to: their number, why some were submitted again, the time that they had and waited for."""
        if not self._ended:
            return []
        hours = waited = 0.0
        for watched, _ in self._ended:
            if watched.row is not None and watched.row.start is not None and watched.until is not None:
                began = watched.row.start.timestamp()
                waited += max(0.0, began - watched.since)
                hours += max(0.0, watched.until - began) * watched.row.nodes / 3600
        failed = [why for _, why in self._ended if why]
        lines = [
            f"SLURM jobs: {len(self._ended)}, {len(failed)} of them failed; about {hours:.2f} node hours, {waited / 60:.0f} minutes of waiting in the queue."
        ]
        return [*lines, *(f"  failed: {why}" for why in self._again)]


def _watched(info: SubmittedJobInfo) -> Watched:
    """What this run has seen of a job; tasks of arrays, which the plugin submits, have no exit status of their own."""
    aux: dict[Any, Any] = info.aux or {}
    info.aux = aux
    found: Watched = aux.setdefault("watched", Watched("", f"rule_{info.job.name}"))
    return found


def _numbered(log: Path, number: str) -> Path:
    return log.with_name(log.name.replace("%j", number))


def _asked(job: Any) -> dict[str, float]:
    """Minutes, MB of memory and cores that a job asks for, as far as they are numbers."""
    found = {key: job.resources.get(key) for key in ("runtime", "mem_mb")} | {"cores": job.threads}
    return {key: float(value) for key, value in found.items() if isinstance(value, int) and not isinstance(value, bool)}
