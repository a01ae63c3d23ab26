"""Frames from videos: complete, resumable, corrupt ones counted; readers of folders and files agree."""

import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import ROOT

from corrbench.datasets.synthetic import write_videos
from corrbench.datasets.videos import Index, Reader, Video, build_index, check_skipped, write_ytvos_csv
from corrbench.errors import Refusal


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_videos(folder / "a", videos=2, frames=12, height=64, width=96)
    write_videos(folder / "b", videos=2, frames=12, height=64, width=96, seed=7)
    return folder


def test_every_frame_with_its_short_side(videos, tmp_path):
    index, skipped = build_index(videos, "*/*.mp4", "videos", out=tmp_path, short_side=32)
    assert not skipped and [v.video for v in index.videos] == ["a/video00", "a/video01", "b/video00", "b/video01"]
    assert all((v.frames, v.fps, v.width, v.height) == (12, 24.0, 48, 32) for v in index.videos)
    assert len(list((tmp_path / "a/video00").glob("*.jpg"))) == 12
    index.write(tmp_path / "index.csv")
    assert Index.read(tmp_path / "index.csv") == index


def test_small_videos_are_not_enlarged_and_readers_agree(videos, tmp_path):
    frames, _ = build_index(videos, "*/*.mp4", "videos", out=tmp_path)
    files, _ = build_index(videos, "*/*.mp4", "videos")
    assert [(v.frames, v.width, v.height) for v in frames.videos] == [
        (v.frames, v.width, v.height) for v in files.videos
    ]
    for numbers in ([0, 3, 7], [11], [5, 2, 2]):
        one, two = Reader(tmp_path, frames, "frames").read(3, numbers), Reader(videos, files, "videos").read(3, numbers)
        assert len(one) == len(numbers)
        for a, b, number in zip(one, two, numbers, strict=True):
            differences = [
                np.abs(near.astype(int) - b).mean() for near in Reader(tmp_path, frames, "frames").read(3, range(12))
            ]
            assert np.argmin(differences) == number, "the same frame, apart from what JPEG costs"
            assert np.abs(a.astype(int) - b).mean() == min(differences)


def test_an_interrupted_call_goes_on(videos, tmp_path):
    build_index(videos, "*/*.mp4", "videos", out=tmp_path)
    kept = (tmp_path / "a/video00/00000.jpg").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "b/video01")
    index, _ = build_index(videos, "*/*.mp4", "videos", out=tmp_path)
    assert len(index.videos) == 4 and (tmp_path / "a/video00/00000.jpg").stat().st_mtime_ns == kept


def test_other_settings_or_another_file_are_extracted_again(videos, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(videos, root)
    build_index(root, "*/*.mp4", "videos", out=tmp_path / "out", short_side=32)
    index, _ = build_index(root, "*/*.mp4", "videos", out=tmp_path / "out", short_side=48)
    assert {v.height for v in index.videos} == {48}
    shutil.copy(root / "b/video01.mp4", root / "a/video00.mp4")
    build_index(root, "*/*.mp4", "videos", out=tmp_path / "out", short_side=48)
    pictures = [(tmp_path / "out" / name / "00000.jpg").read_bytes() for name in ("a/video00", "b/video01")]
    assert pictures[0] == pictures[1]


def test_too_little_room_is_noticed_early(videos, tmp_path, monkeypatch):
    from corrbench.datasets import videos as module

    monkeypatch.setattr(module, "SAMPLE", 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("U", (), {"free": 10})())
    with pytest.raises(Refusal, match="still needed for 4 videos"):
        build_index(videos, "*/*.mp4", "videos", out=tmp_path)


def test_frames_with_any_names(tmp_path):
    (tmp_path / "v").mkdir()
    for i, name in enumerate("abc"):
        cv2.imwrite(str(tmp_path / "v" / f"{name}.png"), np.full((8, 8, 3), 10 * i, np.uint8))
    index, _ = build_index(tmp_path, "*", "frames")
    assert index.videos[0].first == -1 and Reader(tmp_path, index, "frames").read(0, [2])[0].mean() == 20


def test_corrupt_videos_are_listed_and_too_many_refused(videos, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(videos, root)
    (root / "a/broken.mp4").write_bytes(b"no video" * 100)
    index, skipped = build_index(root, "*/*.mp4", "videos", out=tmp_path / "out")
    assert len(index.videos) == 4 and skipped == [("a/broken.mp4", "no frame can be decoded")]
    check_skipped(index, skipped, most=0.2)
    with pytest.raises(Refusal, match=r"1 of 5 videos .*a/broken.mp4 \(no frame"):
        check_skipped(index, skipped, most=0.19)


def test_frame_folders_and_their_ytvos_csv(tmp_path):
    for name, first in (("one", 0), ("two", 5)):
        (tmp_path / name).mkdir()
        for i in range(first, first + 4):
            cv2.imwrite(str(tmp_path / name / f"{i:05d}.jpg"), np.full((20, 30, 3), i, np.uint8))
    index, _ = build_index(tmp_path, "*", "frames")
    assert index.videos == (Video("one", 4, 0, 30, 20), Video("two", 4, 0, 30, 20, 5))
    write_ytvos_csv(index, tmp_path / "ytvos.csv")
    assert (tmp_path / "ytvos.csv").read_text() == "one,0,4\ntwo,5,4\n"
    assert abs(int(Reader(tmp_path, index, "frames").read(1, [3])[0].mean()) - 8) <= 1
    with pytest.raises(Refusal, match="number 4 is asked for"):
        Reader(tmp_path, index, "frames").read(1, [4])


def test_a_list_names_the_folders(tmp_path):
    """CRW's and TimeCycle's lists: a folder and its number of frames in each line; absolute or below the root."""
    for name in ("a/one", "b two", "c"):
        (tmp_path / name).mkdir(parents=True)
        for i in range(4):
            cv2.imwrite(str(tmp_path / name / f"{i:05d}.jpg"), np.full((20, 30, 3), i, np.uint8))
    listed = tmp_path / "list.txt"
    listed.write_text(f"{tmp_path}/b two 4\n\na/one 9\n")
    index, _ = build_index(tmp_path, "", "frames", listed=listed)
    assert [v.video for v in index.videos] == ["a/one", "b two"] and {v.frames for v in index.videos} == {4}
    for text, said in (
        ("a/two 4", "nothing at"),
        ("a/one 4\na/one 4", "more than once"),
        ("", "no names"),
        ("..", "not below"),
    ):
        listed.write_text(text)
        with pytest.raises(Refusal, match=said):
            build_index(tmp_path, "", "frames", listed=listed)


def test_nothing_there_is_refused(tmp_path):
    with pytest.raises(Refusal, match="nothing fits"):
        build_index(tmp_path, "*.mp4", "videos")


def test_a_sample_that_cannot_be_read_is_replaced_and_counted(videos, tmp_path):
    from corrbench.pretraining.fc import Options, Source
    from corrbench.pretraining.order import Order, StepData

    index, _ = build_index(videos, "*/*.mp4", "videos", out=tmp_path)
    for path in (tmp_path / "a/video00").glob("*.jpg"):
        path.write_bytes(b"")
    order = Order(Source(Options(image=16)), index, 0, 4, drop_last=True)
    data = StepData(order, Reader(tmp_path, index, "frames"))
    replaced = [int(data[key]["replaced"]) for step in range(order.steps) for key in order.positions(step, 0, 1)]
    assert 8 <= sum(r > 0 for r in replaced) <= 12, "the twelve frames of that video"
    for path in tmp_path.rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(Refusal, match="5 samples in a row"):
        data[0, 0]


@pytest.mark.realdata
def test_real_clips(shared, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "scripts.frames", "--data", "kinetics400", "--root", shared / "kinetics/videos_train", "--out", tmp_path],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "50 videos, 3000 frames, 0 skipped" in done.stdout
    assert all(min(v.width, v.height) == 256 for v in Index.read(tmp_path / "index.csv").videos)
