"""A cluster for each file of tests, so that they can run beside each other."""

import fcntl
import os
import shutil
import sys
import threading
from collections import Counter

import pandas as pd
import pytest
import yaml
from flow import CONFIG, checkout_copy, snakemake, write

sys.path.append(os.path.dirname(__file__))  # behind tests/, which has a conftest.py as well
import cluster as single_node
from cluster import Cluster
from controllers import COLUMNS, RUNS, Controller

PARTITIONS = """
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=short Nodes=ALL MaxTime=60 State=UP
PartitionName=middle Nodes=ALL MaxTime=300 State=UP
PartitionName=low Nodes=ALL PriorityTier=1 PreemptMode=CANCEL State=UP
PartitionName=high Nodes=ALL PriorityTier=100 PreemptMode=OFF State=UP
"""
# a controller that forgets jobs sooner than they are asked for, as some sites have it
single_node.CONF = single_node.CONF.replace("MinJobAge=300", "MinJobAge=15") + PARTITIONS


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, request):
    """A cluster; a module's SLURM_CONF are further lines of its slurm.conf. Jobs that run twice at a time are found by a watch."""
    folder = tmp_path_factory.mktemp("slurm")
    common = single_node.CONF
    cluster = Cluster(folder)
    try:
        single_node.CONF += getattr(request.module, "SLURM_CONF", "").replace("{folder}", str(folder))
        cluster.up()
        single_node.CONF = common
        watch = Watch(cluster)
        yield cluster
        assert not watch.end(), "jobs that ran twice at the same time"
    finally:
        single_node.CONF = common
        cluster.down()


class Watch(threading.Thread):
    """Looks every second for jobs of one run that do the same thing at the same time."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.over, self.twice = cluster, threading.Event(), set()
        self.start()

    def run(self):
        while not self.over.wait(1):
            rows = self.cluster.ask("squeue", "-h", "-t", "RUNNING", "-o", "%j|%k").splitlines()
            self.twice |= {row for row, n in Counter(rows).items() if n > 1 and "|rule_" in row}

    def end(self):
        self.over.set()
        self.join()
        return self.twice


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The table of a run on this machine without SLURM; made once for all processes of tests."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "table-without-slurm.csv"
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            folder = tmp_path_factory.mktemp("local")
            project = checkout_copy(folder / "project")
            write(folder, {**CONFIG, "runs": RUNS})
            snakemake(folder, "--", "results/table.csv", checkout=project)
            shutil.copy(folder / "results/table.csv", place)
    return pd.read_csv(place)[COLUMNS]


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

    def start(*more, **how):
        started.append(Controller(cluster, checkout, *more, **how))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            print(each.text[-4000:])
    cluster.cancel_all()
