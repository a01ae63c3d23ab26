"""Files are whole or not there: also when the disk is full."""

import errno
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

from corrbench.datasets.synthetic import write_videos
from corrbench.datasets.videos import build_index
from corrbench.errors import UNSAID, DiskFull, Refusal
from corrbench.files import atomic, save_tensors
from corrbench.images import write_image


@pytest.mark.parametrize("count", [15_200, 100_000])  # the last block finds no room, and the first
def test_tensors_that_find_no_room_leave_the_old_file(small_disk, count):
    path = small_disk / "last.pt"
    save_tensors(path, torch.zeros(3))
    before = path.read_bytes()
    with pytest.raises(DiskFull, match="last.pt: cannot be written, the disk is full or a quota is used up"):
        save_tensors(path, torch.zeros(count))
    assert path.read_bytes() == before and [p.name for p in small_disk.iterdir()] == ["last.pt"]


@pytest.mark.parametrize(("end", "side"), [(".png", 48), (".jpg", 60)])
def test_pictures_are_never_cut(small_disk, end, side):
    (small_disk / "filler").write_bytes(bytes(60 << 10))  # a page is left
    image = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    with pytest.raises(DiskFull), atomic(small_disk / f"a{end}") as temporary:
        write_image(temporary, image)
    assert [p.name for p in small_disk.iterdir()] == ["filler"]


def test_equal_tensors_are_equal_files(tmp_path):
    for name in ("a.pt", "b.pth"):
        save_tensors(tmp_path / name, {"x": torch.arange(5)})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pth").read_bytes()


def test_a_full_disk_is_no_reason_to_skip_a_video(tmp_path, small_disk):
    write_videos(tmp_path / "videos", videos=3, frames=12, height=96, width=128)
    with pytest.raises(DiskFull):
        build_index(tmp_path / "videos", "*.mp4", "videos", out=small_disk)
    assert not list(small_disk.rglob(".*")), "nothing half made is left"


def test_videos_are_never_cut(small_disk):
    with pytest.raises(Refusal, match="of 12 frames were written"):
        write_videos(small_disk / "videos", videos=9, frames=12, height=96, width=128)


def meet(full, then, *, hide):
    """Run into `full`, and raise `then` while it is handled, as libraries do."""
    try:
        raise full
    except OSError:
        if hide:
            raise then from None
        raise then  # noqa: B904


def test_only_what_the_block_met_counts(tmp_path):
    full = OSError(errno.ENOSPC, "no room")
    with pytest.raises(DiskFull), atomic(tmp_path / "a"):
        meet(full, RuntimeError("a library's own words"), hide=False)
    with pytest.raises(ValueError), atomic(tmp_path / "a"):
        meet(full, ValueError("it is something else"), hide=True)
    try:
        raise full
    except OSError:
        with pytest.raises(ValueError), atomic(tmp_path / "a"):
            raise ValueError("met while the other was being handled")  # noqa: B904


def test_without_room_for_the_log_the_status_says_it(small_disk):
    program = (
        "import sys; from pathlib import Path; from corrbench.errors import run_program; from corrbench.files import save_tensors; import torch;"
        "run_program(lambda: save_tensors(Path(sys.argv[1]), torch.zeros(10)))"
    )
    (small_disk / "filler").write_bytes(bytes(64 << 10))
    with (small_disk / "log").open("w") as log:
        done = subprocess.run([sys.executable, "-c", program, small_disk / "a.pt"], stdout=log, stderr=log, cwd=ROOT)
    assert done.returncode == UNSAID and (small_disk / "log").read_text() == ""
