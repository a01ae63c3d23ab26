"""Files are whole or not there: also when the disk is full."""

import numpy as np
import pytest
import torch

from corrbench.datasets.synthetic import write_videos
from corrbench.datasets.videos import build_index
from corrbench.errors import DiskFull
from corrbench.files import atomic, save_tensors, write_image


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
