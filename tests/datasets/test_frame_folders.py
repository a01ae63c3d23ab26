"""Frames that the frames stage made: nothing of others is lost, nothing damaged is read, nothing half made is kept."""

import fcntl
import json
import os
import shutil
import sys

import cv2
import numpy as np
import pytest

from corrbench.datasets.frame_folders import folder_names, frames_output
from corrbench.datasets.synthetic import write_videos
from corrbench.datasets.videos import Index, Reader, build_index
from corrbench.errors import Refusal
from scripts import frames as program


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_videos(folder, videos=3, frames=5, height=48, width=64)
    return folder


def settings(**more):
    return json.dumps({"kind": "videos", "files": "**/*.m*", **more})


@pytest.fixture
def frames(monkeypatch, tmp_path):
    """Run scripts.frames in this process."""

    def run(root, out, *more):
        monkeypatch.setattr(sys, "argv", ["frames", "--root", str(root), "--out", str(out), "--workers", "2", *more])
        program.main()
        return Index.read(out / "index.csv")

    return run


def test_no_two_videos_share_a_folder():
    assert folder_names(["x.mp4", "x.mkv", "y.a.mp4", "y.b.mp4"]) == {
        "x.mp4": "x.mp4",
        "x.mkv": "x.mkv",
        "y.a.mp4": "y.a",
        "y.b.mp4": "y.b",
    }
    assert folder_names(["a.mp4", "a/0.mp4"]) == {"a.mp4": "a.mp4", "a/0.mp4": "a/0"}
    assert folder_names(["index.csv.mp4", "a.mp4", "a.mkv", "a.mp4.mkv"]) == {
        name: name for name in ("index.csv.mp4", "a.mp4", "a.mkv", "a.mp4.mkv")
    }


def test_every_video_name_has_frames_of_its_own(videos, tmp_path, frames):
    root = tmp_path / "root"
    shutil.copytree(videos, root)
    (root / "video00").mkdir()
    shutil.copy(root / "video01.mp4", root / "video00/00000.mp4")
    shutil.copy(root / "video02.mp4", root / "video01.mkv")
    os.rename(root / "video02.mp4", root / "index.csv.mp4")
    shutil.copy(root / "index.csv.mp4", root / 'a\nb,"c.mp4')
    (root / "._video01.mp4").write_bytes(b"litter")
    index = frames(root, tmp_path / "out", "--settings", settings())
    assert [v.video for v in index.videos] == [
        'a\nb,"c', "index.csv.mp4", "video00.mp4", "video00/00000", "video01.mkv", "video01.mp4",
    ]  # fmt: skip
    reader = Reader(tmp_path / "out", index, "frames")
    assert all(len(reader.read(i, range(5))) == 5 for i in range(6))
    assert [p.name for p in (tmp_path / "out/video00").iterdir()] == ["00000"]


def test_names_that_cannot_stand_in_a_table_are_skipped(videos, tmp_path, frames, capsys):
    root = tmp_path / "root"
    shutil.copytree(videos, root)
    shutil.copy(root / "video00.mp4", os.fsencode(root) + b"/vid\xff.mp4")
    shutil.copy(root / "video00.mp4", root / ".hidden.mp4")
    index = frames(root, tmp_path / "out", "--settings", settings(most_skipped=0.5))
    assert len(index.videos) == 3
    assert (tmp_path / "out/skipped.csv").read_text().splitlines() == [
        "video,reason",
        ".hidden.mp4,a hidden file: rename it to use it",
        "vid\\udcff.mp4,its name is not UTF-8: rename it",
    ]


@pytest.mark.parametrize("mine", ["thesis.txt", "sub/data.npz", "video00/me.txt", "video00/00000.jpg", "index.csv"])
def test_files_of_others_are_never_touched(videos, tmp_path, frames, mine):
    file = tmp_path / "out" / mine
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(Refusal, match="holds files that corrbench did not write"):
        frames(videos, tmp_path / "out", "--settings", settings())
    assert file.read_text() == "mine" and [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [file]


def test_a_file_beside_frames_is_not_lost_when_they_are_made_again(videos, tmp_path, frames):
    frames(videos, tmp_path / "out", "--settings", settings())
    (tmp_path / "out/video01/notes.txt").write_text("mine")
    frames(videos, tmp_path / "out", "--settings", settings())  # all is whole: nothing is replaced
    with pytest.raises(Refusal, match="video01/notes.txt"):
        frames(videos, tmp_path / "out", "--settings", settings(short_side=32))
    assert (tmp_path / "out/video01/notes.txt").read_text() == "mine"


def everything(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_damaged_folders_are_made_again_and_killed_runs_go_on(videos, tmp_path, frames):
    out = tmp_path / "out"
    frames(videos, out, "--settings", settings())
    first = everything(out)
    picture = out / "video00/00002.jpg"
    for damage in (
        lambda: picture.write_bytes(picture.read_bytes()[:200]),
        picture.unlink,
        lambda: (out / "video01/video.json").write_text("{"),
        lambda: (out / "index.csv").write_text(""),
        (out / "index.csv").unlink,
        lambda: (out / ".video02.77-ab12cd.tmp").mkdir(),
    ):
        damage()
        frames(videos, out, "--settings", settings())
        assert everything(out) == first and not list(out.glob("*.tmp"))


def test_another_run_on_the_same_folder_is_refused(videos, tmp_path, frames):
    with (tmp_path / ".out.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Refusal, match="another run is writing it"):
            frames(videos, tmp_path / "out", "--settings", settings())
    assert not (tmp_path / "out").exists()


def test_an_output_that_was_linked_to_another_disk(videos, tmp_path, frames):
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    assert len(frames(videos, tmp_path / "out", "--settings", settings()).videos) == 3
    assert (tmp_path / "out").is_symlink() and (tmp_path / "disk/index.csv").is_file()


def test_outputs_of_the_edition_without_records_go_on(videos, tmp_path, frames):
    out = tmp_path / "out"
    frames(videos, out, "--settings", settings())
    first = everything(out)
    for path in (".corrbench.json", "index.json"):
        (out / path).unlink()
    for path in out.glob("*/video.json"):
        found = json.loads(path.read_text())
        path.write_text(json.dumps({"video": found["video"], "from": found["from"]}))
    frames(videos, out, "--settings", settings())
    assert everything(out) == first
    with frames_output(out):
        pass


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-60]), "not the frame that was extracted .another CRC-32, "),
        (lambda p: cv2.imwrite(str(p), np.zeros((48, 64, 3), np.uint8)), "not the frame that was extracted"),
        (lambda p: p.unlink(), "no such file"),
        (lambda p: (p.parent / "video.json").unlink(), "video.json: no such file"),
    ],
)
def test_training_reads_no_other_frame_than_was_extracted(videos, tmp_path, frames, damage, words):
    out = tmp_path / "out"
    index = frames(videos, out, "--settings", settings())
    damage(out / "video01/00002.jpg")
    with pytest.raises(Refusal, match=words):
        Reader(out, index, "frames").read(1, [2])


def test_frames_of_a_users_own_folder(tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    for number in (1, 2, 10, 11):
        cv2.imwrite(str(folder / f"{number}.jpg"), np.full((24, 32, 3), 10 * number, np.uint8))
    (folder / "._2.jpg").write_bytes(b"litter")
    (folder / "video.json").write_text('{"title": "a file of the user"}')
    index, skipped = build_index(tmp_path, "*", "frames")
    reader = Reader(tmp_path, index, "frames")
    assert not skipped and index.videos[0].frames == 4
    assert [round(f.mean(), -1) for f in reader.read(0, [1, 2])] == [20, 100]
    whole = (folder / "10.jpg").read_bytes()
    (folder / "10.jpg").write_bytes(whole[:-12])
    with pytest.raises(Refusal, match=r"10.jpg: a damaged or cut JPEG"):
        reader.read(0, [2])
    cv2.imwrite(str(folder / "10.jpg"), np.zeros((12, 16, 3), np.uint8))
    with pytest.raises(Refusal, match=r"frame 2 has 16x12 pixels[\s\S]*32x24"):
        reader.read(0, [2])


def test_upper_case_and_mixed_suffixes(tmp_path):
    for name, suffixes in (("one", ["JPG", "JPG"]), ("two", ["jpeg", "jpeg"]), ("three", ["jpg", "png"])):
        (tmp_path / name).mkdir()
        for i, suffix in enumerate(suffixes):
            data = cv2.imencode(f".{suffix.lower()}", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
            (tmp_path / name / f"{i:05d}.{suffix}").write_bytes(data)
    index, skipped = build_index(tmp_path, "*", "frames")
    assert [v.video for v in index.videos] == ["one", "two"]
    assert skipped[0][0] == "three" and "files of several kinds" in skipped[0][1]


@pytest.mark.parametrize("where", ["train/a", "train", "train_256/a", "a", "."])
def test_kinetics_in_flat_and_class_folders(tmp_path, frames, where, videos):
    (tmp_path / "root" / where).mkdir(parents=True, exist_ok=True)
    shutil.copy(videos / "video00.mp4", tmp_path / "root" / where)
    index = frames(tmp_path / "root", tmp_path / "out", "--data", "kinetics400")
    assert len(index.videos) == 1 and index.videos[0].video.endswith("video00")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--settings", "{"], "--settings: not valid JSON"),
        (["--settings", "[]"], "--settings"),
        (["--settings", '{"kind": "masks"}'], "--settings"),
        (["--settings", settings(kind="frames"), "--roots", "[1]"], "--roots"),
        (["--settings", settings(files="/x/*")], "no pattern of files"),
        (["--settings", settings(files="*.avi")], r"nothing fits \*.avi; there lies 3 .mp4"),
        (["--data", "davis2017"], "no data set of videos"),
    ],
)
def test_arguments_that_cannot_be_are_refused(videos, tmp_path, frames, arguments, words):
    with pytest.raises(Refusal, match=words):
        frames(videos, tmp_path / "out", *arguments)


def test_an_output_that_is_a_file(videos, tmp_path, frames):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(Refusal, match="out: a file"):
        frames(videos, tmp_path / "out", "--settings", settings())
    with pytest.raises(Refusal, match="out: File exists"):
        frames(videos, tmp_path / "out/below", "--settings", settings())
