import numpy as np
import pytest
from PIL import Image

from corrbench.datasets.clips import ClipReader, build_clip_index, link_roots
from corrbench.datasets.synthetic import write_clips
from corrbench.errors import Refusal
from corrbench.rows import AllRows

CLIPS = [{"images": "JPEGImages/480p/*", "replace": ["JPEGImages", "Annotations"], "spacing": 1, "repeat": 1}]
STATIC = [{"images": "*.jpg", "replace": ["", ""], "spacing": 1, "repeat": 1}]


@pytest.fixture
def root(tmp_path):
    write_clips(tmp_path / "data", videos=2, frames=4, height=48, width=64)
    return tmp_path / "data"


def reader(root, parts=CLIPS):
    out = root.parent / "out"
    return ClipReader(out, build_clip_index(parts, {"own": root}, "own", out))


def clip(root, kind="Annotations"):
    return sorted((root / kind / "480p").iterdir())[0]


def test_a_mixture_counts_its_parts(root):
    more = {**CLIPS[0], "data": "other", "repeat": 3}
    index = build_clip_index([*CLIPS, more], {"own": root, "other": root}, "own", root.parent / "out")
    assert len(index.videos) == 2 + 3 * 2 and {v.images.split("/")[0] for v in index.videos} == {"own", "other"}


def test_a_root_that_moved_is_followed(root):
    found = reader(root)
    before = np.array(found.read(0, 1)[0])
    root.rename(root.parent / "elsewhere")
    link_roots(found.root, {"own": root.parent / "elsewhere"})
    link_roots(found.root, {"own": root.parent / "elsewhere"})
    np.testing.assert_array_equal(np.array(found.read(0, 1)[0]), before)
    assert [p.name for p in found.root.iterdir()] == ["own"]


def test_a_glob_that_ends_too_early_is_refused(root):
    with pytest.raises(Refusal, match=r"480p: a folder without images, with 2 folders[\s\S]*JPEGImages/480p/\*"):
        reader(root, [{**CLIPS[0], "images": "JPEGImages/*"}])


def test_masks_belong_to_images_by_name(root):
    mask = sorted(clip(root).iterdir())[1]
    mask.rename(mask.with_name("zzz.png"))
    with pytest.raises(Refusal, match="1 of 2 without a mask for every image"):
        reader(root)


def test_a_clip_that_became_shorter_is_refused(root):
    found = reader(root)
    for path in sorted(clip(root, "JPEGImages").iterdir())[2:]:
        path.unlink()
    with pytest.raises(Refusal, match="2 images, number 3 is asked for"):
        found.read(0, 3)


def test_a_clip_that_is_gone_is_refused(root):
    found = reader(root)
    clip(root, "JPEGImages").rename(root / "gone")
    with pytest.raises(Refusal, match="0 images"):
        found.read(0, 0)


def test_a_static_mask_of_ids_is_refused(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    Image.new("RGB", (32, 24)).save(root / "a.jpg")
    mask = np.zeros((24, 32), np.uint8)
    mask[4:9] = 1
    for value in (1, 255):
        Image.fromarray(mask * value).save(root / "a.png")
        if value == 1:
            with pytest.raises(Refusal, match="no gray value above 1, which is background"):
                reader(root, STATIC).read(0, 0)
    assert np.array(reader(root, STATIC).read(0, 0)[1]).max() == 255


def test_an_id_of_16_bits_is_refused(root):
    found = reader(root)
    mask = sorted(clip(root).iterdir())[0]
    Image.fromarray(np.full((48, 64), 256, np.uint16)).save(mask)
    with pytest.raises(Refusal, match=r"00000.png: object id 256"):
        found.read(0, 0)


def test_a_static_mask_of_16_bits_is_refused(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    Image.new("RGB", (32, 24)).save(root / "a.jpg")
    Image.fromarray(np.full((24, 32), 65535, np.uint16)).save(root / "a.png")
    with pytest.raises(Refusal, match=r"a.png: a gray value of 65535"):
        reader(root, STATIC).read(0, 0)


@pytest.mark.parametrize("file", ["JPEGImages", "Annotations"])
def test_a_cut_file_of_a_clip_is_refused(root, file):
    found = reader(root)
    path = sorted(clip(root, file).iterdir())[1]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(Refusal, match=rf"{path.name}: (a damaged|unreadable)"):
        found.read(0, 1)


def test_frames_count_by_number_and_litter_does_not(root):
    images, masks = clip(root, "JPEGImages"), clip(root)
    for folder, suffix in ((images, ".jpg"), (masks, ".png")):
        for i, number in reversed(list(enumerate((9, 10, 100, 101)))):
            (folder / f"{i:05d}{suffix}").rename(folder / f"{number}{suffix}")
        (folder / f"._9{suffix}").write_bytes(b"litter")
        (folder.parent / ".DS_Store").write_bytes(b"litter")
    found = reader(root)
    assert len(found.index.videos) == 2
    with Image.open(masks / "100.png") as third:
        np.testing.assert_array_equal(np.array(found.read(0, 2)[1]), np.array(third))


def test_lists_are_read_as_text(root):
    names = sorted(p.name for p in (root / "JPEGImages/480p").iterdir())
    part = {**CLIPS[0], "list": "list.txt"}
    (root / "list.txt").write_bytes(b"\xef\xbb\xbf" + names[0].encode() + b"\r\n")
    assert len(reader(root, [part]).index.videos) == 1
    (root / "list.txt").write_text(f"{names[0]}\nabsent\n")
    with pytest.raises(Refusal, match=r"1 of 2 clips of list.txt are missing: absent"):
        reader(root, [part])
    (root / "list.txt").write_text(names[0], encoding="utf-16")
    with pytest.raises(Refusal, match="encoded as UTF-16"):
        reader(root, [part])


def test_a_link_replaces_no_folder_of_others(root):
    (root.parent / "out/own").mkdir(parents=True)
    with pytest.raises(Refusal, match="own: no link"):
        reader(root)


@pytest.mark.parametrize("place", ["", "BL30K_a", "data/BL30K_a"])
def test_clips_lie_at_the_root_or_below_a_folder_for_each_archive(root, place):
    """As the row bl30k has it: of several globs the first that anything fits counts."""
    part = AllRows([]).datasets.get("bl30k", "test")["videos"]["parts"][0]
    whole = root.parent / "whole"
    for kind in ("JPEGImages", "Annotations"):
        (whole / place).mkdir(parents=True, exist_ok=True)
        (root / kind / "480p").rename(whole / place / kind)
    index = build_clip_index([part], {"own": whole}, "own", root.parent / "out")
    assert len(index.videos) == 2 and all(f"{place}/JPEGImages/".lstrip("/") in v.images for v in index.videos)
    assert all("Annotations/" in v.masks for v in index.videos)
