"""A controller that is away while jobs are to be submitted, on a real single-node SLURM without job arrays."""

import re
import subprocess
import time

import yaml
from controllers import FAST, ONE, Controller, check_table, needs_slurm
from flow import checkout_copy

from corrbench.slurm.executor import run_name
from corrbench.slurm.notes import Notes

pytestmark = needs_slurm
SLURM_CONF = "MaxArraySize=0\n"


def test_the_controller_is_away_for_150_seconds(cluster, checkout, expected, controller, tmp_path):
    """Two runs wait for it. In the queue is a job of the same name and words as one of theirs, which they leave alone."""
    config = yaml.safe_dump({"device": "cpu", "rows": ["tests/data/rows"], "runs": ONE})
    second = checkout_copy(tmp_path / "second")
    (second / "slurm/config.yaml").write_text((checkout / "slurm/config.yaml").read_text())
    for folder in (checkout, second):
        (folder / "config/config.yaml").write_text(config)
    name = run_name("corrbench", Notes(checkout))
    alike = ["--job-name", name, "--comment", "rule_synthetic_wildcards_tiny-val", "--mem=10", "--output=/dev/null"]
    job = cluster.run("sbatch", "--parsable", "--begin=now+2hours", *alike, "--wrap", "sleep 1").strip()
    first, other = controller(*FAST, "--slurm-array-jobs", "all"), Controller(cluster, second, *FAST)
    try:
        submitted = "has been submitted with SLURM jobid"
        cluster.wait_for(lambda: submitted in first.text and submitted in other.text, "the first jobs", 60)
        cluster.stop("slurmctld")
        time.sleep(150)
        assert not list(checkout.glob("results/tiny-val/*/scores")) and first.process.poll() is None
        cluster.start("slurmctld")
        assert first.end() == 0, first.text[-3000:]
        assert other.end() == 0, other.text[-3000:]
    finally:
        other.process.kill()
    for run, folder in ((first, checkout), (other, second)):
        assert "The SLURM controller does not answer" in run.text and re.search(r"tasks \(\d+ done\)", run.text), (
            run.text[-3000:]
        )
        assert "Traceback" not in run.text
        check_table(folder, expected, ONE)
    assert "submitted one by one" in first.text
    assert cluster.jobs("PENDING") == {job: "rule_synthetic_wildcards_tiny-val"}
    again = controller("--dry-run")
    assert again.end() == 0 and "Nothing to be done" in again.text
    subprocess.run(["scancel", job], env=cluster.environment, check=True)
