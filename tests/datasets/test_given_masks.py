"""Masks that others made: every layout, and what is refused of them."""

import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from corrbench.datasets.given_masks import find_masks, opened, read_sequence
from corrbench.datasets.palette import PALETTE, save_mask
from corrbench.errors import Refusal

FRAMES = ["00000", "00001", "00002", "00003"]
SHAPE = (6, 8)


def ids_of(t, objects=2):
    ids = np.zeros(SHAPE, np.uint8)
    for k in range(1, objects + 1):
        ids[k : k + 2, t : t + 3] = k
    return ids


def read(folder, frames=FRAMES, objects=2, scored=FRAMES[1:-1]):
    return dict(read_sequence(folder, frames, shape=SHAPE, objects=objects, scored=scored))


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


def test_a_single_object_may_be_soft_gray(tmp_path):
    """From 128 on it is the object; 0 and 255, or 0 and 1, are taken as they are."""
    soft = np.linspace(0, 255, SHAPE[0] * SHAPE[1]).astype(np.uint8).reshape(SHAPE)
    for frame, values in zip(FRAMES, (soft, (soft >= 128) * np.uint8(255), (soft >= 128) * np.uint8(1), soft), strict=True):  # fmt: skip
        write_gray(tmp_path / "cow" / f"{frame}.png", values)
    for ids in read(tmp_path / "cow", objects=1).values():
        assert np.array_equal(ids, soft >= 128)


def test_masks_are_found_at_any_depth_of_a_folder_or_archive(tmp_path):
    for name in ("cow", "dog"):
        for t, frame in enumerate(FRAMES):
            write_palette(tmp_path / "out" / "results" / "480p" / name / f"{frame}.png", ids_of(t))
    (tmp_path / "out/results/notes.txt").write_text("J&F 70")
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        for path in sorted((tmp_path / "out").rglob("*")):
            archive.write(path, path.relative_to(tmp_path))
    for path in (tmp_path / "out", tmp_path / "out.zip"):
        with opened(path, tmp_path / "work") as folder:
            places = find_masks(folder, ["dog", "cow"])
            assert np.array_equal(read(places["dog"])["00002"], ids_of(2))
    assert not list((tmp_path / "work").iterdir())


def test_masks_that_are_numbered_otherwise_are_taken_in_order(tmp_path):
    """If there is one for every frame, and in the order of numbers: 2.png comes before 10.png."""
    frames = [f"{t:05d}" for t in range(5, 17)]
    for t in range(len(frames)):
        write_palette(tmp_path / "cow" / f"{t}.png", ids_of(t % 4))
    masks = read(tmp_path / "cow", frames, scored=frames[1:-1])
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
    with pytest.raises(Refusal, match="no such file"), opened(tmp_path / "c.zip", tmp_path):
        pass
