import cv2
import numpy as np
import pytest
from youtube import write_youtube_vos

from corrbench.benchmarks.registry import benchmark_of
from corrbench.datasets.doctor import diagnose_youtube_vos
from corrbench.datasets.palette import save_mask
from corrbench.datasets.youtube_vos import ANNOTATIONS, FRAMES, SCORED, UNPACKED, YoutubeVos, listed_videos
from corrbench.errors import Refusal
from corrbench.rows import AllRows


@pytest.fixture
def root(tmp_path):
    write_youtube_vos(tmp_path, frames=7)
    return tmp_path


def diagnosis(root):
    return diagnose_youtube_vos(YoutubeVos(root, tuple(listed_videos(root))))


def test_a_healthy_root(root):
    found = diagnosis(root)
    assert found.healthy and [(f.name, f.frames, f.objects, f.doubts) for f in found.findings] == [
        ("first", 4, 1, []),
        ("second", 4, 2, []),
    ]
    assert YoutubeVos(root, ("second",)).video("second").annotations.keys() == {0, 2}


def test_a_blank_first_annotation_starts_nothing(root):
    save_mask(root / ANNOTATIONS / "first/00000.png", np.zeros((48, 48), np.uint8))
    save_mask(root / ANNOTATIONS / "first/00002.png", np.ones((48, 48), np.uint8))
    found = diagnosis(root)
    assert found.healthy and found.findings[0].frames == 3  # of the scored 0, 2, 4, 6


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / SCORED / "second/00002.jpg").unlink(), "annotated but not among the scored frames: 00002"),
        (lambda root: (root / FRAMES / "first/00002.jpg").unlink(), "scored frames that are none of its 6 frames: 00002"),
        (lambda root: (root / FRAMES / "first/00003.jpg").write_bytes(b"no image"), "00003.jpg"),
        (lambda root: save_mask(root / ANNOTATIONS / "first/00000.png", np.ones((9, 9), np.uint8)), "annotation 00000.png is 9x9"),
        (lambda root: save_mask(root / ANNOTATIONS / "first/00000.png", np.zeros((48, 48), np.uint8)), "no object"),
        (lambda root: cv2.imwrite(str(root / FRAMES / "first/00003.jpg"), np.zeros((9, 9, 3), np.uint8)), "00003.jpg is 9x9"),
    ],
)  # fmt: skip
def test_the_doctor_names_what_is_wrong(root, damage, message):
    damage(root)
    with pytest.raises(Refusal, match=message):
        diagnosis(root).refuse_if_ill()


def test_odd_gaps_are_shown_and_not_refused(root):
    (root / SCORED / "first/00002.jpg").unlink()
    found = diagnosis(root)
    assert found.healthy and any("look at first: scored frames 2 to 4 apart" in line for line in found.lines())


def test_the_official_archive_unpacks_at_the_root(root):
    """valid_all_frames/ directly below the root; Mask-Propagation has a folder all_frames/ above it."""
    before = [p.name for p in YoutubeVos(root, ("second",)).video("second").images]
    (root / "all_frames/valid_all_frames").rename(root / "valid_all_frames")
    (root / "all_frames").rmdir()
    found = YoutubeVos(root, ("second",)).video("second")
    assert [p.name for p in found.images] == before and diagnosis(root).healthy
    row = AllRows([]).benchmarks.get("ytvos2019-val", "test")
    assert f"{UNPACKED}/second/00003.jpg" in benchmark_of(row).files(root, ("second",), "inputs")
    (root / UNPACKED / "second/00002.jpg").unlink()
    with pytest.raises(Refusal, match="none of its 6 frames"):
        YoutubeVos(root, ("second",)).video("second")
