"""Locks name their run: one of a dead run is none, one of a living run holds."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from corrbench import locks
from corrbench.controller import name_locks
from corrbench.locks import OWNER, holders, is_gone, owner_line, owner_of, remove_dead


def named(**changes):
    return OWNER + json.dumps({**json.loads(owner_line().removeprefix(OWNER)), **changes})


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def lock(folder, line, name="0.output.lock"):
    (folder / name).write_text(f"{line}\nresults/table.csv\n")
    return folder / name


def test_a_lock_of_this_process_stays(tmp_path):
    path = lock(tmp_path, owner_line())
    assert remove_dead(tmp_path) == [] and path.exists()
    assert f"process {os.getpid()} on " in holders(tmp_path)


def test_a_lock_of_a_dead_process_goes(tmp_path, dead):
    path = lock(tmp_path, named(pid=dead))
    assert remove_dead(tmp_path) == [path] and not path.exists()


def test_a_number_that_another_process_has_now(tmp_path):
    path = lock(tmp_path, named(start="1"))
    assert remove_dead(tmp_path) == [path]


def test_a_process_that_nobody_has_waited_for(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    start = locks._start(child.pid)
    assert remove_dead(tmp_path) == [] and is_gone(json.loads(named(pid=child.pid, start=start).removeprefix(OWNER)))
    child.wait()


def test_a_lock_from_before_a_restart_of_the_machine(tmp_path):
    assert remove_dead(tmp_path) == []
    lock(tmp_path, named(boot="another"))
    assert len(remove_dead(tmp_path)) == 1


@pytest.mark.parametrize(
    "line", [named(host="another", pid=1), named(namespace="pid:[1]", pid=10**6), "results/x.json", OWNER + "{"]
)
def test_what_cannot_be_known_to_be_dead_stays(tmp_path, line):
    path = lock(tmp_path, line)
    assert remove_dead(tmp_path) == [] and path.exists()


def test_locks_of_other_workflows_have_no_owner(tmp_path):
    assert owner_of(lock(tmp_path, "results/x.json")) is None
    assert holders(tmp_path) == "a run that left no name"


def test_another_machine_of_the_same_name(tmp_path, dead):
    lock(tmp_path, named(pid=dead, boot="another", machine="another"))
    assert remove_dead(tmp_path) == []


def test_a_folder_of_locks_that_the_last_run_took_with_it(tmp_path):
    """Snakemake removes the folder with its last lock; a run that waited for that one begins without it."""

    class Persistence:
        _lockdir, locked = str(tmp_path / "locks"), False

        def _write_locks(self, kind, keys):
            (tmp_path / f"locks/0.{kind}.lock").write_text("\n".join(keys))

        @contextmanager
        def lock(self):
            self._write_locks("input", ["results/table.csv"])
            yield

        def cleanup_locks(self):
            pass

    persistence = Persistence()
    name_locks(persistence)
    with persistence.lock():
        assert owner_of(tmp_path / "locks/0.input.lock")["pid"] == os.getpid()
