"""Jobs that SLURM or a killed snakemake no longer knows, on a real single-node SLURM whose controller forgets jobs after 15 s."""

import sys
import time

import yaml
from controllers import FAST, ONE, check_table, needs_slurm, running, wrap

pytestmark = needs_slurm


def test_jobs_that_are_forgotten_before_the_first_query(cluster, checkout, expected, controller):
    (checkout / "config/config.yaml").write_text(
        yaml.safe_dump({"device": "cpu", "rows": ["tests/data/rows"], "runs": ONE})
    )
    run = controller("--slurm-init-seconds-before-status-checks", "30", "--max-status-checks-per-second", "1")
    assert run.end(400) == 0 and "(100%) done" in run.text, run.text[-3000:]
    check_table(checkout, expected, ONE)


STALE = """#!/bin/bash
if [ -e {place}/stale ]; then exit 0; fi
exec {real} "$@"
"""


def test_a_killed_run_takes_up_its_jobs_and_a_stale_queue_is_not_believed(
    cluster, checkout, expected, controller, monkeypatch
):
    """SIGKILL with jobs running, then the same command again: nothing is computed twice. Meanwhile squeue shows no job at all."""
    run = controller(*FAST, python=sys.executable)
    job, _ = running(cluster, "rule_propagate_wildcards_tiny-val_(random-r18[^ ]*)")
    run.process.kill()
    run.process.wait()
    wrap(cluster, checkout, monkeypatch, "squeue", STALE)
    again = controller(*FAST)
    cluster.wait_for(
        lambda: "goes on as SLURM job" in again.text or again.process.poll() is not None, "the old job", 60
    )
    (checkout / "wrap/stale").touch()
    time.sleep(20)
    (checkout / "wrap/stale").unlink()
    assert again.end() == 0, again.text[-3000:]
    assert f"goes on as SLURM job {job}, which an earlier run" in again.text, again.text[-3000:]
    check_table(checkout, expected)
