import json

import numpy as np
import pytest
from conftest import ROOT, SHARED

from corrbench.datasets.doctor import diagnose_otb
from corrbench.datasets.otb import open_otb, read_truth
from corrbench.datasets.synthetic_tracks import write_otb
from corrbench.errors import Refusal
from corrbench.rows import Rows


@pytest.fixture
def root(tmp_path):
    write_otb(tmp_path, ["a", "b", "c"], frames=6, height=64, width=96)
    return tmp_path


def row():
    return Rows([ROOT / "config"], "benchmarks", "benchmark").get("otb100", "test")


def test_the_row_is_the_hundred_targets():
    names = row()["sequences"]
    assert len(names) == len(set(names)) == 100 and set(row()["lengths"]) == set(names)
    assert sum(row()["lengths"].values()) == row()["frames"] == 59040


def test_the_names_are_the_toolkits():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from got10k.datasets import OTB
    # as folders, because the toolkit finds several targets of one only when it sees the files
    assert sorted({name.split(".")[0] for name in row()["sequences"]}) == sorted(OTB._OTB__tb100_seqs)


@pytest.mark.parametrize("text", ["1,2,3,4\n5,6,7,8\n", "1\t2\t3\t4\n5\t6\t7\t8", " 1  2 3 4 \n\n5 6 7 8\n"])
def test_delimiters(tmp_path, text):
    (tmp_path / "g.txt").write_text(text)
    np.testing.assert_array_equal(read_truth(tmp_path / "g.txt"), [[1, 2, 3, 4], [5, 6, 7, 8]])


def test_a_line_that_is_no_box(tmp_path):
    (tmp_path / "g.txt").write_text("1,2,3,4\n1,2,3\n")
    with pytest.raises(Refusal, match=r"line 2 is '1,2,3'"):
        read_truth(tmp_path / "g.txt")


def test_a_part_of_the_images(root):
    images = open_otb(root, {"ranges": {"a": [3, 5]}}, ["a"])
    annotation = root / "a/groundtruth_rect.txt"
    annotation.write_text("\n".join(annotation.read_text().splitlines()[:3]))
    assert [p.name for p in images.track("a").images] == ["0003.jpg", "0004.jpg", "0005.jpg"]
    with pytest.raises(Refusal, match="6 images"):
        open_otb(root, {"ranges": {"a": [3, 9]}}, ["a"]).track("a")


def test_two_targets_and_an_empty_annotation(root):
    text = (root / "a/groundtruth_rect.txt").read_text()
    (root / "a/groundtruth_rect.txt").unlink()
    for i in (1, 2):
        (root / f"a/groundtruth_rect.{i}.txt").write_text(text)
    both = open_otb(root, {}, ["a.1", "a.2"])
    assert both.annotation("a.2").name == "groundtruth_rect.2.txt"
    with pytest.raises(Refusal, match=r"a\.1 or a\.2"):
        both.annotation("a")
    (root / "a/groundtruth_rect.1.txt").write_text("")  # as in Human4: no target, so the name stays plain
    assert both.annotation("a").name == "groundtruth_rect.2.txt"
    with pytest.raises(Refusal, match=r"expected: a\n"):
        both.annotation("a.2")


def test_refusals(root):
    otb = open_otb(root, {"lengths": {"a": 7}}, ["a"])
    with pytest.raises(Refusal, match=r"a: 6 boxes in groundtruth_rect.txt, 6 images.*\s.*expected: 7 of each"):
        otb.track("a")
    short = root / "b/groundtruth_rect.txt"
    short.write_text("\n".join(short.read_text().splitlines()[:4]))
    with pytest.raises(Refusal, match="b: 4 boxes"):
        otb.track("b")
    (root / "b/groundtruth_rect.txt").write_text(" \n")
    with pytest.raises(Refusal, match="none with boxes"):
        otb.track("b")
    with pytest.raises(Refusal, match="did you mean 'c'|names count by case"):
        otb.track("C")


def test_the_doctor_names_what_is_wrong(root):
    (root / "a/img/0002.jpg").unlink()
    (root / "b/img/0002.jpg").write_bytes(b"no image")
    lines = (root / "c/groundtruth_rect.txt").read_text().splitlines()
    (root / "c/groundtruth_rect.txt").write_text("\n".join(["5 5 0 0", *lines[1:]]))
    found = diagnose_otb(open_otb(root, {}, ["a", "b", "c", "d"]), {"frames": 24}, subset=False)
    said = "\n".join(found.wrong())
    for part in ("5 images", "0002.jpg: unreadable", "without area", "d: missing", "in all, the split has 24"):
        assert part in said, said
    assert len(found.wrong(2)) == 3 and found.wrong(2)[-1].startswith("and 3 more")
    with pytest.raises(Refusal, match="without area"):
        found.refuse_if_ill()


def test_fingerprints_follow_what_is_read(root):
    def prints():
        found = diagnose_otb(open_otb(root, {}, ["a", "b"]), {}, subset=True)
        return found.fingerprint("inputs"), found.fingerprint("annotations")

    before = prints()
    path = root / "a/groundtruth_rect.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], "1 1 9 9"]))
    after = prints()
    assert after[0] == before[0] and after[1] != before[1]  # the last box: only the metric reads it
    (root / "a/img/0003.jpg").write_bytes((root / "a/img/0002.jpg").read_bytes())
    assert prints()[0] != after[0]


@pytest.mark.realdata
def test_real_targets(tmp_path):
    otb = open_otb(SHARED / "OTB", {"lengths": {**row()["lengths"], "Car4": 250}}, ["Car4", "Jogging.1", "Jogging.2"])
    assert [len(otb.track(n).images) for n in otb.sequences] == [250, 307, 307]
    assert json.dumps(otb.track("Jogging.1").boxes[0].tolist()) != json.dumps(otb.track("Jogging.2").boxes[0].tolist())


def test_the_doctors_record_fits_a_target_that_uses_a_part_of_the_images(root):
    """As David of OTB-100 does: what lies outside its range is nobody's."""
    annotation, settings = root / "a/groundtruth_rect.txt", {"ranges": {"a": [3, 5]}}
    annotation.write_text("\n".join(annotation.read_text().splitlines()[:3]))
    diagnosis = diagnose_otb(open_otb(root, settings, ["a"]), row(), subset=True)
    assert diagnosis.healthy
    record = {"files": diagnosis.files("inputs"), "kind": "inputs"}
    assert open_otb(root, settings, ["a"], record).track("a").image(0).shape == (64, 96, 3)
    (root / "a/img/0004.jpg").unlink()
    with pytest.raises(Refusal):
        open_otb(root, settings, ["a"], record).track("a")


def test_a_number_that_is_missing_between_commas(tmp_path):
    for text in ("1,,2,3,4", "1,2,,4", ",1,2,3"):
        (tmp_path / "g.txt").write_text(text)
        with pytest.raises(Refusal, match="line 1"):
            read_truth(tmp_path / "g.txt")
    (tmp_path / "g.txt").write_text("1, 2,\t3 ,4,\n")
    np.testing.assert_array_equal(read_truth(tmp_path / "g.txt"), [[1, 2, 3, 4]])
