"""Refusals of configs and rows by their schemas: the place, what stood there, and what is allowed."""

import copy
import re

import pytest
import yaml

from corrbench.config import Config
from corrbench.errors import Refusal
from corrbench.rows import AllRows, validate

IDENTITY = [{"methods": ["identity"], "weights": ["none"], "benchmarks": ["synthetic-val"]}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"subsets": {"davis2017-val": "presnt"}},
            "subsets.davis2017-val: 'presnt'\n  expected: one of: 'present'; a list, each string",
        ),
        ({"subsets": {"davis2017-val": ["a", "a"]}}, "subsets.davis2017-val: 'a' stands twice"),
        ({"files": {"Mine": {"path": "x"}}}, "files: 'Mine'\n  expected: a plain name"),
        ({"files": {"mine\n": {"path": "x"}}}, "expected: a plain name"),
        (
            {"results": True},
            "results: True is a bool\n  expected: a value of type string\n  what to do: put it in quotes",
        ),
    ],
)
def test_refusals_of_a_config_name_the_place_and_the_allowed_words(change, message):
    with pytest.raises(Refusal, match=re.escape(message)):
        Config({"runs": IDENTITY, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "layer5"}, "encoder.layer: 'layer5'\n  expected: one of layer1, layer2"),
        (
            {"arch": "resnet19"},
            "encoder.arch: 'resnet19'\n  expected: one of resnet18, resnet50, resnet18_hr, fusion, stm, none",
        ),
        ({"zz": 1}, "encoder: unknown key 'zz'"),
    ],
)
def test_of_alternatives_the_one_that_was_meant_is_told(methods, change, message):
    row = copy.deepcopy(methods.get("crw-r18", "test"))
    row["encoder"].update(change)
    with pytest.raises(Refusal, match=message):
        validate(row, "method", "row")


@pytest.mark.parametrize(
    "name", ["/etc", "../x", "..", ".", ".aa", "-rf", "a/b", "a\\b", "a\nb", "a\0b", "", "n" * 201, "a\x85"]
)
def test_sequences_are_plain_names(tmp_path, name):
    row = {"base": "synthetic-val", "name": "odd", "sequences": ["ok", name]}
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/odd.yaml").write_text(yaml.safe_dump(row))
    with pytest.raises(Refusal, match=r"sequences.1"):
        Config({"rows": [str(tmp_path)], "runs": [{**IDENTITY[0], "benchmarks": ["odd"]}]})


def test_sequences_stand_once_and_may_have_spaces(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    for names in (["a", "a"], ["two words", "it's", "séq", "a*[1]{2}$"]):
        (tmp_path / "benchmarks/odd.yaml").write_text(
            yaml.safe_dump({"base": "synthetic-val", "name": "odd", "sequences": names})
        )
        rows = AllRows([tmp_path]).benchmarks
        if len(set(names)) < len(names):
            with pytest.raises(Refusal, match="'a' stands twice"):
                rows.get("odd", "test")
        else:
            assert rows.get("odd", "test")["sequences"] == names


@pytest.mark.parametrize("row", ["base: [crw]", "base: {a: 1}", "base: broken\ndata: x"])
def test_rows_of_the_wrong_shape(tmp_path, row):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/broken.yaml").write_text("name: broken\ntiers: [1]\n")
    (tmp_path / "recipes/odd.yaml").write_text(f"name: odd\n{row}\n")
    with pytest.raises(Refusal, match="base:|tiers:"):
        AllRows([tmp_path]).recipes.get("odd", "test")


def test_what_a_system_leaves_beside_rows_is_no_row(tmp_path):
    (tmp_path / "methods").mkdir()
    for name in ("._crw.yaml", ".#x.yaml", "._y.yml"):
        (tmp_path / "methods" / name).write_bytes(b"\x00\xff")
    assert "crw-r18" in AllRows([tmp_path]).methods


@pytest.mark.parametrize("title", ["=cmd|' /C calc'!A0", "@SUM(1+1)", "+1+1", "-2", "\tx"])
@pytest.mark.parametrize("key", ["method", "backbone"])
def test_a_title_that_a_spreadsheet_would_run(methods, key, title):
    with pytest.raises(Refusal, match="text that no spreadsheet takes for a formula"):
        validate({**copy.deepcopy(methods.get("crw-r18", "test")), key: title}, "method", "row")
