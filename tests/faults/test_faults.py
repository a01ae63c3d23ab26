"""A bounded number of seeded faults: every artifact is damaged at least once (python -m tests.faults runs any number)."""

import json
import os
import subprocess

import pytest
import warm
from conftest import ROOT

from tests.faults.outcome import FAILURES
from tests.faults.subjects import subjects

SEED = 1
QUICK = [s for s in subjects() if not s.slow]


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """All trials, made in one process that forks: their records by artifact."""
    records = tmp_path_factory.mktemp("faults") / "records"
    command = [
        warm.python(),
        "-m",
        "tests.faults",
        "--seed",
        str(SEED),
        "--trials",
        str(len(QUICK)),
        "--quick",
        "--records",
        records,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode in (0, 1) and records.exists(), done.stdout + done.stderr
    found = {s.name: [] for s in QUICK}
    for line in records.read_text().splitlines():
        trial = json.loads(line)
        found[trial["subject"]].append(trial)
    return found


@pytest.mark.parametrize("name", [s.name for s in QUICK])
def test_damage_is_refused_or_changes_nothing(trials, name):
    assert trials[name], "no trial damaged it"
    assert not [f"{t['outcome']}: {t['what']}: {t['why']}" for t in trials[name] if t["outcome"] in FAILURES]
