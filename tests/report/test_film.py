"""Films of masks over their videos."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

ROWS = ROOT / "tests/data/rows"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film") / "tiny"
    command = [sys.executable, "-m", "scripts.synthetic", "--benchmark", "tiny-val", "--rows", ROWS, "--out", folder]
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True, capture_output=True)
    return folder


def film(data, out, *more):
    command = [sys.executable, "-m", "scripts.film", "--benchmark", "tiny-val", "--rows", ROWS, "--root", data,
               "--masks", data / "Annotations/480p", "--out", out, "--width", 64, *more]  # fmt: skip
    return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)


def shown(path):
    """The frames of a film, RGB."""
    if path.suffix == ".gif":
        with Image.open(path) as gif:
            for t in range(gif.n_frames):
                gif.seek(t)
                yield np.asarray(gif.convert("RGB"))
        return
    capture = cv2.VideoCapture(str(path))
    while True:
        good, frame = capture.read()
        if not good:
            return
        yield frame[:, :, ::-1]


@pytest.mark.parametrize("kind", ["mp4", "webm", "gif"])
def test_a_film_has_every_frame_of_every_sequence(data, tmp_path, kind):
    done = film(data, tmp_path / f"all.{kind}")
    assert done.returncode == 0 and "10 frames of 2 sequences" in done.stdout, done.stderr
    frames = list(shown(tmp_path / f"all.{kind}"))
    assert len(frames) == 10 and all(frame.shape == (38, 64, 3) for frame in frames)
    assert [p.name for p in tmp_path.iterdir()] == [f"all.{kind}"]
    plain = list(shown_plain(data, tmp_path, kind))
    image = cv2.resize(
        cv2.imread(str(sorted((data / "JPEGImages/480p/three").glob("*"))[0])), (64, 38), interpolation=cv2.INTER_AREA
    )
    mask = cv2.resize(
        np.asarray(Image.open(sorted((data / "Annotations/480p/three").glob("*"))[0])),
        (64, 38),
        interpolation=cv2.INTER_NEAREST,
    )
    far = cv2.erode((mask == 0).astype(np.uint8), np.ones((5, 5))).astype(bool)
    far[:20, :] = False  # the caption
    inside = cv2.erode((mask > 0).astype(np.uint8), np.ones((3, 3))).astype(bool)
    distance = np.abs(plain[0].astype(int) - image[:, :, ::-1].astype(int)).mean(2)
    assert np.median(distance[far]) < 12 < np.median(distance[inside]), "masks are tinted, the rest is as it was"


def shown_plain(data, tmp_path, kind):
    done = film(data, tmp_path / f"plain.{kind}", "--plain", "--sequences", "three")
    assert done.returncode == 0 and "5 frames of 1 sequences" in done.stdout, done.stderr
    return shown(tmp_path / f"plain.{kind}")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--sequences", "thre"], "did you mean 'three'"),
        (["--benchmark", "synthetic-otb"], "no benchmark of DAVIS masks"),
        (["--out", "film.avi"], ".mp4, .webm or .gif"),
        (["--masks", "tests"], "tests/three"),
    ],
)
def test_what_cannot_be_shown_is_refused(data, tmp_path, more, said):
    done = film(data, tmp_path / "film.mp4", *more)
    assert done.returncode == 1 and "refused:" in done.stderr and said in done.stderr, done.stderr
    assert not list(tmp_path.iterdir()) and not (ROOT / "film.avi").exists()
