"""How programs end: one block on stderr, an exit status that says which kind of end, never a traceback."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from corrbench.parallel import ALONE, parallel_map, threads

HEAD = "from corrbench.errors import run_program, Refusal\n"


def run(body, **options):
    return subprocess.run(
        [sys.executable, "-c", f"{HEAD}def main():\n    {body}\nrun_program(main)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        **options,
    )


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("raise Refusal('a.txt: cut', do='copy it again')", 1, "refused: a.txt: cut"),
        ("open('/nowhere/x.txt')", 1, "refused: /nowhere/x.txt: No such file or directory"),
        ("open('/', 'w')", 1, "refused: /: Is a directory"),
        ("b'\\xff'.decode()", 1, "refused: a text that cannot be read"),
        ("raise MemoryError", 1, "not enough memory"),
        ("{}['x']", 70, "an error that nobody foresaw"),
    ],
)
def test_every_error_is_one_block(body, status, words):
    done = run(body)
    assert done.returncode == status and words in done.stderr and "Traceback" not in done.stderr
    assert "what to do" in done.stderr


def test_developers_see_the_traceback():
    done = run("{}['x']", env={**os.environ, "CORRBENCH_DEBUG": "1"})
    assert "Traceback" in done.stderr and "KeyError" in done.stderr and done.returncode == 70


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_program_within_seconds(number, status):
    body = (
        "from corrbench.parallel import threads; import time\n"
        "    with threads(1) as pool:\n"
        "        work = [pool.submit(time.sleep, 30) for _ in range(4)]; print('on', flush=True); work[0].result()"
    )
    code = f"{HEAD}def main():\n    {body}\nrun_program(main)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "on\n"
    start = time.monotonic()
    process.send_signal(number)
    assert process.wait(20) == status and time.monotonic() - start < 5
    said = process.stderr.read()
    assert "run the same command again to go on" in said and len(said.splitlines()) == 1


def _slow(seconds):
    time.sleep(seconds)
    return seconds


def test_work_that_waits_is_canceled_when_one_item_fails():
    start = time.monotonic()
    with pytest.raises(TypeError):
        list(parallel_map(_slow, [ALONE, "no number", *[120] * 6], 2))
    assert time.monotonic() - start < 90  # the workers' start is most of it, on a busy machine


def test_short_work_starts_no_process():
    assert set(parallel_map(_process, [0] * 6, 2)) == {os.getpid()}
    alone, *others = parallel_map(_process, [ALONE, 0, 0], 2)
    assert alone == os.getpid() and os.getpid() not in others


def _process(seconds):
    time.sleep(seconds)
    return os.getpid()


def test_threads_do_not_go_on_after_an_error():
    waiting = []

    def work():
        with threads(1) as pool:
            waiting.extend(pool.submit(time.sleep, 0.05) for _ in range(200))
            waiting[0].result()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert any(future.cancelled() for future in waiting)
    assert all(future.done() for future in waiting), "what ran has ended, and writes nothing any more"


def test_an_error_without_a_number_keeps_its_words():
    done = run("raise OSError('no certificate bundle at /nope')")
    assert done.returncode == 1 and "no certificate bundle at /nope" in done.stderr and "permissions" not in done.stderr


def test_a_pipe_of_a_worker_that_breaks_is_said():
    done = run("raise BrokenPipeError(32, 'Broken pipe')")
    assert done.returncode == 1 and "Broken pipe" in done.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_a_program_still_imports(number, status):
    process = subprocess.Popen(
        [sys.executable, "-v", "-m", "scripts.propagate", "--help"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    for line in process.stderr:  # -v names every import
        if "torch" in line:
            break
    process.send_signal(number)
    said = process.stderr.read()
    assert process.wait() == status and "stopped before it began" in said and "Traceback" not in said


@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)])
def test_closed_streams_end_no_program(closed, tmp_path):
    out = tmp_path / "data"
    done = subprocess.run(
        [sys.executable, "-m", "scripts.synthetic", "--benchmark", "tiny-val", "--rows", "tests/data/rows", "--out", str(out)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=lambda: [os.close(n) for n in closed],
    )  # fmt: skip
    assert done.returncode == 0 and (out / "ImageSets").is_dir()


def test_an_address_space_that_the_libraries_would_abort_in_is_refused():
    limited = lambda: resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000,) * 2)  # noqa: E731
    done = subprocess.run(
        [sys.executable, "-m", "scripts.propagate", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=limited,
    )
    assert done.returncode == 1 and "limited to 2.0 GB (ulimit -v)" in done.stderr and "Traceback" not in done.stderr


def test_progress_without_a_reader_stops_nothing(tmp_path):
    body = "from corrbench.progress import Progress\n    with Progress('x', 2) as bar: bar.advance()\n    open('done', 'w')"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", f"{HEAD}def main():\n    {body}\nrun_program(main)"], cwd=tmp_path, stderr=write, env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    os.close(write)
    assert done.returncode == 0 and (tmp_path / "done").exists()
