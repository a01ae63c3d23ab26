"""Masks that others made: every layout, and what is refused of them."""

import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from corrbench.datasets.given_masks import Wanted, find_masks, opened, read_sequence
from corrbench.datasets.palette import PALETTE, save_mask
from corrbench.errors import Refusal

FRAMES = ["00000", "00001", "00002", "00003"]
SHAPE = (6, 8)


def ids_of(t, objects=2):
    ids = np.zeros(SHAPE, np.uint8)
    for k in range(1, objects + 1):
        ids[k : k + 2, t : t + 3] = k
    return ids


def read(folder, frames=FRAMES, objects=2, scored=None, single=False, **change):
    """The masks of a sequence of DAVIS, whose objects all start in the first frame."""
    frames, scored = tuple(frames), tuple(frames[1:-1] if scored is None else scored)
    starts = dict.fromkeys(range(1, objects + 1), frames[0])
    what = Wanted(frames, frames, starts, ids_of(0, objects), scored, single=single)
    return dict(read_sequence(folder, replace(what, **change)))


def write_palette(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_mask(path, ids)


def write_gray(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)


def write_colors(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PALETTE[ids]).save(path)


@pytest.mark.parametrize("write", [write_palette, write_gray, write_colors])
def test_ids_come_back_from_every_kind_of_picture(tmp_path, write):
    for t, frame in enumerate(FRAMES):
        write(tmp_path / "cow" / f"{frame}.png", ids_of(t))
    for t, ids in enumerate(read(tmp_path / "cow").values()):
        assert np.array_equal(ids, ids_of(t))


def test_one_mask_for_each_object(tmp_path):
    for t, frame in enumerate(FRAMES):
        for k in (1, 2):
            write_gray(tmp_path / "cow" / f"{k:03d}" / f"{frame}.png", (ids_of(t) == k).astype(np.uint8) * 255)
    for t, ids in enumerate(read(tmp_path / "cow").values()):
        assert np.array_equal(ids, ids_of(t))


@pytest.mark.parametrize("single", [True, False])
def test_masks_of_one_object_may_be_soft_gray(tmp_path, single):
    """Judged by all frames together: where the network is unsure no value is large, and the object is not there."""
    soft = np.linspace(0, 255, SHAPE[0] * SHAPE[1]).astype(np.uint8).reshape(SHAPE)
    pictures = (soft, soft // 6, np.full(SHAPE, 30, np.uint8), soft)
    for frame, values in zip(FRAMES, pictures, strict=True):
        write_gray(tmp_path / "cow" / f"{frame}.png", values)
    found = list(read(tmp_path / "cow", objects=1, single=single).values())
    assert all(np.array_equal(ids, values >= 128) for ids, values in zip(found, pictures, strict=True))
    assert found[1].sum() == found[2].sum() == 0


def test_one_value_is_a_mask_and_small_ones_are_ids(tmp_path):
    for t, frame in enumerate(FRAMES):
        write_gray(tmp_path / "white" / f"{frame}.png", ids_of(t, 1) * np.uint8(255))
        write_gray(tmp_path / "ids" / f"{frame}.png", ids_of(t, 3))
        write_gray(tmp_path / "odd" / f"{frame}.png", ids_of(t, 2) * np.uint8(100))
    for name in ("white", "ids"):  # of DAVIS-2016, several ids are one object
        for t, ids in enumerate(read(tmp_path / name, objects=1, single=True).values()):
            assert np.array_equal(ids, ids_of(t, 1 if name == "white" else 3) > 0)
    assert set(np.unique(read(tmp_path / "white", objects=1)["00001"])) == {0, 1}
    with pytest.raises(Refusal, match="object id 2, 3"):
        read(tmp_path / "ids", objects=1)
    with pytest.raises(Refusal, match="with the values 100, 200"):
        read(tmp_path / "odd", objects=1, single=True)


def test_every_object_has_its_folder_and_its_frames(tmp_path):
    for t, frame in enumerate(FRAMES):
        for k in (1, 2):
            write_gray(tmp_path / "cow" / str(k) / f"{frame}.png", (ids_of(t) == k).astype(np.uint8) * 255)
    (tmp_path / "cow/2/00002.png").unlink()
    with pytest.raises(Refusal, match="no mask of 00002"):
        read(tmp_path / "cow")
    shutil.rmtree(tmp_path / "cow/2")
    with pytest.raises(Refusal, match="no masks of object 2"):
        read(tmp_path / "cow")
    write_gray(tmp_path / "cow/300/00000.png", ids_of(0))
    with pytest.raises(Refusal, match="an object 300"):
        read(tmp_path / "cow")
    write_gray(tmp_path / "cow/00000.png", ids_of(0))
    with pytest.raises(Refusal, match="beside folders of objects"):
        read(tmp_path / "cow")


def test_of_youtube_vos_every_frame_may_have_a_mask(tmp_path):
    """Trackers write all frames from the first object on; the server wants some. The second object starts later."""
    change = {"starts": {1: "00001", 5: "00002"}, "written": ("00000", "00002"), "first": ids_of(1, 1)}
    for t in (1, 2, 3):
        ids = ids_of(t)
        write_palette(tmp_path / "cow" / f"{FRAMES[t]}.png", np.where(ids == 2, 5, ids).astype(np.uint8))
    found = read(tmp_path / "cow", scored=("00000", "00002"), **change)
    assert list(found) == ["00002"] and set(np.unique(found["00002"])) == {0, 1, 5}
    write_palette(tmp_path / "cow/00002.png", ids_of(2))
    with pytest.raises(Refusal, match="object id 2"):
        read(tmp_path / "cow", scored=("00000", "00002"), **change)


def test_masks_that_are_one_frame_off_are_refused(tmp_path):
    """Numbered from 0 without the first frame: nothing is missing but the last."""
    for t in (1, 2, 3):
        write_palette(tmp_path / "cow" / f"{FRAMES[t - 1]}.png", ids_of(t))
    with pytest.raises(
        Refusal, match="no mask of the last frame 00003, and the mask of the first is not its annotation"
    ):
        read(tmp_path / "cow")
    write_palette(
        tmp_path / "cow/00000.png", ids_of(0)
    )  # the given one: the last frame is missing, which is not scored
    assert list(read(tmp_path / "cow")) == FRAMES[:3]


def test_masks_are_found_at_any_depth_of_a_folder_or_archive(tmp_path):
    for name in ("cow", "dog"):
        for t, frame in enumerate(FRAMES):
            write_palette(tmp_path / "out" / "results" / "480p" / name / f"{frame}.png", ids_of(t))
    (tmp_path / "out/results/notes.txt").write_text("J&F 70")
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        for path in sorted((tmp_path / "out").rglob("*")):
            archive.write(path, path.relative_to(tmp_path))
    for path in (tmp_path / "out", tmp_path / "out.zip"):
        with opened(path, tmp_path / "work/out.json") as folder:
            places = find_masks(folder, ["dog", "cow"])
            assert np.array_equal(read(places["dog"])["00002"], ids_of(2))
    assert not list((tmp_path / "work").iterdir())


def test_masks_that_are_numbered_otherwise_are_taken_in_order(tmp_path):
    """If there is one for every frame, and in the order of numbers: 2.png comes before 10.png."""
    frames = [f"{t:05d}" for t in range(5, 17)]
    for t in range(len(frames)):
        write_palette(tmp_path / "cow" / f"{t}.png", ids_of(t % 4))
    masks = read(tmp_path / "cow", frames)
    assert list(masks) == frames and all(np.array_equal(ids, ids_of(t % 4)) for t, ids in enumerate(masks.values()))


def test_first_and_last_frame_may_be_missing(tmp_path):
    for t in (1, 2):
        write_palette(tmp_path / "cow" / f"{FRAMES[t]}.png", ids_of(t))
    assert list(read(tmp_path / "cow")) == FRAMES[1:3]
    with pytest.raises(Refusal, match="no mask of 00000"):
        read(tmp_path / "cow", scored=FRAMES)  # a server wants all


def damage_size(folder):
    write_palette(folder / "00001.png", ids_of(1)[:, :-1])


def damage_ids(folder):
    write_palette(folder / "00001.png", ids_of(1, objects=3))


def damage_frame(folder):
    (folder / "00001.png").unlink()


def damage_name(folder):
    write_palette(folder / "00009.png", ids_of(1))


def damage_colors(folder):
    Image.fromarray(np.full((*SHAPE, 3), 77, np.uint8)).save(folder / "00001.png")


def damage_bytes(folder):
    (folder / "00001.png").write_bytes((folder / "00001.png").read_bytes()[:-30])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_size, "7x6 pixels"),
        (damage_ids, "object id 3"),
        (damage_frame, "no mask of 00001"),
        (damage_name, "masks of no frame: 00009"),
        (damage_colors, "colors #4d4d4d"),
        (damage_bytes, "damaged PNG"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, damage, said):
    for t, frame in enumerate(FRAMES):
        write_palette(tmp_path / "cow" / f"{frame}.png", ids_of(t))
    damage(tmp_path / "cow")
    with pytest.raises(Refusal, match=said):
        read(tmp_path / "cow")


def test_missing_sequences_and_several_sets_are_refused(tmp_path):
    write_palette(tmp_path / "a" / "cow" / "00000.png", ids_of(0))
    with pytest.raises(Refusal, match="no masks of dog"):
        find_masks(tmp_path, ["cow", "dog"])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with pytest.raises(Refusal, match=r"2 sets of masks \(a, b\)"):
        find_masks(tmp_path, ["cow"])
    with pytest.raises(Refusal, match="no such file"), opened(tmp_path / "c.zip", tmp_path / "out.json"):
        pass


def test_masks_that_are_one_frame_late(tmp_path, capsys):
    """The second frame's mask is the annotation of the first: refused without a first one, else said."""
    for t in (0, 1, 2):
        write_palette(tmp_path / "cow" / f"{FRAMES[t + 1]}.png", ids_of(t))
    with pytest.raises(Refusal, match="is the annotation of the first, and there is no mask of the first"):
        read(tmp_path / "cow")
    write_palette(tmp_path / "cow" / "00000.png", ids_of(0))
    assert len(read(tmp_path / "cow")) == 4 and "numbered one frame late?" in capsys.readouterr().out


def test_what_is_there_instead_is_said(tmp_path):
    (tmp_path / "two_cross").mkdir()
    write_palette(tmp_path / "two_cross/00000.png", ids_of(0))
    with pytest.raises(Refusal, match="did you mean 'two_cross'"):
        find_masks(tmp_path, ["two-cross"])
    (tmp_path / "cow").mkdir()
    Image.fromarray(ids_of(0)).convert("L").save(tmp_path / "cow/00000.jpg")
    with pytest.raises(Refusal, match="JPEG files, which change ids"):
        find_masks(tmp_path, ["cow"])
