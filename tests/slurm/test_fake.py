"""The literal command against fake commands: runs where there is no SLURM, and says what sbatch was asked for."""

import json
import os
import subprocess
import sys

import pandas as pd
import warm
import yaml
from conftest import ROOT
from flow import checkout_copy

sys.path.append(str(ROOT / "tests" / "slurm"))
from fake import install

RUNS = [{"methods": ["identity"], "weights": ["none"], "benchmarks": ["tiny-val"]},
        {"methods": ["random-r18"], "weights": ["random"], "protocols": ["dino"], "benchmarks": ["tiny-val"]}]  # fmt: skip


def test_the_literal_command(tmp_path):
    commands = install(tmp_path / "commands")
    checkout = checkout_copy(tmp_path / "checkout")
    config = {"device": "cpu", "rows": ["tests/data/rows"], "runs": RUNS}
    (checkout / "config/config.yaml").write_text(yaml.safe_dump(config))
    environment = {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "CORRBENCH_SLURM_PARTITION": "long",
        "CORRBENCH_SLURM_ACCOUNT": "vision",
        "CORRBENCH_SLURM_GPU_PARTITION": "gpus",  # for jobs with a GPU; device: cpu has none
        "CORRBENCH_SLURM_JOBS": "2",
    }
    faster = ["--slurm-init-seconds-before-status-checks", "1", "--max-status-checks-per-second", "1"]
    done = subprocess.run(
        [warm.python(), "-m", "snakemake", "--profile", "slurm", "results/table.csv", *faster],
        cwd=checkout, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_csv(checkout / "results/table.csv")
    assert sorted(table["entry"]) == ["identity.none.identity", "random-r18.random.dino"]
    calls = [json.loads(path.read_text()) for path in (commands / "jobs").glob("*/call.json")]
    submitted = {call["comment"].partition("_wildcards")[0] for call in calls}
    assert {"rule_propagate", "rule_synthetic", "rule_doctor"} <= submitted
    assert not submitted & {"rule_table", "rule_report", "rule_random_weights"}, "these run beside the controller"
    for call in calls:
        asked = " ".join(call["others"])
        assert "-p long" in asked.replace("'", "") and "-A vision" in asked.replace("'", ""), asked
        assert "--mem" in asked and "-t " in asked and "--requeue" in asked, asked
