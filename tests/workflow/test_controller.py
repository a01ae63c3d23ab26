"""What the workflow adds to Snakemake, without Snakemake."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT

from corrbench import controller
from corrbench.controller import PARENT, name_locks, parse_stale, watch
from corrbench.locks import OWNER

FOUND = {
    Path("r/a.json"): "made with other weights",
    Path("r/b c.json"): "made with other weights",
    Path("r/d.json"): "seed: 1 -> 0",
}


class Persistence:
    """Snakemake's locks, as far as they are wrapped."""

    def __init__(self, folder):
        self._lockdir = folder

    @property
    def locked(self):
        return any(Path(self._lockdir).glob("*.lock"))

    def _write_locks(self, kind, keys):
        (Path(self._lockdir) / f"0.{kind}.lock").write_text("\n".join(keys))

    @contextmanager
    def lock(self):
        self._write_locks("output", ["r/a.json"])
        yield
        (Path(self._lockdir) / "0.output.lock").unlink()

    def cleanup_locks(self):
        for path in Path(self._lockdir).glob("*.lock"):
            path.unlink()


@pytest.fixture
def workflow(tmp_path):
    made = SimpleNamespace(dryrun=False, persistence=Persistence(tmp_path), dag=SimpleNamespace(forcefiles=set()))
    made._prepare_dag = lambda **settings: None
    return made


def test_what_does_not_belong_is_forced_and_said(workflow):
    said = []
    watch(workflow, lambda: FOUND, said.append)
    assert said == [] and not workflow.dag.forcefiles, "nothing is looked at before a graph is made"
    workflow._prepare_dag(forceall=False)
    assert workflow.dag.forcefiles == {str(path) for path in FOUND}
    assert parse_stale(f"before\n{said[0]}\nBuilding DAG\n    x\n") == {str(path): why for path, why in FOUND.items()}


def test_a_lock_names_its_run_and_is_gone_with_it(workflow, tmp_path):
    watch(workflow, dict, print)
    workflow._prepare_dag()
    with workflow.persistence.lock():
        assert (tmp_path / "0.output.lock").read_text().startswith(OWNER)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_names_no_locks(workflow):
    workflow.dryrun = True
    before = workflow.persistence.lock
    watch(workflow, dict, print)
    workflow._prepare_dag()
    assert workflow.persistence.lock == before


def test_another_living_run_is_refused_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(controller, "PATIENCE", 0)
    persistence = Persistence(tmp_path)
    name_locks(persistence)
    persistence._write_locks("output", ["r/a.json"])
    with pytest.raises(SystemExit), persistence.lock():
        pass
    assert f"refused: another run makes these results: process {os.getpid()} on" in capsys.readouterr().err


def test_unlock_leaves_a_run_that_is_at_work_here(tmp_path, capsys):
    persistence = Persistence(tmp_path)
    name_locks(persistence)
    persistence._write_locks("output", ["r/a.json"])
    with pytest.raises(SystemExit):
        persistence.cleanup_locks()
    said = capsys.readouterr().err
    assert f"refused: --unlock: process {os.getpid()} on" in said and "Ctrl-C" in said and list(tmp_path.glob("*.lock"))
    (lock,) = tmp_path.glob("*.lock")
    lock.write_text(lock.read_text().replace(f'"pid": {os.getpid()}', '"pid": 1999999'))
    persistence.cleanup_locks()
    assert not list(tmp_path.glob("*.lock"))


def test_a_run_ends_with_the_program_that_started_it():
    """However that ended: here it is killed."""
    run = f"import os; os.environ['{PARENT}'] = str(os.getppid()); from corrbench.controller import end_with_parent; end_with_parent(); import time; print(os.getpid(), flush=True); time.sleep(60)"
    start = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {run!r}], process_group=0); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", start], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.kill(child, 0)
            if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                break
        except (ProcessLookupError, FileNotFoundError):
            break
        time.sleep(0.1)
    else:
        pytest.fail("it still runs")
