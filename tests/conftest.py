"""Shared fixtures: the checkout, tiny data sets, the optional real data."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# two processes of tests share two cores: threads of theirs would only wait for each other, and burn time while they do
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
# compiled modules are kept: copies of the checkout and the many programs that tests start find them
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
import torch  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
SHARED = Path(os.environ.get("CORRBENCH_SHARED", ROOT.parent / "shared" / "data"))

from corrbench.datasets.davis import Davis, open_davis  # noqa: E402
from corrbench.datasets.synthetic import write_davis  # noqa: E402
from corrbench.propagation.protocol import Protocol  # noqa: E402
from corrbench.rows import Rows  # noqa: E402

# Files go to the processes in this order (--no-loadscope-reorder): what waits for SLURM beside the others, what takes long
# before what is short. Each process is given two files to start with, so those with SLURM get a short second one.
LONG = (
    "slurm/test_slurm.py", "slurm/test_situations.py", "slurm/test_forgotten.py", "slurm/test_away.py", "slurm/test_killed.py",
    "slurm/test_storage.py", "workflow/test_workflow.py", "pretraining/test_loop.py",
    "propagation/test_context.py", "test_yamls.py", "datasets/test_index.py", "datasets/test_otb.py", "slurm/test_node.py",
    "datasets/test_archive.py",
    "workflow/test_staleness.py", "workflow/test_probe.py", "slurm/test_fake.py", "workflow/test_pretraining.py",
    "workflow/test_segmentation.py", "test_readme.py", "workflow/test_shards.py", "workflow/test_downloads.py", "faults/", "workflow/",
)  # fmt: skip
# what starts programs or whole runs: not for `make quick`
PROGRAMS = ("slurm/", "workflow/", "faults/", "pretraining/test_loop.py", "test_readme.py", "test_warm.py")

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as a shell starts what runs in the background: tests send SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    place = {item: item.path.relative_to(ROOT / "tests").as_posix() for item in items}
    items.sort(key=lambda item: next((i for i, name in enumerate(LONG) if place[item].startswith(name)), len(LONG)))
    for item in items:
        if place[item].startswith(PROGRAMS):
            item.add_marker("programs")
        if "realdata" in item.keywords and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"no real data at {SHARED} (CORRBENCH_SHARED)"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def seeded():
    """The same numbers in every run, also where a test draws its own."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Root of the real data parts."""
    return SHARED


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True).returncode:
        pytest.skip("cannot mount a small file system here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def protocols() -> Rows:
    return Rows([ROOT / "config"], "protocols", "protocol")


@pytest.fixture(scope="session")
def methods() -> Rows:
    return Rows([ROOT / "config"], "methods", "method")


@pytest.fixture(scope="session")
def protocol(protocols):
    """Build a protocol row by name."""
    return lambda name: Protocol.from_row(protocols.get(name, "test"))


TINY = {"frames": 6, "height": 48, "width": 80, "seed": 0}
TINY_ROW = {"name": "tiny", "year": 2017, "split": "val", "resolution": "480p", "scoring": "multi-object", "frames": 12, "objects": 4}  # fmt: skip


@pytest.fixture
def tiny_davis(tmp_path) -> Davis:
    """A fresh DAVIS-2017-style folder: `three` (3 objects) and `one` (1 object), 6 frames of 80x48."""
    root = tmp_path / "DAVIS"
    write_davis(root, ["three", "one"], split="val", **TINY)
    return open_davis(root, dict(TINY_ROW), ["three", "one"])
