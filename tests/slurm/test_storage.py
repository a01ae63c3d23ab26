"""Jobs that end slowly and files that appear late, on a real single-node SLURM; and a user whose home is no use."""

import os
import re
import sys
import time

import yaml
from controllers import FAST, ONE, check_table, needs_slurm, running, wrap

pytestmark = needs_slurm
SLURM_CONF = "Epilog={folder}/bin/epilog\n"
EPILOG = """#!/bin/sh
grep -qx "$SLURM_JOB_ID" {folder}/slow && sleep 60
exit 0
"""
# what a network file system does: the exit status of a job is there, and one of its files is not
LATE = """#!/bin/bash
script=${@: -1}; script=${script#sh }
case "$*" in *rule_propagate*)
  f=$PWD/results/tiny-val/random-r18.random.crw/propagation.json
  sed -i "s|^status=.*|&; mv $f $f.late|" "$script";;
esac
exec {real} "$@"
"""


def test_late_files_slow_ends_and_a_home_of_no_use(cluster, checkout, expected, controller, monkeypatch):
    """A job stays in COMPLETING for a minute, its file appears after 20 s. HOME cannot be written to; a profile of another kind is called slurm."""
    (cluster.folder / "slow").touch()
    epilog = cluster.folder / "bin/epilog"
    epilog.write_text(EPILOG.format(folder=cluster.folder))
    epilog.chmod(0o755)
    (checkout / "config/config.yaml").write_text(
        yaml.safe_dump({"device": "cpu", "rows": ["tests/data/rows"], "runs": ONE})
    )
    wrap(cluster, checkout, monkeypatch, "sbatch", LATE)
    other = checkout / "of-the-user/snakemake/slurm"
    other.mkdir(parents=True)
    (other / "config.yaml").write_text("executor: local\ncores: 1\ndry-run: true\n")
    monkeypatch.setitem(cluster.environment, "XDG_CONFIG_HOME", str(checkout / "of-the-user"))
    monkeypatch.delitem(cluster.environment, "XDG_CACHE_HOME", raising=False)
    monkeypatch.setitem(cluster.environment, "HOME", "/proc/1")  # not even root can write there

    run = controller(*FAST, python=sys.executable)
    job, _ = running(cluster, "rule_propagate")
    (cluster.folder / "slow").write_text(f"{job}\n")
    late = checkout / "results/tiny-val/random-r18.random.crw/propagation.json.late"
    cluster.wait_for(late.exists, "the end of the job", 120)
    cluster.wait_for(lambda: job in cluster.jobs("COMPLETING"), "a job that is completing", 60)
    time.sleep(20)
    assert "missing files" in run.text, run.text[-3000:]
    assert job in cluster.jobs("COMPLETING")
    os.rename(late, late.with_suffix(""))
    cluster.wait_for(lambda: "rule_scores" in str(cluster.jobs("PENDING")), "the next job", 20)
    assert job in cluster.jobs("COMPLETING"), (
        "the run does not wait for the epilog, though SLURM starts nothing on the node"
    )
    assert run.end() == 0, run.text[-3000:]
    assert re.search(r"tasks \(\d+ done\)", run.text) and run.text.count("\nrule propagate:") == 1, run.text[-3000:]
    check_table(checkout, expected, ONE)
    again = controller("--dry-run")
    assert again.end() == 0 and "Nothing to be done" in again.text
