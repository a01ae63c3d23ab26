"""What made runs hang, lose entries or leave jobs behind, on a real single-node SLURM whose controller forgets jobs after 15 s."""

import os
import re
import signal
import subprocess
import sys
import time

from controllers import FAST, check_table, needs_slurm, process_of, running, wrap

pytestmark = needs_slurm


UNSTEADY = """#!/bin/bash
n=$(cat {place}/count 2>/dev/null || echo 0); echo $((n + 1)) > {place}/count
if [ $((n % 3)) = 0 ]; then echo "sbatch: error: Batch job submission failed: Unexpected message received" >&2; exit 1; fi
if [ $(squeue -h --me | wc -l) -ge 2 ]; then echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; fi
if [ $n = 4 ]; then {real} "$@" > /dev/null; echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1; fi
exec {real} "$@"
"""


def test_preempted_forgotten_and_refused_for_a_while(cluster, checkout, expected, controller, monkeypatch):
    """sbatch fails one time in three, has a submit limit of two jobs, and once takes a job without saying so; a job is preempted for good."""
    wrap(cluster, checkout, monkeypatch, "sbatch", UNSTEADY)
    monkeypatch.setitem(cluster.environment, "CORRBENCH_SLURM_PARTITION", "low")
    run = controller(*FAST, python=sys.executable)  # its processes are stopped, so they are real ones
    job, entry = running(cluster, "rule_propagate_wildcards_tiny-val_(random-r18[^ ]*)")
    os.kill(process_of(cluster, f"python -m scripts.propagate --entry {entry}", checkout), signal.SIGSTOP)
    high = ["sbatch", "--parsable", "-p", "high", f"-c{os.cpu_count()}", "-o", "/dev/null", "--wrap", "sleep 2"]
    clean = {**cluster.environment, "PATH": cluster.environment["PATH"].partition(":")[2]}
    subprocess.run(high, env=clean, check=True, capture_output=True)
    assert run.end() == 0, run.text[-3000:]
    text = run.text
    assert f"SLURM-job '{job}' failed, SLURM status is: 'PREEMPTED'" in text, text[-3000:]
    assert "CORRBENCH_SLURM_JOBS" in text and "asked again until it does" in text
    assert "on nodes" in text and f"rule_propagate_wildcards_tiny-val_{entry}: attempt 1 (job {job})" in text
    submitted = [line for line in text.splitlines() if "has been submitted with SLURM jobid" in line]
    lost = re.findall(r"SLURM-job '\d+' failed, (.*?)\. ", text)
    assert len(submitted) == len(set(submitted)) and set(lost) == {"SLURM status is: 'PREEMPTED'"}, (
        "no attempt was lost to sbatch"
    )
    check_table(checkout, expected)
    again = controller("--dry-run")
    assert again.end() == 0 and "Nothing to be done" in again.text


def test_what_can_never_start_is_refused_before_anything_is_submitted(cluster, checkout, controller, monkeypatch):
    monkeypatch.setitem(cluster.environment, "CORRBENCH_SLURM_PARTITION", "short")
    run = controller(*FAST)
    assert run.end(100) == 1
    assert "propagate asks the partition short for 240 minutes, 60 are allowed" in run.text, run.text[-2000:]
    assert "Traceback" not in run.text and not cluster.jobs()


SLOW = """#!/bin/bash
out=$({real} "$@"); status=$?; touch {place}/submitted; sleep 3; echo "$out"; exit $status
"""


def test_an_interrupt_while_sbatch_runs_leaves_no_job(cluster, checkout, controller, monkeypatch):
    wrap(cluster, checkout, monkeypatch, "sbatch", SLOW)
    run = controller(*FAST)
    cluster.wait_for((checkout / "wrap/submitted").exists, "an sbatch")
    run.process.send_signal(signal.SIGINT)
    time.sleep(1)
    run.process.send_signal(signal.SIGINT)  # a second one changes nothing
    assert run.end(100) == 1
    assert "Traceback" not in run.text and "Canceling all jobs of this run." in run.text, run.text[-3000:]
    assert not [comment for comment in cluster.jobs().values() if comment.startswith("rule_")], "no job is left"
