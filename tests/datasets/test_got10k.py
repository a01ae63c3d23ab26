import numpy as np
import pytest
from conftest import SHARED

from corrbench.datasets.got10k import TrackIndex, TrackReader, build_track_index, draw_pair, epoch_pairs, usable_frames
from corrbench.datasets.synthetic_tracks import write_got10k
from corrbench.errors import Refusal


@pytest.fixture
def root(tmp_path):
    write_got10k(tmp_path, videos=3, frames=6, height=120, width=160)
    return tmp_path


def index_of(*frames):
    """An index of sequences with these usable frames."""
    starts = np.cumsum([0, *map(len, frames)])
    return TrackIndex(
        tuple("abcdef"[: len(frames)]),
        starts,
        np.concatenate(frames).astype(np.int32),
        np.ones((starts[-1], 4), np.float32),
    )


def test_the_filter_is_the_references():
    def keeps(w, h, cover=8, most=8):
        boxes = np.array([[0, 0, w, h], [0, 0, 50, 50]], float)
        return bool(usable_frames(boxes, np.array([cover, most]), width=1000, height=800)[0])

    assert keeps(50, 50) and keeps(20, 20) and not keeps(19.9, 30)
    assert keeps(400, 150) and not keeps(501, 400)
    assert keeps(399, 400) and not keeps(300, 401)  # more than half the height
    assert keeps(20, 80) and not keeps(20, 81)  # a quarter as wide as high
    assert keeps(50, 50, cover=3) and not keeps(50, 50, cover=2)  # above 0.3 x 8
    assert not keeps(50, 50, cover=1, most=1)  # never at most 1


def test_two_usable_frames_are_the_pair():
    rng = np.random.default_rng(0)
    assert draw_pair(index_of([3, 900]), 0, rng) == (3, 900)


def test_pairs_are_ordered_and_near():
    rng = np.random.default_rng(0)
    index = index_of(list(range(0, 400, 10)))
    for _ in range(200):
        a, b = draw_pair(index, 0, rng)
        assert a < b < a + 100
    a, b = draw_pair(index_of([0, 200, 400]), 0, rng)  # none are near: one frame twice
    assert a == b


def test_every_sequence_once_and_unusable_ones_replaced():
    index = index_of([1, 2, 3], [5], [7, 8])
    for seed in range(5):
        drawn = epoch_pairs(index, np.random.default_rng(seed), per_sequence=1)[:, 0].tolist()
        assert len(drawn) == 3 and {0, 2} <= set(drawn) and 1 not in drawn
    assert len(epoch_pairs(index, np.random.default_rng(0), per_sequence=4)) == 12


def test_the_index_survives_its_file(root):
    index = build_track_index(root)
    index = TrackIndex((*index.names, "empty"), np.append(index.starts, index.starts[-1]), index.frames, index.boxes)
    index.write(root / "index.csv")
    again = TrackIndex.read(root / "index.csv")
    assert again.names == index.names and again.fingerprint == index.fingerprint
    np.testing.assert_array_equal(again.box(1, int(again.kept(1)[2])), index.boxes[index.starts[1] + 2])


def test_refusals(root):
    folder = root / "train/GOT-10k_Train_000002"
    (folder / "00000003.jpg").unlink()
    with pytest.raises(Refusal, match=r"1 of 3 sequences.*000002: 5 images, 6 boxes, 6 cover values"):
        build_track_index(root)
    with pytest.raises(Refusal, match=r"00000003.jpg: missing"):
        TrackReader(root, index_of([0])).read(0, 2)
    (folder / "cover.label").write_text("0\n" * 6)
    (folder / "groundtruth.txt").unlink()
    with pytest.raises(Refusal, match=r"groundtruth.txt not found"):
        build_track_index(root)
    (root / "train/list.txt").unlink()
    with pytest.raises(Refusal, match=r"list.txt: missing"):
        build_track_index(root)


def test_a_part_is_no_whole(root):
    with pytest.raises(Refusal, match="3 sequences"):
        build_track_index(root, count=9335)
    assert len(build_track_index(root, count=3).names) == 3


def test_nothing_usable_is_refused(root):
    for folder in (root / "train").glob("GOT*"):
        (folder / "cover.label").write_text("0\n" * 6)
    with pytest.raises(Refusal, match="no sequence with two usable frames"):
        build_track_index(root)


@pytest.mark.parametrize("value", ["nan", "inf", "1e308"])
def test_boxes_that_are_no_numbers_are_refused(root, value):
    path = root / "train/GOT-10k_Train_000002/groundtruth.txt"
    lines = path.read_text().splitlines()
    lines[2] = f"{value},1,30,30"
    path.write_text("\n".join(lines))
    with pytest.raises(Refusal, match=r"000002: line 3 of groundtruth.txt or cover.label is not finite"):
        build_track_index(root)


def test_litter_and_encodings_of_lists(root):
    before = build_track_index(root).fingerprint
    folder, listing = root / "train/GOT-10k_Train_000001", root / "train/list.txt"
    (folder / "._00000001.jpg").write_bytes(b"litter")
    (folder / "cover.label").write_bytes(b"\xef\xbb\xbf" + (folder / "cover.label").read_bytes())
    listing.write_bytes(b"\xef\xbb\xbf" + listing.read_bytes().replace(b"\n", b"\r\n"))
    assert build_track_index(root).fingerprint == before
    for text, words in (("../up\n", "lists '../up'"), ("a\na\n", "'a' twice"), ("", "nothing")):
        listing.write_text(text)
        with pytest.raises(Refusal, match=words):
            build_track_index(root)
    listing.write_text("a", encoding="utf-16")
    with pytest.raises(Refusal, match="UTF-16"):
        build_track_index(root)


def test_frames_of_other_names_and_cut_ones_are_refused(root):
    folder = root / "train/GOT-10k_Train_000003"
    data = (folder / "00000004.jpg").read_bytes()
    (folder / "00000004.jpg").write_bytes(data[:-50])
    with pytest.raises(Refusal, match="00000004.jpg: a damaged or cut JPEG"):
        TrackReader(root, build_track_index(root)).read(2, 3)
    for path in folder.glob("*.jpg"):
        path.rename(path.with_suffix(".JPG"))
    with pytest.raises(Refusal, match="000003: .*expected are 00000001.jpg"):
        build_track_index(root)


@pytest.mark.realdata
def test_real_tracks_as_the_toolkit_reads_them():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from got10k.datasets import GOT10k
    root = SHARED / "GOT-10k"
    index = build_track_index(root)
    toolkit = GOT10k(str(root), subset="train", return_meta=True)
    assert list(index.names) == toolkit.seq_names
    files, boxes, meta = toolkit[0]
    kept = index.kept(0)
    assert len(kept) and len(files) == len(boxes) == len(meta["cover"])
    np.testing.assert_allclose(index.boxes[: len(kept)], boxes[kept], rtol=1e-6)
