"""What is remembered of files: correct after any change, cheap after none, and never in the way."""

import os

import pytest

from corrbench.workflow import Notes


@pytest.fixture
def files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    return {name: tmp_path / name for name in ("a", "b")}


def test_a_change_in_place_with_size_and_time_put_back(files, tmp_path):
    before = Notes(tmp_path / "notes").version(files)
    stat = files["a"].stat()
    with files["a"].open("r+b") as file:
        file.write(b"c")
    os.utime(files["a"], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert Notes(tmp_path / "notes").version(files) != before


def test_a_touch_or_a_copy_changes_nothing(files, tmp_path):
    before = Notes(tmp_path / "notes").version(files)
    os.utime(files["a"], (1, 1))
    content = files["b"].read_bytes()
    files["b"].unlink()
    files["b"].write_bytes(content)
    assert Notes(tmp_path / "notes").version(files) == before


def test_files_are_read_once(files, tmp_path):
    notes, read = Notes(tmp_path / "notes"), []
    for _ in range(2):
        assert notes.remembered("x", files, lambda: read.append(1) or "value") == "value"
    assert len(read) == 1


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff\xfe", b'{"seen": 3, "version": 4}'])
def test_a_damaged_note_is_none(files, tmp_path, damage):
    before = Notes(tmp_path / "notes").version(files)
    (note,) = (tmp_path / "notes").iterdir()
    note.write_bytes(damage)
    assert Notes(tmp_path / "notes").version(files) == before


def test_without_keep_nothing_is_written(files, tmp_path):
    assert Notes(tmp_path / "notes", keep=False).version(files) == Notes(tmp_path / "other").version(files)
    assert not (tmp_path / "notes").exists()


def test_notes_that_cannot_be_written_are_done_without(files, tmp_path):
    (tmp_path / "notes").write_text("a file where the folder should be")
    assert Notes(tmp_path / "notes").version(files)


def test_nothing_there(tmp_path):
    assert Notes(tmp_path / "notes").version({"a": tmp_path / "a"}) == ""
