"""A snakemake that submits to the cluster of the tests, and what they wait for."""

import os
import re
import subprocess
import time

import pandas as pd
import pytest
import warm
from cluster import available

needs_slurm = [pytest.mark.slurm, pytest.mark.skipif(not available(), reason="no slurm-wlm and munge, or not root")]
RUNS = [
    {"methods": ["identity"], "weights": ["none"], "benchmarks": ["tiny-val"]},
    {"methods": ["random-r18"], "weights": ["random"], "protocols": ["crw", "dino", "vfs-r18"], "benchmarks": ["tiny-val"]},
]  # fmt: skip
ONE = [{"methods": ["random-r18"], "weights": ["random"], "protocols": ["crw"], "benchmarks": ["tiny-val"]}]
COLUMNS = ["entry", "J&F", "J-mean", "F-mean", "J-decay"]
FAST = ("--slurm-init-seconds-before-status-checks", "3", "--max-status-checks-per-second", "1")


class Controller:
    """A snakemake in the background."""

    def __init__(self, cluster, checkout, *more, python=None, targets=("results/table.csv",)):
        self.cluster = cluster
        self.log = checkout / f"controller{len(list(checkout.glob('controller*')))}.log"
        command = [python or warm.python(), "-m", "snakemake", "--profile", "slurm", *targets, *more]
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


def check_table(checkout, expected, runs=RUNS):
    """Compare a checkout's table, that of all `RUNS` or of `ONE`, with what a run without SLURM made."""
    if runs is ONE:
        expected = expected[expected["entry"] == "random-r18.random.crw"].reset_index(drop=True)
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


def wrap(cluster, folder, monkeypatch, command, text):
    """A program in the place of one of SLURM's; `{real}` in it is that one."""
    place = folder / "wrap"
    place.mkdir(exist_ok=True)
    path = next(f"{p}/{command}" for p in cluster.environment["PATH"].split(":") if os.path.exists(f"{p}/{command}"))
    (place / command).write_text(text.replace("{real}", path).replace("{place}", str(place)))
    (place / command).chmod(0o755)
    monkeypatch.setitem(cluster.environment, "PATH", f"{place}:{cluster.environment['PATH']}")
