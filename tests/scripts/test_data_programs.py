"""The programs that make data sets: scripts/synthetic.py and scripts/dataset.py, called in this process."""

import sys
import zipfile

import pytest
import yaml

from corrbench.datasets.source import check_layout, find
from corrbench.errors import Refusal
from corrbench.files import write_record
from scripts import dataset, synthetic


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Run the main of a program; `rows` are written first."""

    def run(program, *arguments, rows=None):
        for name, row in (rows or {}).items():
            path = tmp_path / "rows" / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(row))
        more = ["--rows", str(tmp_path / "rows")] if rows else []
        monkeypatch.setattr(sys, "argv", [program.__name__, *map(str, arguments), *more])
        program.main()

    return run


BENCHMARK = {
    "name": "odd", "title": "odd", "dataset": "davis", "year": 2017, "split": "val", "resolution": "480p", "data": "synthetic",
    "scoring": "multi-object", "generate": {"frames": 3, "height": 32, "width": 48, "seed": 0}, "sequences": ["aa"],
}  # fmt: skip
VIDEOS = {
    "name": "vids", "title": "vids", "layout": [{"files": "*.mp4", "what": "videos"}],
    "videos": {"kind": "videos", "files": "*.mp4", "generate": {"videos": 1, "frames": 4, "height": 32, "width": 48}},
}  # fmt: skip
ROWS = {"benchmarks/odd": BENCHMARK, "datasets/vids": VIDEOS}


@pytest.mark.parametrize("which", [("--benchmark", "odd"), ("--videos", "vids")])
def test_synthetic_data_replace_only_what_they_made(call, tmp_path, which):
    out = tmp_path / "out"
    for _ in range(2):
        call(synthetic, *which, "--out", out, rows=ROWS)
    files = {p for p in out.rglob("*") if p.is_file()}
    (out / "thesis.txt").write_text("years")
    with pytest.raises(Refusal, match=r"1 files that corrbench did not write \(thesis.txt\)"):
        call(synthetic, *which, "--out", out, rows=ROWS)
    assert {p for p in out.rglob("*") if p.is_file()} == files | {out / "thesis.txt"}


def test_synthetic_data_on_another_disk(call, tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    call(synthetic, "--benchmark", "odd", "--out", tmp_path / "out", rows=ROWS)
    assert (tmp_path / "out").is_symlink() and (tmp_path / "disk/ImageSets/2017/val.txt").is_file()


@pytest.mark.parametrize("names", [["../up"], ["/etc"], ["aa", "aa"], ["a/b"], ["n" * 250], ["a\nb"], [".hid"]])
def test_sequences_have_plain_names(call, tmp_path, names):
    with pytest.raises(Refusal):
        call(
            synthetic,
            "--benchmark",
            "odd",
            "--out",
            tmp_path / "out",
            rows={"benchmarks/odd": BENCHMARK | {"sequences": names}},
        )
    assert [p.name for p in tmp_path.iterdir()] == ["rows"]


def test_synthetic_rows_of_another_kind(call, tmp_path):
    static = {**VIDEOS["videos"], "generate": VIDEOS["videos"]["generate"] | {"static": True}}
    with pytest.raises(Refusal, match="of kind videos with `static`"):
        call(
            synthetic,
            "--videos",
            "vids",
            "--out",
            tmp_path / "out",
            rows={"datasets/vids": VIDEOS | {"videos": static}},
        )
    for which in (("--videos", "kinetics400"), ("--benchmark", "davis2017-val")):
        with pytest.raises(Refusal, match="is not synthetic"):
            call(synthetic, *which, "--out", tmp_path / "out")


DATA = {"datasets/arch": {"name": "arch", "title": "arch", "layout": [{"files": "ok.txt", "what": "file", "count": 1}]}}


def test_archives_are_accepted_only_with_their_layout(call, tmp_path, capsys):
    for name in ("ok", "other"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as file:
            file.writestr(f"{name}.txt", "x")
    with pytest.raises(Refusal, match=r"out is not arch as it should be[\s\S]*what lies there: 1 .txt \(other.txt\)"):
        call(dataset, "arch", "--archives", tmp_path / "other.zip", "--out", tmp_path / "out", rows=DATA)
    assert not (tmp_path / "out").exists()
    call(dataset, "arch", "--archives", tmp_path / "ok.zip", "--out", tmp_path / "out", rows=DATA)
    assert "file (ok.txt): 1, expected 1" in capsys.readouterr().out


def test_archives_need_a_folder(call, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        call(dataset, "davis2017", "--archives", tmp_path / "a.zip")
    assert end.value.code == 2 and "--archives needs --out" in capsys.readouterr().err
    with pytest.raises(Refusal, match=r"a.zip: no such file"):
        call(dataset, "davis2017", "--archives", tmp_path / "a.zip", "--out", tmp_path / "out")


def test_a_home_folder_is_read_from_an_option_too(call, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    call(synthetic, "--videos", "vids", "--out=~/made", rows=ROWS)
    assert (tmp_path / "made/video00.mp4").is_file()


YTVOS = {
    "name": "y", "title": "y", "archives": [], "instructions": "get it", "layout": [
        {"files": ["all/*", "all_frames/all/*"], "what": "all frames", "count": 1, "for": "pretraining"},
        {"files": "train/*", "what": "videos", "count": 1, "for": "propagation"},
    ],
}  # fmt: skip


def test_a_data_set_that_is_complete_for_one_use(tmp_path):
    with pytest.raises(Refusal, match="is not y as it should be"):
        check_layout(YTVOS, tmp_path)
    (tmp_path / "all_frames/all/._x").mkdir(parents=True)
    (tmp_path / "all_frames/all/x").mkdir()
    assert check_layout(YTVOS, tmp_path)[-2:] == ["complete for pretraining", "not complete for propagation"]
    assert [p.name for p in find(tmp_path, YTVOS["layout"][0]["files"])] == ["x"]


def test_gather_removes_no_file_that_is_no_part(call, tmp_path):
    from scripts import gather

    keys = {
        "row": {},
        "sequences": ["a"],
        "label": "x",
        "kind": "inputs",
        "fingerprint": "f",
        "counts": {},
        "files": {},
    }
    write_record(tmp_path / "inputs.json", keys)
    for name in ("notes.json", "0of1.json"):
        (tmp_path / name).write_text('{"years": 3}')
    with pytest.raises(Refusal, match="parts that do not fit"):
        call(gather, "--parts", tmp_path / "notes.json", tmp_path / "0of1.json", "--labels", tmp_path, "--settings", "{}",
             "--data", tmp_path / "inputs.json", "--out", tmp_path / "out.json")  # fmt: skip
    assert (tmp_path / "notes.json").exists() and not (tmp_path / "0of1.json").exists()


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.mp4").write_text("")
    assert len(find(tmp_path, "*/*.mp4")) == 2
    monkeypatch.setattr("os.access", lambda path, mode: path.name != "b")
    for pattern in ("*/*.mp4", "**/*.mp4"):
        with pytest.raises(Refusal, match=r"b: Permission denied"):
            find(tmp_path, pattern)
