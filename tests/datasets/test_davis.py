"""DAVIS layouts, the synthetic writer and the doctor."""

import hashlib
import shutil
import stat
from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import ROOT, TINY, TINY_ROW
from PIL import Image

from corrbench.datasets.benchmark import settings_by_hand
from corrbench.datasets.davis import Davis, open_davis, read_annotation, read_image
from corrbench.datasets.doctor import diagnose
from corrbench.datasets.palette import PALETTE, save_mask
from corrbench.datasets.synthetic import sequence_frames, write_davis
from corrbench.errors import Refusal
from corrbench.metrics.davis import evaluate
from corrbench.rows import Rows


def examine(davis, subset=False):
    return diagnose(davis, TINY_ROW, subset=subset)


def test_healthy_data(tiny_davis):
    diagnosis = examine(tiny_davis)
    assert diagnosis.healthy, diagnosis.lines()
    assert [f.objects for f in diagnosis.findings] == [3, 1]
    assert diagnosis.lines()[-1].strip() == "nothing is wrong"


def drop_image(davis):
    davis.sequence("one").images[2].unlink()


def drop_sequence(davis):
    shutil.rmtree(davis.root / "JPEGImages/480p/one")


def break_image(davis):
    davis.sequence("one").images[2].write_bytes(b"x")


def break_annotation(davis):
    davis.sequence("one").annotations[2].write_bytes(b"x")


def resize_image(davis):
    cv2.imwrite(str(davis.sequence("one").images[2]), np.zeros((40, 80, 3), np.uint8))


def resize_annotation(davis):
    save_mask(davis.sequence("one").annotations[2], np.zeros((40, 80), np.uint8))


def empty_first(davis):
    save_mask(davis.sequence("one").annotations[0], np.zeros((48, 80), np.uint8))


def color_annotation(davis):
    Image.fromarray(np.zeros((48, 80, 3), np.uint8)).save(davis.sequence("one").annotations[2])


def unlist(davis):
    davis.image_set.write_text("three\n")


def no_list(davis):
    davis.image_set.unlink()


def shorten(davis):
    sequence = davis.sequence("one")
    for path in (*sequence.images[2:], *sequence.annotations[2:]):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_image, "5 images and 6 annotations; without partner: 00002"),
        (drop_sequence, "1 of 2 sequences are missing below .*480p: one"),
        (break_image, "00002.jpg: unreadable image"),
        (break_annotation, "00002.png: unreadable mask"),
        (resize_image, "00002.jpg is 80x40, the first frame 80x48"),
        (resize_annotation, "annotation 00002.png is 80x40, the images 80x48"),
        (empty_first, "no object in the first frame"),
        (color_annotation, "3 channels"),
        (unlist, "does not list one"),
        (no_list, "val.txt: missing"),
    ],
)
def test_the_doctor_names_what_is_wrong(tiny_davis, damage, message):
    damage(tiny_davis)
    diagnosis = examine(tiny_davis)
    assert not diagnosis.healthy
    with pytest.raises(Refusal, match=message) as refusal:
        diagnosis.refuse_if_ill()
    assert "what to do" in str(refusal.value)


def test_counts_of_the_split_are_checked_unless_a_subset_is_named(tiny_davis):
    part = Davis(tiny_davis.root, 2017, "val", "480p", ("three",))
    with pytest.raises(Refusal, match="6 frames in all, the split has 12"):
        examine(part).refuse_if_ill()
    assert examine(part, subset=True).healthy


def test_two_frames_are_too_few(tiny_davis):
    shorten(tiny_davis)
    with pytest.raises(Refusal, match="2 frames; the metric drops the first and the last"):
        examine(tiny_davis, subset=True).refuse_if_ill()


def test_fingerprints_follow_the_content(tiny_davis):
    before = examine(tiny_davis)
    for path in tiny_davis.root.rglob("*"):
        path.touch()
    assert examine(tiny_davis).fingerprint("inputs") == before.fingerprint("inputs")
    annotation = tiny_davis.sequence("one").annotations[3]
    save_mask(annotation, 1 - read_annotation(annotation))
    after = examine(tiny_davis)
    assert after.fingerprint("inputs") == before.fingerprint("inputs"), "propagation does not read later annotations"
    assert after.fingerprint("annotations") != before.fingerprint("annotations")


def test_layout_of_2016(tmp_path, tiny_davis):
    """One object as 0/255 gray, a list of pairs per frame."""
    root = tmp_path / "2016"
    shutil.copytree(tiny_davis.root, root)
    (root / "ImageSets/480p").mkdir()
    lines = []
    for name in ("three", "one"):
        for path in sorted((root / "Annotations/480p" / name).glob("*.png")):
            Image.fromarray(((read_annotation(path) > 0) * 255).astype(np.uint8)).save(path)
            lines.append(f"/JPEGImages/480p/{name}/{path.stem}.jpg /Annotations/480p/{name}/{path.name}")
    (root / "ImageSets/480p/val.txt").write_text("\n".join(lines))
    row = {**TINY_ROW, "year": 2016, "scoring": "single-object", "objects": 2}
    davis = open_davis(root, row, ["three", "one"])
    assert davis.listed() == ["three", "one"]
    assert diagnose(davis, row, subset=False).healthy
    assert set(np.unique(read_annotation(davis.sequence("three").annotations[0], single_object=True))) == {0, 1}


def test_test_dev_has_one_annotation(tiny_davis):
    for name in tiny_davis.sequences:
        for path in tiny_davis.sequence(name).annotations[1:]:
            path.unlink()
    davis = Davis(tiny_davis.root, 2017, "val", "480p", tiny_davis.sequences, annotated=False)
    assert diagnose(davis, {**TINY_ROW, "scoring": "server"}, subset=False).healthy
    with pytest.raises(Refusal, match="6 images and 1 annotations"):
        tiny_davis.sequence("one")


def test_a_missing_root_says_what_to_do(tmp_path):
    with pytest.raises(Refusal, match=r"no such folder[\s\S]*`data:`"):
        Davis(tmp_path / "nowhere", 2017, "val", "480p", ()).listed()


def test_the_data_root_is_never_written_to(tiny_davis):
    paths = [tiny_davis.root, *(p for p in tiny_davis.root.rglob("*") if p.is_dir())]
    before = sorted(p.relative_to(tiny_davis.root) for p in tiny_davis.root.rglob("*"))
    for path in paths:
        path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        examine(tiny_davis)
        read_image(tiny_davis.sequence("one").images[0])
    finally:
        for path in paths:
            path.chmod(0o755)
    assert sorted(p.relative_to(tiny_davis.root) for p in tiny_davis.root.rglob("*")) == before


def test_synthetic_data_is_deterministic_and_has_what_it_promises(tmp_path):
    def tree(root):
        return hashlib.sha256(b"".join(p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file())).hexdigest()

    for name in ("a", "b"):
        write_davis(tmp_path / name, ["x", "y"], split="val", **TINY)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    pairs = sequence_frames(0, frames=18, height=180, width=320, objects=3)
    areas = np.array([[(ids == i).sum() for i in (1, 2, 3)] for _, ids in pairs])
    assert (areas[0] > 500).all(), "three objects in the first frame"
    assert areas[-1, 2] == 0, "the last object leaves"
    assert areas[:, :2].min() < 0.8 * areas[0, :2].min(), "one is occluded or shrinks"
    assert (areas[-1, :2] > 0).all()


def test_ids_beyond_8_bits_are_refused(tmp_path):
    Image.fromarray(np.array([[0, 257]], np.uint16)).save(tmp_path / "m.png")
    with pytest.raises(Refusal, match="object id 257"):
        read_annotation(tmp_path / "m.png")


def test_fingerprint_knows_how_ids_are_read(tiny_davis):
    single = diagnose(tiny_davis, {**TINY_ROW, "scoring": "single-object"}, subset=True)
    assert single.fingerprint("inputs") != examine(tiny_davis).fingerprint("inputs")


def test_palette():
    assert len(PALETTE) == 256
    assert (
        tuple(PALETTE[1]) == (128, 0, 0) and tuple(PALETTE[9]) == (191, 0, 0) and tuple(PALETTE[200]) == (200, 200, 200)
    )


def test_masks_are_palette_images(tmp_path):
    ids = np.arange(6, dtype=np.uint8).reshape(2, 3)
    save_mask(tmp_path / "m.png", ids)
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "P" and np.array_equal(np.array(image), ids)
        assert image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


@pytest.mark.realdata
def test_real_parts_of_davis_2016(shared):
    settings = settings_by_hand("davis2016-val", shared / "DAVIS-2016", subset=True)
    row = settings["row"]
    davis = open_davis(shared / "DAVIS-2016", row, settings["sequences"])
    diagnosis = diagnose(davis, row, subset=True, workers=2)
    assert diagnosis.healthy, diagnosis.lines()
    assert (len(diagnosis.findings), sum(f.frames for f in diagnosis.findings)) == (8, 372)
    assert {f.size for f in diagnosis.findings} == {(480, 854)}
    assert settings["label"] == "davis2016-val (8 of 20)"
    names = Rows([ROOT / "config"], "benchmarks", "benchmark").get("davis2016-val", "here")["sequences"]
    whole = open_davis(shared / "DAVIS-2016", row, names)
    with pytest.raises(Refusal, match="bmx-trees"):
        diagnose(whole, row, subset=False, workers=2).refuse_if_ill()


@pytest.mark.parametrize("how", ["gray", "gap", "smoothed"])
def test_ids_that_are_not_counted_from_one_are_refused(how, tiny_davis, tmp_path):
    path = tiny_davis.root / "Annotations/480p/three/00000.png"
    ids = read_annotation(path)
    wrong = {
        "gray": np.array([0, 38, 75, 113], np.uint8)[ids],
        "gap": np.where(ids == 2, 5, ids),
        "smoothed": cv2.resize(cv2.resize(ids * 40, (40, 24)), (80, 48)),
    }[how]
    Image.fromarray(wrong).save(path)
    masks = tmp_path / "masks"
    for name in tiny_davis.sequences:
        (masks / name).mkdir(parents=True)
        for annotation in tiny_davis.sequence(name).annotations:
            save_mask(masks / name / annotation.name, np.zeros_like(ids))
    assert "00000.png: the ids" in str(diagnose(tiny_davis, dict(TINY_ROW), subset=True).wrong())
    with pytest.raises(Refusal, match="the ids"):
        evaluate(tiny_davis, masks)
    gaps = replace(tiny_davis, id_gaps=("three",))  # as a row says that knows its data set
    assert not diagnose(gaps, dict(TINY_ROW), subset=True).wrong() or how == "smoothed"


def test_the_doctor_names_what_may_be_right(tiny_davis):
    folder = tiny_davis.root / "Annotations/480p/one"
    ids = read_annotation(folder / "00003.png")
    ids[:4, :4] = 2
    save_mask(folder / "00003.png", ids)
    for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        (tiny_davis.root / kind / f"480p/three/00002.{suffix}").unlink()
    report = "\n".join(diagnose(tiny_davis, dict(TINY_ROW), subset=True).lines())
    assert "look at one: object 2 first appears in 00003.png" in report
    assert "look at three: frame numbers leave out 00002" in report and "2 points to look at" in report


def test_a_sequence_of_two_frames_is_not_scored(tiny_davis, tmp_path):
    for kind in ("JPEGImages", "Annotations"):
        for path in (tiny_davis.root / kind / "480p/one").iterdir():
            if int(path.stem) > 1:
                path.unlink()
    for name in tiny_davis.sequences:
        shutil.copytree(tiny_davis.root / "Annotations/480p" / name, tmp_path / "masks" / name)
    with pytest.raises(Refusal, match="one: 2 annotated frames"):
        evaluate(tiny_davis, tmp_path / "masks")


def test_another_davis_is_named(tmp_path):
    (tmp_path / "ImageSets/480p").mkdir(parents=True)
    davis = open_davis(tmp_path, dict(TINY_ROW), ["one"])
    with pytest.raises(Refusal, match="this is DAVIS-2016"):
        davis.listed()
    (tmp_path / "ImageSets/480p").rename(tmp_path / "ImageSets/2017")
    (tmp_path / "JPEGImages/Full-Resolution").mkdir(parents=True)
    with pytest.raises(Refusal, match="Full-Resolution"):
        davis.sequence("one")


def test_later_annotations_of_0_and_255_are_wrong(tiny_davis):
    path = tiny_davis.sequence("three").annotations[3]
    save_mask(path, np.where(read_annotation(path) > 0, 255, 0).astype(np.uint8))
    assert "00003.png holds 255 (void) and no object" in str(examine(tiny_davis).wrong())


def test_void_beside_objects_is_named(tiny_davis):
    path = tiny_davis.sequence("three").annotations[3]
    ids = read_annotation(path)
    ids[:2, :2] = 255
    save_mask(path, ids)
    diagnosis = examine(tiny_davis)
    assert diagnosis.healthy and "1 annotations after the first hold 255" in str(diagnosis.lines())


def test_frames_that_do_not_begin_at_0_are_named(tiny_davis):
    for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        for t in range(2):
            (tiny_davis.root / kind / f"480p/one/{t:05d}.{suffix}").unlink()
    assert "look at one: the first frame is 00002" in str(examine(tiny_davis, subset=True).lines())


def test_soft_masks_of_one_object_are_refused(tiny_davis, tmp_path):
    davis = replace(tiny_davis, sequences=("one",))
    for path in davis.sequence("one").annotations:
        mask = (read_annotation(path, single_object=True) * 255).astype(np.uint8)
        (tmp_path / "soft/one").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "soft/one" / path.name), cv2.GaussianBlur(mask, (9, 9), 2))
    with pytest.raises(Refusal, match=r"values from 0 to \d+\n.*\n.*threshold the masks"):
        evaluate(davis, tmp_path / "soft", single_object=True)


def test_another_edition_is_said_before_anything_else(tiny_davis):
    sets = tiny_davis.root / "ImageSets"
    (sets / "2017").rename(sets / "480p")
    with pytest.raises(Refusal, match="this is DAVIS-2016") as refused:
        examine(tiny_davis)
    assert len(str(refused.value).splitlines()) == 3
    inside = replace(tiny_davis, root=tiny_davis.root / "JPEGImages")
    with pytest.raises(Refusal, match="the root is the folder above: "):
        examine(inside)
