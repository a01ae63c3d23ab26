"""Texts, lists of files and pictures: what is unambiguous is read, everything else refused by name."""

import os
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from corrbench.errors import Refusal
from corrbench.images import Known, check_png, read_ids, read_image
from corrbench.reading import list_files, missing_numbers, read_text

JPG = (".jpg", ".jpeg", ".png")


def touch(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"x")


def test_frames_are_ordered_by_their_number(tmp_path):
    touch(tmp_path, "10.jpg", "2.jpg", "1.jpg", "11.jpg")
    assert [p.name for p in list_files(tmp_path, JPG)] == ["1.jpg", "2.jpg", "10.jpg", "11.jpg"]
    touch(folder := tmp_path / "img" if (tmp_path / "img").mkdir() is None else None, "img_9.jpg", "img_10.jpg")
    assert [p.name for p in list_files(folder, JPG)] == ["img_9.jpg", "img_10.jpg"]


def test_litter_of_systems_is_passed_over(tmp_path):
    touch(tmp_path, "00000.jpg", "._00000.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", ".00000.12-ab.tmp.jpg")
    (tmp_path / "__MACOSX").mkdir()
    assert [p.name for p in list_files(tmp_path, JPG)] == ["00000.jpg"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("1.jpg", "00001.jpg"), "have the same number"),
        (("00000.jpg", "00001.jpg", "00002.png"), "files of several kinds: 2 .jpg, 1 .png"),
        (("00000.jpg", "00001.JPG"), "files of several kinds"),
    ],
)
def test_folders_that_may_mean_two_things_are_refused(tmp_path, names, words):
    touch(tmp_path, *names)
    with pytest.raises(Refusal, match=words):
        list_files(tmp_path, JPG)


def test_upper_case_suffixes_are_read(tmp_path):
    touch(tmp_path, "00000.JPG", "00001.JPG")
    assert len(list_files(tmp_path, JPG)) == 2


def test_links_folders_and_pipes_are_refused_by_name(tmp_path):
    for name, make in (
        ("00000.jpg", lambda p: p.symlink_to("/nowhere/x.jpg")),
        ("00001.jpg", lambda p: p.symlink_to(p.name)),
        ("00002.jpg", lambda p: p.mkdir()),
        ("00003.jpg", lambda p: os.mkfifo(p)),
    ):
        folder = tmp_path / name.removesuffix(".jpg")
        folder.mkdir()
        make(folder / name)
        with pytest.raises(Refusal, match=name):
            list_files(folder, JPG)


def test_texts_as_editors_save_them(tmp_path):
    path = tmp_path / "val.txt"
    for data in (b"a\nb\n", b"a\r\nb\r\n", b"\xef\xbb\xbfa\r\nb\r\n"):
        path.write_bytes(data)
        assert read_text(path) == "a\nb\n"
    for data, name in (
        ("a\nb".encode("utf-16"), "UTF-16"),
        (b"a\n# caf\xe9\n", r"not UTF-8 \(line 2\)"),
        ("a".encode("utf-32"), "UTF-32"),
    ):
        path.write_bytes(data)
        with pytest.raises(Refusal, match=rf"val.txt: .*{name}"):
            read_text(path)


def test_gaps_in_numbers():
    assert missing_numbers(["00000", "00001", "00003", "00004"]) == ["00002"]
    assert missing_numbers(["00000", "00005", "00010"]) == [] == missing_numbers(["a", "b", "c"])


@pytest.fixture
def picture(tmp_path):
    """A JPEG of noise and its bytes."""
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    path = tmp_path / "00003.jpg"
    path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    return path, path.read_bytes()


@pytest.mark.parametrize("how", ["half", "ten bytes", "zeros in the middle", "page", "empty"])
def test_jpegs_that_do_not_decode_as_a_whole_are_refused(picture, how):
    path, data = picture
    middle = len(data) // 2
    path.write_bytes(
        {
            "half": data[:middle],
            "ten bytes": data[:-10],
            "zeros in the middle": data[:middle] + bytes(200) + data[middle + 200 :],
            "page": b"<html>login</html>",
            "empty": b"",
        }[how]
    )
    with pytest.raises(Refusal, match=r"00003\.jpg"):
        read_image(path)


def test_pixels_are_those_of_opencv(picture):
    path, _ = picture
    np.testing.assert_array_equal(read_image(path), cv2.imread(str(path)))


def test_an_exif_rotation_is_refused(picture):
    path, _ = picture
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)
    with pytest.raises(Refusal, match="EXIF orientation"):
        read_image(path)


def test_a_file_that_the_doctor_did_not_see_is_refused(picture):
    path, _ = picture
    known = Known(path.parent, {"00003.jpg": "0" * 64}, "inputs")
    with pytest.raises(Refusal, match="another file than the one that was checked"):
        read_image(path, known)
    (path.parent / "00004.jpg").write_bytes(b"")
    with pytest.raises(Refusal, match=r"00004\.jpg: was added or removed"):
        Known(path.parent.parent, {f"{path.parent.name}/00003.jpg": "0" * 64}, "inputs").check_names(
            path.parent, ["00003.jpg", "00004.jpg"], "inputs"
        )


def test_every_flipped_bit_of_a_png_is_noticed(tmp_path):
    path = tmp_path / "m.png"
    Image.fromarray((np.arange(40 * 50).reshape(40, 50) % 3).astype(np.uint8)).save(path)
    data = path.read_bytes()
    for i in range(8, len(data)):
        damaged = bytearray(data)
        damaged[i] ^= 1
        with pytest.raises(Refusal):
            check_png(path, bytes(damaged))


def test_palettes_whose_background_is_elsewhere_are_refused(tmp_path):
    ids = np.zeros((8, 8), np.uint8)
    ids[2:4] = 1
    image = Image.fromarray(ids)
    image.putpalette([128, 0, 0, 0, 0, 0])
    image.save(tmp_path / "m.png")
    with pytest.raises(Refusal, match="index 0 is the color"):
        read_ids(tmp_path / "m.png")
    assert zlib.crc32(ids.tobytes()) == zlib.crc32(np.asarray(Image.open(tmp_path / "m.png")).tobytes())
    image.putpalette([255, 255, 255, 128, 0, 0])  # odd, but it may be meant so: the doctor names it
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_ids(tmp_path / "m.png"), ids)


def test_ids_beyond_a_byte_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 256, np.uint16)).save(tmp_path / "m.png")
    with pytest.raises(Refusal, match="object id 256"):
        read_ids(tmp_path / "m.png")


def test_one_odd_name_among_frames_takes_neither_time_nor_memory():
    assert missing_numbers(["1", "2", "3", "20240101120000"])[:2] == ["4", "5"]
