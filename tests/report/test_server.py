"""Scores that an evaluation server returned."""

import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from corrbench.errors import Refusal
from corrbench.report.server import check_scores, read_server, write_server
from corrbench.rows import AllRows

ROWS = AllRows([])
DAVIS, YOUTUBE = ROWS.benchmarks.get("davis2017-test-dev", "test"), ROWS.benchmarks.get("ytvos2019-val", "test")
MIVOS = {"J&F": 82.0, "J-seen": 80.6, "J-unseen": 77.3, "F-seen": 84.7, "F-unseen": 85.5}


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "davis2017-test-dev/mivos-s012.released.mivos"
    place.mkdir(parents=True)
    (place / "submission.zip").write_bytes(b"masks")
    return place


def test_the_published_numbers_pass():
    """MiVOS's own: overall scores are means of their parts, as printed."""
    assert check_scores(MIVOS, YOUTUBE, "test") == MIVOS
    assert check_scores({"J&F": 76.5, "J-mean": 72.7, "F-mean": 80.2}, DAVIS, "test")["J-mean"] == 72.7
    assert check_scores({"J&F": 76.5}, DAVIS, "test") == {"J&F": 76.5}


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"J&F": 76.5, "J-men": 72.7}, "a score 'J-men'"),
        ({"J&F": 82.0, "J-seen": 80.6}, "a score 'J-seen'"),
        ({"J&F": "76,5"}, "'76,5'"),
        ({"J&F": 176.5}, "176.5"),
        ({"J&F": float("nan")}, "nan"),
        ({"J-mean": 72.7}, "no J&F"),
        ({"J&F": 0.765, "J-mean": 0.727, "F-mean": 0.802}, "no number above 1"),
        ({"J&F": 76.5, "J-mean": 77.2, "F-mean": 80.2}, "the mean of J-mean, F-mean is 78.70"),
        ({"J&F": 76.5, "J-mean": 72.7, "F-mean": 80.2, "J-recall": 0.81}, "J-recall: 0.81"),
    ],
)
def test_what_cannot_be_a_score_is_refused(scores, said):
    with pytest.raises(Refusal, match=said):
        check_scores(scores, DAVIS, "test")


def test_scores_belong_to_one_zip(folder):
    assert read_server(folder, DAVIS) is None
    write_server(folder, DAVIS, {"J&F": 76.5, "J-mean": 72.7, "F-mean": 80.2}, "2026-11-30")
    assert read_server(folder, DAVIS) == {"date": "2026-11-30", "scores": {"J&F": 76.5, "J-mean": 72.7, "F-mean": 80.2}}
    (folder / "submission.zip").write_bytes(b"other masks")
    with pytest.raises(Refusal, match="scores of another submission"):
        read_server(folder, DAVIS)
    (folder / "submission.zip").unlink()
    with pytest.raises(Refusal, match="now missing"):
        read_server(folder, DAVIS)
    (folder / "server.yaml").write_text("J&F: 76.5\n")
    with pytest.raises(Refusal, match="not the scores of a server"):
        read_server(folder, DAVIS)


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "scripts.server_scores", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def test_the_command(folder):
    done = command(folder, "--scores", "J&F=76.5", "J-mean=72.7", "F-mean=80.2", "--date", "2026-11-30")
    assert done.returncode == 0 and "run the workflow again" in done.stdout, done.stderr
    assert (
        yaml.safe_load((folder / "server.yaml").read_text())["date"] == "2026-11-30"
        or "2026" in (folder / "server.yaml").read_text()
    )
    for arguments, said in (
        ((folder, "--scores", "J&F"), "nan"),
        ((folder, "--scores", "J&F=x"), "NAME=PERCENT"),
        ((folder, "--scores", "J&F=76", "--date", "yesterday"), "--date yesterday"),
        ((folder, "--scores", "J&F=76", "--date", "2020-01-01"), "after it was scored"),
        ((folder.parent, "--scores", "J&F=76"), "no row"),
    ):
        refused = command(*arguments)
        assert refused.returncode == 1 and "refused:" in refused.stderr and said in refused.stderr, refused.stderr
