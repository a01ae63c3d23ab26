"""Warm processes (tests/warm) behave as those that the interpreter starts: what tests that use them rely on."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import warm

PROGRAM = """
import json, os, resource, sys
if sys.argv[1:] == ["sleep"]:
    import time
    print(os.getpid(), flush=True)
    time.sleep(60)
print(json.dumps({
    "argv": sys.argv, "name": __name__, "file": __file__, "path": sys.path, "cwd": os.getcwd(), "environment": dict(os.environ),
    "umask": os.umask(0), "files": sorted(int(n) for n in os.listdir("/proc/self/fd"))[:-1], "stdin": sys.stdin.read(),
    "limit": resource.getrlimit(resource.RLIMIT_NOFILE)}))
print("an error", file=sys.stderr)
sys.exit({"3": 3, "words": "some words", "raise": None}[sys.argv[1]] if sys.argv[1] != "raise" else 1 / 0)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/mine.py").write_text(PROGRAM)
    return tmp_path


def both(folder, *arguments, **more):
    """What the interpreter and the stand-in give."""
    found = []
    for python in (sys.executable, warm.python()):
        environment = {**os.environ, "PYTHONPATH": str(folder / "more"), "OTHER": "1"}
        done = subprocess.run([python, "-m", "scripts.mine", *arguments], cwd=folder, capture_output=True, text=True,
                              input="what it reads", env=environment, **more)  # fmt: skip
        said = json.loads(done.stdout) if done.stdout else {}
        said.get("environment", {}).pop("_", None)
        found.append((done.returncode, said, done.stderr))
    return found


@pytest.mark.parametrize("argument", ["3", "words"])
def test_it_sees_and_says_the_same(folder, argument):
    old = os.umask(0o27)
    try:
        cold, hot = both(folder, argument)
    finally:
        os.umask(old)
    assert hot == cold
    assert hot[0] == (3 if argument == "3" else 1) and hot[1]["umask"] == 0o27 and hot[1]["files"] == [0, 1, 2]


def test_an_error_ends_it_alike(folder):
    cold, hot = both(folder, "raise")
    assert hot[:2] == cold[:2] and hot[0] == 1
    assert hot[2].splitlines()[-1] == cold[2].splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_open_files_are_handed_on(folder, tmp_path):
    with (tmp_path / "held").open("w") as held:
        cold, hot = both(folder, "3", pass_fds=[held.fileno()])
    assert hot == cold and held.name and len(hot[1]["files"]) == 4


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_signals_reach_it(folder, how):
    process = subprocess.Popen([warm.python(), "-m", "scripts.mine", "sleep"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    pid = int(process.stdout.readline())
    process.send_signal(how)
    process.communicate(timeout=20)
    assert process.returncode == -how
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < end, "the program lives on"
        time.sleep(0.01)


def test_what_it_cannot_do_the_interpreter_does(folder):
    code = "import sys; print(sys.executable, 'torch' in sys.modules)"
    done = subprocess.run([warm.python(), "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == [sys.executable, "False"]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run([warm.python(), "-m", "scripts.mine", "3"], cwd=folder, env=environment, capture_output=True, text=True, input="")  # fmt: skip
    assert done.returncode == 3 and json.loads(done.stdout)["environment"]["PYTHONHASHSEED"] == "0"
