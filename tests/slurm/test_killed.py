"""A controller that is killed on a real single-node SLURM, and a job that fails."""

import signal
import time

import yaml
from controllers import FAST, RUNS, check_table, needs_slurm, running

pytestmark = needs_slurm


def test_a_killed_controller_and_a_job_that_fails(cluster, checkout, expected, controller):
    """SIGKILL with jobs running, then the same command again; and a failing entry shows its log and spares the others."""
    config = yaml.safe_load((checkout / "config/config.yaml").read_text())
    broken = {**config, "files": {"broken": {"path": "broken.pth"}}}
    broken["runs"] = [*RUNS, {"methods": ["random-r18"], "weights": ["broken"], "benchmarks": ["tiny-val"]}]
    (checkout / "config/config.yaml").write_text(yaml.safe_dump(broken))
    (checkout / "broken.pth").write_bytes(b"half a file")

    run = controller(*FAST)
    running(cluster, "rule_propagate")
    time.sleep(2)
    run.process.send_signal(signal.SIGKILL)
    run.process.wait()
    assert cluster.jobs("RUNNING"), "the orphans run on"

    failed = controller(*FAST, "--retries", "0")
    assert failed.end() == 1
    assert "refused: broken.pth: not a readable checkpoint" in failed.text, failed.text[-3000:]
    scored = sorted(p.parts[-3] for p in (checkout / "results/tiny-val").glob("*/scores/scores.json"))
    assert scored == sorted(expected["entry"]), "the other entries were finished"

    (checkout / "config/config.yaml").write_text(yaml.safe_dump(config))
    last = controller(*FAST)
    assert last.end() == 0, last.text[-3000:]
    assert "rule propagate" not in last.text
    check_table(checkout, expected)
