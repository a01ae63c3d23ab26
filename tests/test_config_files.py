"""Several config files, and what a command line names as such."""

from pathlib import Path

import pytest

from corrbench.config import Config
from corrbench.config_files import check_files, join_configs, named_files
from corrbench.errors import Refusal

RUN = {"methods": ["random-r18"], "weights": ["random"], "protocols": ["crw"], "benchmarks": ["synthetic-val"]}
IDENTITY = {"methods": ["identity"], "weights": ["none"], "benchmarks": ["synthetic-val"]}


def test_runs_and_rows_are_joined_and_the_rest_agrees():
    one = {"device": "cpu", "rows": ["a"], "runs": [RUN], "data": {"davis2017": "/d"}}
    two = {"device": "cpu", "rows": ["a", "b"], "runs": [IDENTITY], "data": {"otb100": "/o"}}
    joined = join_configs([("one.yaml", one), ("two.yaml", two)])
    assert joined == {
        "device": "cpu",
        "rows": ["a", "b"],
        "runs": [RUN, IDENTITY],
        "data": {"davis2017": "/d", "otb100": "/o"},
    }


@pytest.mark.parametrize(
    ("one", "two", "place"),
    [
        ({"results": "a"}, {"results": "b"}, "two.yaml: results: 'b', and 'a' in one.yaml"),
        ({"data": {"x": "/1"}}, {"data": {"x": "/2"}}, "two.yaml: data.x: '/2', and '/1' in one.yaml"),
        ({"data": 3}, {"data": {"x": "/2"}}, "two.yaml: data: "),
    ],
)
def test_files_that_contradict_each_other_are_refused(one, two, place):
    with pytest.raises(Refusal, match=place):
        join_configs([("one.yaml", one), ("two.yaml", two)])


def test_a_config_of_two_files_and_a_change(tmp_path):
    (tmp_path / "one.yaml").write_text(f"runs: [{RUN}]\n")
    (tmp_path / "two.yaml").write_text(f"runs: [{IDENTITY}]\n")
    config = Config.of_files([tmp_path / "one.yaml", tmp_path / "two.yaml"], {"device": "cpu"})
    assert [e.id for e in config.entries] == ["random-r18.random.crw", "identity.none.identity"]
    assert config.values["device"] == "cpu"
    with pytest.raises(Refusal, match="two entries with the id"):
        Config.of_files([tmp_path / "one.yaml", tmp_path / "one.yaml"])


def test_what_a_command_line_names():
    words = ["t.csv", "--configfile", "a.yaml", "b.yaml", "--cores", "2", "--configfile=c.yaml", "--", "t"]
    assert named_files(words) == ["a.yaml", "b.yaml", "c.yaml"]


def test_a_target_behind_a_config_file_is_told(tmp_path):
    (tmp_path / "a.yaml").write_text("runs: []\n")
    check_files(["--configfile", str(tmp_path / "a.yaml"), "--", "results/table.csv"])
    with pytest.raises(Refusal, match=r"results/table.csv: named by --configfile(.|\n)*-- results/table.csv"):
        check_files(["--configfile", str(tmp_path / "a.yaml"), "results/table.csv"])
    with pytest.raises(Refusal, match=r"none.yaml: no such file"):
        check_files(["--configfile", "none.yaml"])


@pytest.mark.parametrize(
    ("content", "found"), [("", "an empty file"), ("- 1\n", "a list"), ("3\n", "a int"), ("null\n", "an empty file")]
)
def test_files_that_are_no_config(tmp_path, content, found):
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(Refusal, match=f"a.yaml: {found}"):
        Config.read(tmp_path / "a.yaml")


def test_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    values = {
        "results": "~/r",
        "data": {"davis2017": "~/D"},
        "files": {"mine": {"path": "~/m.pth"}},
        "runs": [IDENTITY],
    }
    config = Config(values)
    assert config.results == Path("/home/someone/r")
    assert (
        config.values["data"] == {"davis2017": "/home/someone/D"}
        and config.values["files"]["mine"]["path"] == "/home/someone/m.pth"
    )


def test_environment_variables_in_paths(monkeypatch):
    monkeypatch.setenv("SCRATCH", "/scratch/someone")
    monkeypatch.delenv("NOT_SET", raising=False)
    config = Config(
        {
            "results": "$SCRATCH/r",
            "data": {"davis2017": "${SCRATCH}/D"},
            "files": {"mine": {"path": "$NOT_SET/m.pth"}},  # stays as it is: the refusal of the file shows the name
            "runs": [IDENTITY],
        }
    )
    assert config.results == Path("/scratch/someone/r")
    assert config.values["data"] == {"davis2017": "/scratch/someone/D"}
    assert config.values["files"]["mine"]["path"] == "$NOT_SET/m.pth"


@pytest.mark.parametrize("path", ["a\nb", "", "a\0b"])
def test_paths_that_cannot_be(path):
    with pytest.raises(Refusal, match="a path"):
        Config({"data": {"davis2017": path}, "runs": [IDENTITY]})


def test_results_with_braces():
    with pytest.raises(Refusal, match="braces"):
        Config({"results": "r{1}", "runs": [IDENTITY]})


def test_a_config_on_the_command_line_that_is_no_json():
    with pytest.raises(Refusal, match="--config: not valid JSON"):
        Config.from_argument("{")
