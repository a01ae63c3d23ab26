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
from corrbench.outputs import MANIFEST, claim, made_folder, refuse_replacing, refuse_within, remove_temporaries

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


@pytest.mark.parametrize("name", [".env", "notes/.thesis.tex", "link"])
def test_hidden_files_and_links_are_foreign(tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    if name == "link":
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/a").write_text("mine")
        (out / name).symlink_to(tmp_path / "elsewhere")
    else:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
    with pytest.raises(Refusal, match=rf"1 files that corrbench did not write \({name}\)"), made_folder(out, "masks"):
        pass
    assert (out / name).exists()


def test_what_a_system_leaves_in_a_folder_is_nobodys(tmp_path):
    (tmp_path / "out").mkdir()
    for name in (".DS_Store", "._a.png", "Thumbs.db", ".x.lock"):
        (tmp_path / "out" / name).write_text("")
    with made_folder(tmp_path / "out", "masks") as folder:
        (folder / "a.png").write_text("")


def test_a_run_leaves_the_temporaries_of_outputs_with_longer_names(tmp_path):
    """`a` and `a.b` are two outputs: neither removes what a run on the other is writing."""
    with claim(tmp_path / "a.b.pth"), atomic(tmp_path / "a.b.pth") as temporary:
        temporary.write_text("half")
        with claim(tmp_path / "a.pth"):
            assert temporary.exists()


def test_a_folder_is_not_cleaned_of_what_a_living_run_writes_in_it(tmp_path):
    process = holder(tmp_path / "frames")
    half, draft = tmp_path / ".frames.77-abcdef.tmp", tmp_path / ".draft.12.tmp"
    half.write_text("half")
    draft.write_text("mine")
    remove_temporaries(tmp_path)
    assert half.exists()
    process.kill()
    process.wait()
    remove_temporaries(tmp_path)
    assert not half.exists() and draft.exists()


def test_a_parent_that_cannot_be_written_holds_no_lock(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with claim(tmp_path / "disk"):
        assert [p.name for p in (tmp_path / "disk").iterdir()] == [".disk.lock"]
        assert [p.name for p in tmp_path.iterdir()] == ["disk"]


def test_a_wait_that_is_no_number(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRBENCH_WAIT", "10m")
    with pytest.raises(Refusal, match="CORRBENCH_WAIT=10m: not a number of seconds"), claim(tmp_path / "x"):
        pass


def test_files_of_others_are_not_replaced_by_name(tmp_path):
    names = ("global.csv", "scores.json")
    (tmp_path / "global.csv").write_text("mine")
    for _ in range(2):
        with pytest.raises(Refusal, match="holds global.csv that corrbench did not write"):
            refuse_replacing(tmp_path, names, "scores.json", "metric")
    write_json(tmp_path / "scores.json", {"metric": "J and F"})
    refuse_replacing(tmp_path, names, "scores.json", "metric")
    (tmp_path / "scores.json").unlink()  # as Snakemake does before it makes it anew
    refuse_replacing(tmp_path, names, "scores.json", "metric")


def test_a_record_of_another_kind_is_refused(tmp_path):
    write_record(tmp_path / "a.json", {"row": 1})
    with pytest.raises(Refusal, match="another kind of record, without sequences, files"):
        read_record(tmp_path / "a.json", "the doctor's record", keys=("row", "sequences", "files"))


def test_scores_are_not_written_into_data_or_masks(tmp_path):
    root, masks = tmp_path / "DAVIS", tmp_path / "masks"
    for out in (root, root / "scores", masks):
        with pytest.raises(Refusal, match="below the data root|the folder that is scored"):
            refuse_within(out, root, masks)
    refuse_within(masks / "scores", root, masks)
