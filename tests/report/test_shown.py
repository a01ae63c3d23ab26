"""The table, the plots and the page against what lies there: each names what it was made of."""

import json

import pytest
from report_world import config_of, rewrite

from corrbench.files import digest, file_hash, write_record
from corrbench.provenance import code_version
from corrbench.report.audit import Audit
from corrbench.report.records import mark
from corrbench.report.shown import ANOTHER, audit_shown, targets_version
from corrbench.workflow import Notes


def show(folder):
    """A table, a page and the record of the plots, as the programs write them."""
    config = config_of(folder)
    results, look = config.results, Audit(config)
    (results / "table.csv").write_text("a table")
    (results / "table.md").write_text("a table")
    rows = [{"entry": e.id, "benchmark": "tiny-disk", "records": look.row_records(e)} for e in config.entries]
    made = {"code": code_version("scripts/table.py"), "targets": targets_version(config, Notes(results / ".versions")),
            "waiting": digest([]), "csv": file_hash(results / "table.csv"), "markdown": file_hash(results / "table.md")}  # fmt: skip
    write_record(results / "provenance.json", {"rows": rows, "made": made})
    (results / "report.html").write_text(mark(made["csv"]))
    write_record(results / "plots/tiny-disk/record.json", {"table": made["csv"]})


@pytest.fixture
def shown(copy):
    show(copy)
    return copy


def found(folder, **changes):
    config = config_of(folder, **changes)
    return {p.relative_to(config.results).as_posix(): why for p, why in audit_shown(config).items()}


def test_what_belongs_is_left_alone(shown):
    assert found(shown) == {}


def test_a_table_of_other_entries(shown):
    assert found(shown, runs=config_of(shown).values["runs"][:1]) == {"table.csv": "rows of other entries"}


def test_a_table_of_other_results(shown):
    entry = "random-r18.random.warm"
    rewrite(shown / "results/tiny-disk" / entry / "scores/scores.json", lambda r: r["global"].update({"J&F-Mean": 0.6}))
    assert found(shown) == {"table.csv": f"rows of other results: {entry}"}


@pytest.mark.parametrize("name", ["table.csv", "table.md"])
def test_an_edited_table(shown, name):
    (shown / "results" / name).write_text("another table")
    wrong = found(shown)
    assert wrong.pop("table.csv") == f"{name} is not what was written"
    assert wrong == ({"report.html": ANOTHER, "plots/tiny-disk/record.json": ANOTHER} if name == "table.csv" else {})


def test_a_page_of_another_table(shown):
    (shown / "results/report.html").write_text("<html>")
    write_record(shown / "results/plots/tiny-disk/record.json", {"table": "0"})
    assert found(shown) == {"report.html": ANOTHER, "plots/tiny-disk/record.json": ANOTHER}


@pytest.mark.parametrize("text", ["", "3", '{"rows": 3}', '{"rows": [3, {"entry": []}], "made": 4}'])
def test_a_provenance_that_is_none(shown, text):
    (shown / "results/provenance.json").write_text(text)
    assert found(shown)["table.csv"]


def test_numbers_of_a_provenance_that_was_edited(shown):
    path = shown / "results/provenance.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rows": []}))
    assert found(shown) == {"table.csv": "provenance.json: its content is not what was written"}


def test_other_rows_that_wait(shown):
    """They are in table.md, so a table that names others is made again."""
    run = {"methods": ["vfs-r18-object"], "weights": ["released"], "benchmarks": ["otb100"]}
    runs = [*config_of(shown).values["runs"], run]
    assert found(shown, runs=runs, missing="skip", data={**config_of(shown).values["data"], "otb100": "download"}) == {
        "table.csv": "other rows wait"
    }
