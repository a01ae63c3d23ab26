"""One run at a time on an output, and folders of other people that nothing touches."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from corrbench.errors import Refusal
from corrbench.files import atomic, read_record, write_json, write_record
from corrbench.outputs import MANIFEST, claim, made_folder, remove_temporaries

HOLD = "import sys, time; from pathlib import Path; from corrbench.outputs import claim\nwith claim(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def holder(path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_and_a_killed_one_forgotten(tmp_path, monkeypatch):
    out = tmp_path / "table.csv"
    process = holder(out)
    (tmp_path / ".table.1234-abcdef.tmp.csv").write_text("half")
    with pytest.raises(Refusal, match=rf"another run is writing it \(process {process.pid} "), claim(out):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with claim(out):
        assert [p.name for p in tmp_path.iterdir()] == [".table.csv.lock"]  # what the killed run left is gone
    assert not list(tmp_path.iterdir())


def test_a_job_of_the_workflow_waits_for_the_other(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRBENCH_WAIT", "30")
    process = holder(tmp_path / "x")
    start = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    with claim(tmp_path / "x"):
        assert time.monotonic() - start < 20
    process.wait()


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "mine"
    (folder / "sub").mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    (folder / "sub" / "data.npz").write_bytes(b"precious")
    return folder


def test_foreign_files_are_left_alone(mine):
    words = r"2 files that corrbench did not write \(sub/data.npz, thesis.txt\)"
    with pytest.raises(Refusal, match=words), made_folder(mine, "masks") as temporary:
        (temporary / "a.png").write_text("new")
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_a_folder_of_ours_is_replaced_until_something_else_lies_in_it(tmp_path):
    out = tmp_path / "paper"
    for content in ("one", "two"):
        with made_folder(out, "paper") as temporary:
            (temporary / "a.md").write_text(content)
    assert (out / "a.md").read_text() == "two" and (out / MANIFEST).is_file()
    (out / "notes.md").write_text("by hand")
    with pytest.raises(Refusal, match=r"notes\.md"), made_folder(out, "paper"):
        pass
    (out / "notes.md").unlink()
    with pytest.raises(Refusal, match="a paper folder"), made_folder(out, "masks"):
        pass


def test_a_folder_on_another_disk_stays_linked(tmp_path):
    (tmp_path / "disk").mkdir()
    out = tmp_path / "masks"
    out.symlink_to(tmp_path / "disk" / "x")  # a link to what is not there yet
    for content in ("one", "two"):
        with made_folder(out, "masks") as temporary:
            (temporary / "a").write_text(content)
        assert out.is_symlink() and (tmp_path / "disk/x/a").read_text() == content
    target, link = tmp_path / "disk/scores.json", tmp_path / "scores.json"
    target.write_text("{}")
    link.symlink_to(target)
    write_json(link, {"a": 1})
    assert link.is_symlink() and json.loads(target.read_text()) == {"a": 1}


def test_temporaries_of_one_output_only(tmp_path):
    for name in (".a.12-ff.tmp.npz", ".b.12-ff.tmp.npz", ".a.7.tmp.json", ".hidden", "a.npz"):
        (tmp_path / name).write_text("")
    remove_temporaries(tmp_path, tmp_path / "a.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".a.7.tmp.json", ".b.12-ff.tmp.npz", ".hidden", "a.npz"]


def test_a_claim_removes_what_a_killed_run_left_of_all_that_it_writes(tmp_path):
    kept = [tmp_path / ".other.12-ab12.tmp.csv", tmp_path / "scores/.notes"]
    left = [
        tmp_path / name
        for name in (".table.12-ab12.tmp.csv", ".table.12-ab12.tmp.md", "scores/.global.12-ab12.tmp.csv")
    ]
    (tmp_path / "scores").mkdir()
    for path in (*kept, *left):
        path.write_text("half")
    with claim(tmp_path / "table.csv", tmp_path / "table.md"):
        assert [p.exists() for p in left] == [False, False, True]
    with claim(tmp_path / "scores"):
        assert not left[2].exists()
    assert all(p.exists() for p in kept)


def test_places_that_cannot_be_written_are_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(Refusal, match="file"), atomic(tmp_path / "file" / "x" / "scores.json") as temporary:
        temporary.write_text("")


def test_records_know_their_own_content(tmp_path):
    path = tmp_path / "record.json"
    write_record(path, {"entry": "a", "deep": {"x": [1, 2.5, None]}, "fps": 3.0})
    assert read_record(path)["deep"] == {"x": [1, 2.5, None]}
    text = path.read_text()
    path.write_text(text.replace('"fps": 3.0', '"fps": 4.0'))  # what a run cost differs from run to run
    assert read_record(path)["fps"] == 4.0
    for damaged in (
        text.replace("2.5", "2.6"),
        text[: len(text) // 2],
        "",
        "[1, 2]",
        "\xff",
        text.replace('"a"', '"b"'),
    ):
        path.write_text(damaged, encoding="latin-1")
        with pytest.raises(Refusal, match=r"record\.json"):
            read_record(path)


def test_no_number_that_is_not_finite_reaches_a_file(tmp_path):
    with pytest.raises(Refusal, match="not finite"):
        write_json(tmp_path / "scores.json", {"J": float("nan")})
    assert not list(tmp_path.iterdir())
