"""Tables of videos, clips and tracks: what was altered or cannot be is refused by name."""

import numpy as np
import pytest

from corrbench.datasets.clips import Clip, ClipIndex
from corrbench.datasets.got10k import TrackIndex
from corrbench.datasets.videos import Index, Video
from corrbench.errors import Refusal

INDEX = Index((Video("a", 4, 24.0, 8, 6), Video("b/c", 5, 0.0, 8, 6, -1)))
TRACKS = TrackIndex(("a", "b"), np.array([0, 2, 4]), np.array([0, 3, 1, 2], np.int32), np.full((4, 4), 30, np.float32))


@pytest.mark.parametrize("index", [INDEX, TRACKS])
@pytest.mark.parametrize("change", [lambda t: t[: len(t) * 2 // 3], lambda t: "", lambda t: t.replace("a,", "d,")])
def test_an_altered_table_is_refused(tmp_path, index, change):
    path = tmp_path / "index.csv"
    index.write(path)
    assert type(index).read(path).fingerprint == index.fingerprint
    path.write_text(change(path.read_text()))
    with pytest.raises(Refusal, match=r"index.csv: its content is not what was written[\s\S]*remove .*index.json"):
        type(index).read(path)


HEADER = "video,frames,fps,width,height,first\n"
WRONG = [
    ("", "no column"),
    (HEADER, "lists nothing"),
    ("video,frames\na,4\n", "no column fps, width, height, first"),
    (HEADER + "a,many,24,8,6,0\n", "line 2: frames is 'many'"),
    (HEADER + "a,0,24,8,6,0\n", "line 2: frames is '0' .below 1"),
    (HEADER + "a,4,nan,8,6,0\n", "line 2: fps is 'nan'"),
    (HEADER + "a,4,24,8\n", "another number of values"),
    (HEADER + "a,4,24,8,6,0\n../../etc,4,24,8,6,0\n", "line 3: video is '../../etc' .no path below the root"),
    (HEADER + "/etc,4,24,8,6,0\n", "no path below the root"),
    (HEADER + "a,4,24,8,6,0\na,4,24,8,6,0\n", "video a stands there twice"),
    (HEADER.encode("utf-16"), "encoded as UTF-16"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_a_table_made_by_hand_is_checked(tmp_path, text, words):
    path = tmp_path / "index.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Refusal, match=rf"index.csv: .*{words}"):
        Index.read(path)
    path.write_text("\ufeff" + HEADER + "a,4,24,8,6,0\n")
    assert Index.read(path).videos == (Video("a", 4, 24.0, 8, 6),)


def test_clips_may_count_several_times(tmp_path):
    index = ClipIndex((Clip("own/a", "own/b", 3, 1),) * 2)
    index.write(tmp_path / "index.csv")
    assert ClipIndex.read(tmp_path / "index.csv") == index
    (tmp_path / "index.json").unlink()
    (tmp_path / "index.csv").write_text("images,masks,frames,spacing\nown/a,../b,3,1\n")
    with pytest.raises(Refusal, match=r"masks is '../b'"):
        ClipIndex.read(tmp_path / "index.csv")


TRACK = "video,frame,x,y,w,h\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no table of tracks"),
        (TRACK, "no row"),
        ("video,frame\na,1\n", "no column x, y, w, h"),
        (TRACK + "a,one,1,1,1,1\n", "no table of tracks"),
        (TRACK + "a,0,1,1,nan,1\n", "line 2: a, 0, 1, 1, nan, 1"),
        (TRACK + "a,0,1,1,5,5\n../b,0,1,1,5,5\n", "line 3: ../b"),
        (TRACK + "a,0,1,1,0,5\n", "line 2"),
        (TRACK + "a,1,1,1,5,5\na,0,1,1,5,5\n", "two places"),
        (TRACK + "a,0,1,1,5,5\nb,0,1,1,5,5\na,1,1,1,5,5\n", "two places"),
    ],
)
def test_tables_of_tracks_are_checked(tmp_path, text, words):
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(Refusal, match=rf"index.csv: .*{words}"):
        TrackIndex.read(tmp_path / "index.csv")


def test_a_file_of_the_user_beside_a_table(tmp_path):
    (tmp_path / "clips.csv").write_text(HEADER + "a,4,24,8,6,0\n")
    (tmp_path / "clips.json").write_text('{"author": "me"}')
    assert len(Index.read(tmp_path / "clips.csv").videos) == 1


def test_a_frame_that_is_no_whole_number(tmp_path):
    (tmp_path / "tracks.csv").write_text("video,frame,x,y,w,h\na,0.7,1,1,5,5\n")
    with pytest.raises(Refusal, match="whole number"):
        TrackIndex.read(tmp_path / "tracks.csv")
