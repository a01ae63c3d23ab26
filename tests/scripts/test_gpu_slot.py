"""One GPU, one job: mock devices, real processes."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT


def start(count, command, tmp_path, gpus="0,1", **more):
    env = {**os.environ, "CORRBENCH_GPUS": gpus, "TMPDIR": str(tmp_path), **more}
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.gpu_slot", str(count), "--", sys.executable, "-c", command],
        cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


JOB = """
import os, time
d = os.environ["CUDA_VISIBLE_DEVICES"]
start = time.monotonic(); time.sleep(0.6)
print(d, start, time.monotonic())
"""


def test_jobs_never_share_a_device(tmp_path):
    jobs = [start(1, JOB, tmp_path) for _ in range(5)] + [start(2, JOB, tmp_path)]
    spans = []
    for job in jobs:
        out, err = job.communicate(timeout=60)
        assert job.returncode == 0, err
        devices, begin, end = out.split()
        spans += [(d, float(begin), float(end)) for d in devices.split(",")]
    assert {d for d, *_ in spans} == {"0", "1"}
    for i, (device, begin, end) in enumerate(spans):
        for other, other_begin, other_end in spans[i + 1 :]:
            assert device != other or end <= other_begin or other_end <= begin


def test_a_killed_job_frees_its_device(tmp_path):
    holder = start(1, "import time; print('held', flush=True); time.sleep(60)", tmp_path, gpus="0")
    assert holder.stdout.readline() == "held\n"
    waiting = start(1, "print('mine')", tmp_path, gpus="0")
    time.sleep(1)
    assert waiting.poll() is None
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert waiting.communicate(timeout=30)[0] == "mine\n"


def test_zero_hides_every_gpu(tmp_path):
    job = start(0, "import os; print(repr(os.environ['CUDA_VISIBLE_DEVICES']))", tmp_path)
    assert job.communicate(timeout=30)[0] == "''\n"


@pytest.mark.parametrize("slurm", [{}, {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": ""}])
def test_too_few_gpus_are_refused(tmp_path, slurm):
    job = start(3, "print('no')", tmp_path, **slurm)
    out, err = job.communicate(timeout=30)
    assert job.returncode == 1 and out == ""
    assert "wants 3 GPU(s)" in err and "what to do" in err


def test_the_devices_are_printed_and_checked(tmp_path):
    """A stand-in nvidia-smi that knows device 0 only."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        '#!/bin/sh\ncase "$*" in *"-i 0") echo "0, Test GPU, 80 GiB, 3 MiB, 550";; *) echo "No devices were found"; exit 6;; esac\n'
    )
    tool.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    job = start(1, "print('ran')", tmp_path, gpus="0", PATH=path)
    out, err = job.communicate(timeout=30)
    assert out == "ran\n" and "CUDA_VISIBLE_DEVICES=0" in err and "Test GPU, 80 GiB" in err
    job = start(1, "print('ran')", tmp_path, gpus="5", PATH=path)
    out, err = job.communicate(timeout=30)
    assert job.returncode == 1 and out == "" and "No devices were found" in err and "what to do" in err
