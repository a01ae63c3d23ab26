"""Snakemake's SLURM plugin with the patience that a run of days needs.

`Executor` subclasses that of `snakemake_executor_plugin_slurm` (2.8) and replaces how jobs are submitted (`submitting`), watched
(`watching`), taken up from a run that was killed (`earlier`) and canceled. docs/slurm.md says for each situation what the plugin
does and what happens here.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import snakemake_executor_plugin_slurm as plugin
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from corrbench.controller import stop
from corrbench.errors import Refusal
from corrbench.files import digest
from corrbench.slurm import queue, watching
from corrbench.slurm.earlier import Earlier
from corrbench.slurm.limits import Limits, Partitions, fit, no_partition, refusal
from corrbench.slurm.notes import Note, Notes
from corrbench.slurm.patience import Patience, RunEnds
from corrbench.slurm.queue import Queue
from corrbench.slurm.submitting import Refused, Submitting
from corrbench.slurm.watching import Watched

LONGEST = 60
"""Most seconds between two queries of the queue; fewer where the controller forgets jobs sooner (MinJobAge)."""
LOOK = 2
"""Seconds between two looks at what the jobs have left on disk."""


def take_over() -> None:
    """Have Snakemake take this executor where the SLURM plugin is asked for."""
    registry = ExecutorPluginRegistry()
    if registry.is_installed("slurm"):
        registry.get_plugin("slurm").executor = Executor


def run_name(prefix: str, notes: Notes) -> str:
    """The name of all jobs of a working folder: equal from run to run, another one in another folder or a copy of it."""
    return f"{prefix or 'corrbench'}_{digest([str(notes.workdir.resolve()), notes.identity()])}"


class _Sparing:
    """A logger without the plugin's lines that mislead: an id that no job has, and attempts to guess an account."""

    SPARED = ("SLURM run ID:", "No SLURM account given", "No account was given", "Unable to guess SLURM account")

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._logger, name)
        if name not in ("info", "warning"):
            return found
        return lambda message, *more, **how: (
            None if str(message).strip().startswith(self.SPARED) else found(message, *more, **how)
        )


class Executor(plugin.Executor):  # type: ignore[misc]
    """See the module."""

    def __post_init__(self, test_mode: bool = False) -> None:
        if shutil.which("sbatch") is None:
            stop(
                Refusal(
                    "this host has no SLURM: sbatch is not on the PATH",
                    expected="a login node of a cluster, with its SLURM module loaded",
                    do="load the module, or run on this machine: snakemake --cores all",
                )
            )
        self.logger: Any = _Sparing(self.logger)
        self.patience = Patience(self.logger)
        self._watched: dict[str, Watched] = {}
        """Jobs that were submitted and have not ended, by token."""
        self._ended: list[Watched] = []
        self._longest: float | None = None
        self._left: set[str] = set()
        """Tokens of the jobs whose status on disk was seen."""
        self.notes = Notes(Path(self.workflow.workdir_init))  # the thread that watches runs already
        super().__post_init__(test_mode)
        self.run_uuid = run_name(self.workflow.executor_settings.jobname_prefix, self.notes)
        self.queue = Queue(self.run_uuid, self.patience)
        self.partitions = Partitions(self.queue)
        self.earlier = Earlier(self.notes, self.queue, self.patience)
        self.submitting = Submitting(self.queue, self.patience, others=self.earlier.seen)
        self._refuse_what_never_starts()
        self.logger.info(f"All jobs of this folder are named {self.run_uuid} (squeue --me --name {self.run_uuid}).")

    # The plugin ends a run on a cluster without job arrays (MaxArraySize below 3); here no arrays are submitted.
    max_array_size = property(lambda self: 1000, lambda self, value: None)

    # ---- what partitions allow ----------------------------------------------------------------------------------------

    def _refuse_what_never_starts(self) -> None:
        """End Snakemake when some job of the run can never start."""
        excess = {}
        for single in self.workflow.dag.needrun_jobs():
            job = self.workflow.dag.get_job_group(single) or single  # a group asks for more than each of its jobs
            if job.name in excess or single.is_local:
                continue
            try:
                limits = self._limits_for(job)
            except WorkflowError as error:
                if not queue.will_pass(str(error)):
                    raise
                return  # the controller is away; the jobs wait for it, and are looked at then
            if limits.unknown:
                stop(no_partition(limits))
            if job.attempt == 1 and (said := limits.excess(_asked(job), _model(job))):
                excess[job.name] = (job.name, limits.partition, said)
        if excess:
            stop(refusal(excess.values()))

    def _limits_for(self, job: Any) -> Limits:
        """The limits of a job's partition. Raises WorkflowError while the controller does not answer."""
        argument = shlex.split(self.get_partition_arg(job))  # -p NAME, or nothing
        return self.partitions.limits(argument[-1] if argument else "")

    # ---- submitting ---------------------------------------------------------------------------------------------------

    def run_array_jobs(self, jobs: Any) -> None:
        """Submit jobs that an array was asked for: one by one, so that each has requests, an exit status and a log of its own."""
        self.patience.say("arrays", "Arrays of jobs are not used: these jobs are submitted one by one.")
        for job in jobs:
            self.run_job(job)

    def run_job(self, job: Any) -> None:
        """Submit one job, or take up the one that an earlier run of this folder left for it."""
        try:
            note = self._note(job)
            left = self.earlier.take(note.outputs, note.key)
            if left is not None:
                self.submitting.numbers.add(left.number)
                self._keep(left := replace(note, token=left.token, number=left.number, since=left.since))
                self.logger.info(
                    f"Job {job.jobid} goes on as SLURM job {left.number}, which an earlier run of this folder submitted."
                )
                self._watch(job, left)
            else:
                self._submit(job, note)
        except RunEnds:
            return
        except Exception as error:
            self.logger.debug("submission", exc_info=True)
            said = str(error) if isinstance(error, Refused | Refusal) else f"{type(error).__name__}: {error}"
            self._ended.append(Watched(self._note(job), job.attempt, failed=said.partition("\n")[0]))
            self._report_job_error_threadsafe(SubmittedJobInfo(job), f"not submitted: {said}. ")

    def _submit(self, job: Any, note: Note) -> None:
        self._wait_for_controller(job)
        plugin.validate_slurm_extra(job)
        if cluster := next(
            (c for key in ("slurm_cluster", "cluster", "clusters") if (c := job.resources.get(key))), None
        ):
            raise Refusal(
                f"{note.what}: asks for the cluster {cluster}",
                expected="jobs for the cluster of the host that snakemake runs on; those of other clusters are not watched",
                do=f"run snakemake on a host of {cluster}, without that resource",
            )
        log = self._log_of(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        script = self._write(note, job)
        call = plugin.get_submit_command(
            job,
            {
                "run_uuid": self.run_uuid, "slurm_logfile": log, "comment_str": note.what, "account": next(self.get_account_arg(job)),
                "partition": self.get_partition_arg(job), "workdir": self.workflow.workdir_init,
            },
            settings=self.workflow.executor_settings,
            failed_nodes=self._failed_nodes,
        ) + plugin.set_gres_string(job)  # fmt: skip
        call = fit(call, self._limits_for(job), _asked(job), _model(job), attempt=job.attempt, what=note.what)
        try:
            number = self.submitting.sbatch(call, script, note.what)
        except Refused as refused:
            self.notes.remove(note.token)
            raise Refused(f"{refused}\n    {call}\n") from refused
        note = replace(note, number=number)
        self._keep(note)
        self.logger.info(
            f"Job {job.jobid} has been submitted with SLURM jobid {number} (log: {_numbered(log, number)})."
        )
        self._watch(job, note)

    def _write(self, note: Note, job: Any) -> Path:
        """Write the note and the script of a job; waits for a disk that is full. Raises RunEnds when the run ends meanwhile."""
        for _ in self.patience.tries():
            try:
                self.notes.write(note)
                return self.notes.script(note.token, self.format_job_exec(job))
            except (OSError, Refusal) as error:
                self.patience.say("disk", f"{self.notes.folder}: {error}. The run waits until it can write there.")
        raise RunEnds

    def _keep(self, note: Note) -> None:
        """Keep the note of a job that runs, as far as the disk allows: the job must be watched in any case."""
        try:
            self.notes.write(note)
        except (OSError, Refusal) as error:
            self.patience.say("note", f"{error}: a run that follows a killed one has to find the job by its comment.")

    def _wait_for_controller(self, job: Any) -> None:
        """Wait until partition, account and limits of a job can be asked for. Raises RunEnds when the run ends meanwhile."""
        for _ in self.patience.tries():
            try:
                self._limits_for(job)
                next(self.get_account_arg(job))
                return
            except WorkflowError as error:
                if not queue.will_pass(str(error)):
                    raise
                self.queue.away(str(error))

    def _watch(self, job: Any, note: Note) -> None:
        self._watched[note.token] = watched = Watched(note, job.attempt)
        aux = {"slurm_logfile": _numbered(self._log_of(job), note.number), "watched": watched}
        info = SubmittedJobInfo(job, external_jobid=note.number, aux=aux)
        self._report_job_submission_threadsafe(info)

    def _note(self, job: Any) -> Note:
        """Rule and wildcards in words, a digest of what decides the result, the files that it reads included, and those that it makes."""
        jobs = list(job.jobs) if job.is_group() else [job]
        wildcards = "_".join(
            dict.fromkeys(filter(None, map(plugin.get_job_wildcards, jobs)))
        )  # a group has those of its jobs
        what = f"rule_{job.name}" + (f"_wildcards_{wildcards}" if wildcards else "")
        outputs = sorted(str(path) for each in jobs for path in each.output)
        decided = sorted(
            [each.rule.name, sorted(map(str, each.output)), repr(sorted(each.params.items(), key=repr))]
            for each in jobs
        )
        read = sorted(self._seen(str(path)) for path in job.input)
        return Note(uuid.uuid4().hex[:12], what, digest([decided, read]), outputs)

    def _seen(self, path: str) -> list[Any]:
        """What tells an input from one of the same name that was made again."""
        try:
            status = (self.notes.workdir / path).stat()
            return [path, status.st_size, status.st_mtime_ns]
        except OSError:
            return [path]

    def _log_of(self, job: Any) -> Path:
        kind = "group" if job.is_group() else "rule"
        return Path(self.slurm_logdir) / f"{kind}_{job.name}" / plugin.get_job_wildcards(job) / "%j.log"

    # ---- watching -----------------------------------------------------------------------------------------------------

    async def check_active_jobs(self, active_jobs: Any) -> Any:
        """Report the jobs that have ended; yield the others."""
        first = self.workflow.executor_settings.init_seconds_before_status_checks
        if not active_jobs:
            self.next_seconds_between_status_checks = first
            return
        async with self.status_rate_limiter:
            rows = await asyncio.to_thread(self.queue.look)
        late = max(watching.SURE, self.workflow.execution_settings.latency_wait + 30)
        any_ended = False
        for info in active_jobs:
            job: Watched = info.aux["watched"]
            try:
                verdict = await asyncio.to_thread(watching.judge, job, rows, self.notes, self.queue, late)
            except Exception as error:  # a look that fails says nothing of the job
                words = f"{type(error).__name__}: {error}"
                self.patience.say("judging", f"SLURM job {info.external_jobid} cannot be looked at now ({words}).")
                verdict = None
            if verdict is None:
                yield info
                continue
            any_ended = True
            self._end(info, job, verdict)
        if self._longest is None:
            age = await asyncio.to_thread(plugin.get_min_job_age)
            self._longest = min(LONGEST, max(5, 0.6 * age)) if age else None  # else why a job failed would be lost
        grown = min(self._longest or LONGEST, (self.next_seconds_between_status_checks or first) + 10)
        self.next_seconds_between_status_checks = first if any_ended else max(first, grown)

    def _end(self, info: SubmittedJobInfo, job: Watched, failed: str) -> None:
        job.until, job.failed = time.time(), failed
        self._watched.pop(job.note.token, None)
        self._ended.append(job)
        log: Path = info.aux["slurm_logfile"]  # type: ignore[index]
        if failed:
            logs, refused = self._said(info.job)
            job.failed += f" ({refused})" if refused else ""
            # SLURM's log holds those of Snakemake inside the job: shown only where the rule has said nothing
            message = f"SLURM-job '{info.external_jobid}' failed, {failed}. SLURM's log: {log}. "
            self.report_job_error(info, msg=message, aux_logs=[] if logs else [str(log)])
            return
        self.report_job_success(info)
        self.notes.remove(job.note.token)
        if not self.workflow.executor_settings.keep_successful_logs:
            try:
                log.unlink(missing_ok=True)
            except OSError as error:
                self.logger.debug(f"{error}")

    def _said(self, job: Any) -> tuple[list[str], str]:
        """The logs of a job's rules that hold something, and the last refusal in them."""
        texts = {}
        for path in (str(path) for each in (job.jobs if job.is_group() else [job]) for path in each.log):
            with suppress(OSError):
                texts[path] = (self.notes.workdir / path).read_text(errors="replace").strip()
        refused = [line for text in texts.values() for line in text.splitlines() if line.startswith("refused: ")]
        return [path for path, text in texts.items() if text], refused[-1][:200] if refused else ""

    async def sleep(self) -> None:
        """Wait for the next query: shorter when a job leaves its status on disk, or when the run ends."""
        end = time.monotonic() + self.next_seconds_between_status_checks
        while self.wait and (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, LOOK))
            before, self._left = self._left, await asyncio.to_thread(self.notes.ended)
            if self._left - before:
                return

    # ---- the end ------------------------------------------------------------------------------------------------------

    def cancel_jobs(self, active_jobs: Any) -> None:
        """Cancel every job of this run, also those whose number is not known. A second Ctrl-C changes nothing."""
        self.patience.ending.set()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: self.logger.info("The jobs of this run are being canceled already."))
        self.logger.info("Canceling all jobs of this run.")
        self._job_submission_executor.shutdown(
            wait=True, cancel_futures=True
        )  # sbatch calls under way come to their end
        earlier = {note.number for note in self.earlier.left or ()}
        self.submitting.numbers |= earlier
        end, quiet = time.monotonic() + 60, 0
        living: set[str] | None = None
        while (
            quiet < 2 and time.monotonic() < end
        ):  # twice: squeue may be stale, and an sbatch that was lost may do its work late
            over = {job.note.number for job in self._ended}
            self.queue.cancel((self.submitting.numbers | (living or set())) - over)
            time.sleep(1)
            living = self.submitting.living(over)
            quiet = quiet + 1 if living == set() else 0
        if quiet < 2:
            known = " ".join(sorted(living or ())) or f"--me --name {self.run_uuid}"
            self.logger.warning(f"Not all jobs are known to be canceled. Look at them and repeat: scancel {known}")
        if self.earlier.left is None and any(self.notes.read()):
            self.logger.warning(f"Jobs of an earlier run may still run: squeue --me --name {self.run_uuid}")
        for job in list(self._watched.values()):
            job.until, job.failed, job.status = time.time(), watching.CANCELED, self.notes.status(job.note.token)
            self._ended.append(job)

    def shutdown(self) -> None:
        """End, and say what the jobs of this run came to."""
        canceled = self.patience.ending.is_set()
        self.patience.ending.set()
        self._job_submission_executor.shutdown(wait=True, cancel_futures=True)
        super().shutdown()
        numbers = [note.number for note in self.earlier.left or ()]
        if numbers and not canceled:
            states = self.queue.states(numbers)
            if living := [n for n, state in states.items() if not queue.is_over(state)]:
                self.logger.info(f"Jobs of an earlier run that this one had no use for still run: {', '.join(living)}.")
        for line in watching.summary(self._ended):
            self.logger.info(line)


def _numbered(log: Path, number: str) -> Path:
    return log.with_name(log.name.replace("%j", number))


def _asked(job: Any) -> dict[str, float]:
    """Minutes, MB of memory, cores and GPUs that a job asks for, as far as they are numbers; of a group the cores of its largest rule."""
    threads = max(each.threads for each in job.jobs) if job.is_group() else job.threads
    found = {key: job.resources.get(key) for key in ("runtime", "mem_mb", "gpu")} | {"cores": threads}
    return {key: float(value) for key, value in found.items() if isinstance(value, int) and not isinstance(value, bool)}


def _model(job: Any) -> str:
    return str(job.resources.get("gpu_model") or "")
