"""The config that the score program keeps: rows stay, names belong to one file."""

from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from corrbench.config import Config
from corrbench.errors import Refusal
from corrbench.scoring import add, earlier, leave_out_lost, plain_name

ROWS = str(ROOT / "tests/data/rows")


def asked(folder, *sources, method="random-r18", protocol="own", files=(), **changes):
    run = {"methods": [method], "weights": ["random", *sources], "protocols": [protocol], "benchmarks": ["tiny-val"]}
    named = {name: {"path": str(folder / file), "trust_pickle": False} for name, file in files}
    return {"results": str(folder / "out"), "device": "auto", "rows": [ROWS], "data": {}, "files": named, "subsets": {},
            "runs": [{"methods": ["identity"], "weights": ["none"], "benchmarks": ["tiny-val"]}, run], **changes}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).write_text(name)
    return tmp_path


def ids(values):
    return [e.id for e in Config(values).entries]


def test_a_second_method_and_checkpoint_are_added(folder):
    one, _ = add({}, asked(folder, "a", files=[("a", "a.pth")]), "c")
    two, notes = add(one, asked(folder, "b", method="vfs-r18", protocol="dino", files=[("b", "b.pth")]), "c")
    assert ids(two) == [
        "identity.none.identity", "random-r18.random.crw", "random-r18.a.crw", "vfs-r18.random.dino", "vfs-r18.b.dino",
    ]  # fmt: skip
    assert set(two["files"]) == {"a", "b"} and notes == []


def test_the_same_call_again_changes_nothing(folder):
    one, _ = add({}, asked(folder, "a", files=[("a", "a.pth")]), "c")
    two, notes = add(one, asked(folder, "a", files=[("a", "a.pth")], protocol="crw"), "c")
    assert two == one and notes == []


def test_two_files_never_share_a_row(folder):
    one, _ = add({}, asked(folder, "a", files=[("a", "a.pth")]), "c")
    with pytest.raises(Refusal, match=r"b.pth: the rows named 'a'(.|\n)*--name a-2"):
        add(one, asked(folder, "a", files=[("a", "b.pth")]), "c")


def test_a_file_that_was_moved_keeps_its_row(folder):
    one, _ = add({}, asked(folder, "a", files=[("a", "a.pth")]), "c")
    (folder / "moved.pth").write_text("a.pth")
    two, _ = add(one, asked(folder, "a", files=[("a", "moved.pth")]), "c")
    assert two["files"]["a"]["path"] == str(folder / "moved.pth")


def test_rows_of_a_lost_file(folder):
    values, _ = add({}, asked(folder, "a", files=[("a", "a.pth")]), "c")
    (folder / "a.pth").unlink()
    kept = {**values, "files": dict(values["files"])}
    weights = folder / "out/weights/random-r18/a/weights.pt"
    weights.parent.mkdir(parents=True)
    weights.write_text("")
    assert leave_out_lost(kept) == [] and kept == values
    weights.unlink()
    (note,) = leave_out_lost(kept)
    assert "is gone and was never converted" in note and ids(kept) == [
        "identity.none.identity",
        "random-r18.random.crw",
    ]
    assert kept["files"] == {}


def test_another_data_root_is_said(folder):
    one, _ = add({}, asked(folder, data={"davis2017": "/a"}), "c")
    _, notes = add(one, asked(folder, data={"davis2017": "/b"}), "c")
    assert notes == ["data.davis2017 is now /b, for all rows of the table (it was /a)"]


def test_an_earlier_config_that_cannot_be_read(folder):
    path = folder / "config.yaml"
    assert earlier(path) == {}
    path.write_text("runs: [{methods: [gone], weights: [random], benchmarks: [tiny-val]}]\n")
    with pytest.raises(Refusal, match=r"no row 'gone'(.|\n)*name another --results"):
        earlier(path)
    path.write_text(yaml.safe_dump({**asked(folder)}))
    assert earlier(path)["device"] == "auto"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("mine.pth", "mine"), ("CRW_best (2).pth.tar", "crw-best-2"), ("random.pth", "my-random"), ("released.pt", "my-released"),
        ("short-seed1.pth", "my-short-seed1"), ("50.pth", "my-50"), (".pth", "my"), ("モデル.pth", "my"), ("own.pth", "my-own"),
    ],
)  # fmt: skip
def test_names_of_files(file, name):
    assert plain_name(Path(file)) == name
    Config({"files": {name: {"path": file}}, "runs": asked(Path("/x"))["runs"], "rows": [ROWS]})


def test_rows_of_a_disk_that_is_not_there(folder, tmp_path):
    (tmp_path / "davis").mkdir()
    data = {"davis2017": str(tmp_path / "gone"), "synthetic": str(tmp_path / "davis")}
    values, _ = add({}, asked(folder, data=data), "c")
    values["runs"].append(
        {"methods": ["identity"], "weights": ["none"], "protocols": ["own"], "benchmarks": ["davis2017-val"]}
    )
    before = len(values["runs"])
    (note,) = leave_out_lost(values)
    assert "rows of davis2017-val are left out" in note and len(values["runs"]) == before - 1
    assert values["data"] == {"synthetic": str(tmp_path / "davis")}


def test_versions_of_a_file_have_rows_of_their_own():
    assert [plain_name(Path(name)) for name in ("r.v1.pth", "r.v2.pth.tar")] == ["r-v1", "r-v2"]


def test_two_networks_of_one_file_never_share_a_row(folder):
    one, _ = add({}, asked(folder, "a", files=[("a", "a.pth")]), "c")
    other = asked(folder, "a", files=[("a", "a.pth")])
    other["files"]["a"]["container"] = "student"
    with pytest.raises(Refusal, match="those of its entry taken by itself(.|\n)*--name a-student"):
        add(one, other, "c")
