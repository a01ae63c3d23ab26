"""The literal command on a real single-node SLURM, and what goes wrong on clusters: nothing lost, nothing scored twice."""

import os
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from flow import CONFIG, checkout_copy, snakemake, write

sys.path.insert(0, str(ROOT / "tests" / "slurm"))
from cluster import Cluster, available

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(not available(), reason="no slurm-wlm and munge, or not root")]
RUNS = [
    {"methods": ["identity"], "weights": ["none"], "benchmarks": ["tiny-val"]},
    {"methods": ["random-r18"], "weights": ["random"], "protocols": ["crw", "dino", "vfs-r18"], "benchmarks": ["tiny-val"]},
]  # fmt: skip
COLUMNS = ["entry", "J&F", "J-mean", "F-mean", "J-decay"]
FAST = ("--slurm-init-seconds-before-status-checks", "3", "--max-status-checks-per-second", "1")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        yield cluster.up()
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The table of a run on this machine without SLURM."""
    folder = tmp_path_factory.mktemp("local")
    project = checkout_copy(folder / "project")
    write(folder, {**CONFIG, "runs": RUNS})
    snakemake(folder, "--", "results/table.csv", checkout=project)
    return pd.read_csv(folder / "results/table.csv")[COLUMNS]


@pytest.fixture
def checkout(tmp_path):
    """A fresh checkout whose user has edited config/config.yaml and slurm/config.yaml (GPUs asked for, but not used)."""
    folder = checkout_copy(tmp_path / "checkout")
    config = {"device": "cpu", "rows": ["tests/data/rows"], "runs": RUNS}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
    with (folder / "slurm/config.yaml").open("a") as profile:
        profile.write("\nset-resources:\n  propagate:\n    gpu: 1\n    mem_mb: 2000\nset-threads:\n  propagate: 1\n")
    return folder


@pytest.fixture
def controller(cluster, checkout):
    """Start a snakemake that submits to the cluster; whatever happens, it and its jobs end with the test."""
    started = []

    def start(*more):
        started.append(Controller(cluster, checkout, *more))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            print(each.text[-4000:])
    cluster.cancel_all()


class Controller:
    """A snakemake in the background."""

    def __init__(self, cluster, checkout, *more):
        self.cluster = cluster
        self.log = checkout / f"controller{len(list(checkout.glob('controller*')))}.log"
        command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "results/table.csv", *more]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=checkout, env=cluster.environment, stdout=log, stderr=subprocess.STDOUT, text=True
            )

    @property
    def text(self):
        return self.log.read_text()

    def end(self, seconds=900):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                return self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.cluster.keep_up()
        self.process.kill()
        raise AssertionError(f"the run hangs:\n{self.text[-3000:]}\n{self.cluster.state()}")


def check_table(checkout, expected):
    table = pd.read_csv(checkout / "results/table.csv")[COLUMNS]
    pd.testing.assert_frame_equal(table, expected)


def finished_jobs(text):
    return [int(n) for n in re.findall(r"Finished jobid: (\d+)", text)]


def running(cluster, pattern, but=()):
    """Wait until a job runs whose comment fits the pattern: its number and the pattern's group."""

    def found():
        cluster.keep_up()
        for number, comment in cluster.jobs("RUNNING").items():
            fits = re.search(pattern, comment)
            if fits and fits[fits.lastindex or 0] not in but:
                return number, fits[fits.lastindex or 0]
        return None

    return cluster.wait_for(found, f"a running job {pattern}", 400)


def process_of(cluster, pattern, folder):
    """Wait for a process that runs in `folder` and has `pattern` in its command line; its pid. Other tests run the same programs."""

    def here(pid):
        try:
            return os.readlink(f"/proc/{pid}/cwd") == str(folder.resolve())
        except OSError:
            return False

    def found():
        pids = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True).stdout.split()
        return next((int(pid) for pid in reversed(pids) if here(pid)), None)

    return cluster.wait_for(found, pattern, 60)


def test_faults_in_one_run(cluster, checkout, expected, controller):
    """A job cancelled, one requeued, one that hangs until its time limit; slurmctld restarted, the node drained."""
    run = controller(*FAST)
    hit = {}
    for fault in ("cancelled", "hanging", "requeued"):  # whichever entries run first
        job, entry = running(
            cluster, "rule_propagate_wildcards_tiny-val_(random-r18.*)", but=[e for _, e in hit.values()]
        )
        hit[fault] = job, entry
        if fault == "cancelled":
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
    assert f"SLURM-job '{hit['cancelled'][0]}' failed, SLURM status is: 'CANCELLED'" in text
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


def test_a_killed_controller_and_a_job_that_fails(cluster, checkout, expected, controller):
    """SIGKILL with jobs running, then the README's recipe; and a failing entry shows its log and spares the others."""
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

    recipe = """squeue --me -h -o "%i %j" | awk '$2 ~ /^corrbench_/ {print $1}' | xargs -r scancel"""
    assert recipe in (ROOT / "README.md").read_text()
    subprocess.run(recipe, shell=True, check=True, env=cluster.environment)
    cluster.wait_for(lambda: not cluster.jobs("RUNNING") and not cluster.jobs("COMPLETING"), "the end of the orphans")
    unlock = [sys.executable, "-m", "snakemake", "--profile", "slurm", "--unlock"]
    subprocess.run(unlock, cwd=checkout, env=cluster.environment, check=True, capture_output=True)

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
