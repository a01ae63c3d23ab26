"""A node that goes down, and jobs that the user cancels, on a real single-node SLURM whose controller forgets jobs after 15 s."""

import re
import time

from controllers import FAST, check_table, needs_slurm, running

pytestmark = needs_slurm


def test_a_node_goes_down_and_a_group_job_is_canceled(cluster, checkout, expected, controller):
    run = controller(*FAST, targets=["results/table.csv", "results/report.html"])
    job, _ = running(cluster, "rule_propagate_wildcards_tiny-val_(random-r18[^ ]*)")
    cluster.run("scontrol", "update", f"nodename={cluster.host}", "state=down", "reason=test")
    cluster.wait_for(lambda: job not in cluster.jobs("RUNNING"), "the end of the job", 60)
    time.sleep(5)
    cluster.keep_up()
    group, _ = running(cluster, "rule_scores_.*_wildcards_tiny-val_(random-r18[^ ]*)")
    cluster.run("scancel", group)
    assert run.end() == 0, run.text[-3000:]
    assert re.search(
        r"rule_scores_\S+: attempt 1 \(job \d+\): SLURM status is: 'CANCELLED'; attempt 2 \(job \d+\): done", run.text
    )
    assert re.search(r"\d+ done, 1 failed\)", run.text), "jobs of the node went back to the queue"
    check_table(checkout, expected)
    again = controller("--dry-run")
    assert again.end() == 0 and "Nothing to be done" in again.text
