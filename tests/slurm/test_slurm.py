"""The literal command on a real single-node SLURM, and what goes wrong on clusters: nothing lost, nothing scored twice."""

import os
import re
import signal
import sys
import time

from controllers import FAST, check_table, finished_jobs, needs_slurm, process_of, running

pytestmark = needs_slurm


def test_faults_in_one_run(cluster, checkout, expected, controller, monkeypatch):
    """A job canceled, one requeued, one that hangs until its time limit; slurmctld restarted, the node drained.

    The partition allows what first attempts ask for, 240 minutes, and not what second ones would, 480.
    """
    monkeypatch.setitem(cluster.environment, "CORRBENCH_SLURM_PARTITION", "middle")
    run = controller(*FAST, python=sys.executable)  # its processes are stopped, so they are real ones
    hit = {}
    for fault in ("canceled", "hanging", "requeued"):  # whichever entries run first
        job, entry = running(
            cluster, "rule_propagate_wildcards_tiny-val_(random-r18.*)", but=[e for _, e in hit.values()]
        )
        hit[fault] = job, entry
        if fault == "canceled":
            cluster.run("scancel", job)
        elif fault == "hanging":
            os.kill(process_of(cluster, f"python -m scripts.propagate --entry {entry}", checkout), signal.SIGSTOP)
            cluster.run("scontrol", "update", f"jobid={job}", "TimeLimit=1")
        else:
            cluster.run("scontrol", "requeue", job)

    cluster.stop("slurmctld")  # as an upgrade does; killed hard, it would forget its last seconds
    time.sleep(12)  # several status queries fail
    cluster.start("slurmctld")

    cluster.wait_for(lambda: cluster.run("sinfo", "-h", "-o", "%T"), "the controller")
    cluster.run("scontrol", "update", f"nodename={cluster.host}", "state=drain", "reason=test")
    time.sleep(10)
    cluster.run("scontrol", "update", f"nodename={cluster.host}", "state=resume")

    assert run.end() == 0, run.text[-3000:]
    text = run.text
    assert f"SLURM-job '{hit['canceled'][0]}' failed, SLURM status is: 'CANCELLED'" in text
    assert f"SLURM-job '{hit['hanging'][0]}' failed, SLURM status is: 'TIMEOUT'" in text
    assert hit["requeued"][0] not in re.findall(r"SLURM-job '(\d+)' failed", text)
    done = finished_jobs(text)
    assert len(done) == len(set(done)), "no job counted as finished twice"
    assert "(100%) done" in text
    check_table(checkout, expected)
    devices = (checkout / "results/logs/propagate/tiny-val/random-r18.random.crw.log").read_text()
    assert re.search(r"SLURM job \d+, CUDA_VISIBLE_DEVICES=[01]", devices)
    again = controller("--dry-run")
    assert again.end() == 0 and "Nothing to be done" in again.text
