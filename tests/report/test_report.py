"""Table, plots, overlays and paper tables from made-up results."""

import csv
import itertools

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from corrbench.config import Config
from corrbench.datasets.palette import save_mask
from corrbench.errors import Refusal
from corrbench.files import file_hash, write_record
from corrbench.report.leaderboard import page
from corrbench.report.overlays import WIDTH, overlay, sheet
from corrbench.report.paper import paper_markdown, paper_tables
from corrbench.report.plots import heat_map, leaderboard, quality_against_cost, save, sequence_frame
from corrbench.report.table import (
    COLUMNS,
    check_rows,
    markdown_table,
    read_checked_table,
    read_table,
    to_csv,
    to_markdown,
)


@pytest.fixture
def config():
    return Config({
        "data": {"davis2017": "/d"},
        "runs": [{"methods": ["crw-r18"], "weights": ["released", "random"], "benchmarks": ["davis2017-val"]},
                 {"methods": ["vfs-r18"], "weights": ["released"], "benchmarks": ["davis2017-val"]}],
    })  # fmt: skip


@pytest.fixture
def table(config):
    rows = []
    for entry, score in zip(config.entries, (67.5, 40.0, 60.0), strict=True):
        row = dict.fromkeys(COLUMNS)
        row |= {"entry": entry.id, "method": entry.method["method"], "backbone": entry.method["backbone"], "weights": entry.source,
                "benchmark": "davis2017-val", "protocol": entry.protocol.name, "protocol_hash": entry.protocol.hash, "J&F": score,
                "J-mean": score - 3, "F-mean": score + 3, "fps": 3.0, "device": "cpu"}  # fmt: skip
        rows.append(row)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["published"] = [67.606, np.nan, 66.7]
    frame["delta"] = frame["J&F"] - frame["published"]
    frame["verdict"] = ["reproduced", None, "differs"]
    frame["band"] = [0.3, np.nan, 1.0]
    return frame


def test_paper_table_has_every_published_row(config, table):
    papers = paper_tables(config, table)
    frame = papers["davis2017-val"].set_index("row")
    assert len(frame) == 33
    assert frame.loc["CRW R18", "verdict"] == "reproduced" and frame.loc["CRW R18", "delta"] == pytest.approx(
        67.5 - 67.606
    )
    assert frame.loc["VFS R18", "verdict"] == "differs"
    assert frame.loc["SFC (FC + MoCo-v1)", "verdict"] == "not run"
    assert set(frame["verdict"]) == {
        "reproduced",
        "differs",
        "not run",
        "no such network here",
        "its rules are not known",
        "measured as: CRW R18",
    }
    assert "| CRW R18 |" in paper_markdown("davis2017-val", papers["davis2017-val"])


def test_paper_table_shows_released_and_trained_weights():
    config = Config({
        "data": {"davis2017": "/d", "kinetics400": "/k"},
        "runs": [{"methods": ["crw-r18"], "weights": ["paper", "released", "paper-seed1"], "benchmarks": ["davis2017-val"]}],
    })  # fmt: skip
    measured = [
        {"benchmark": "davis2017-val", "entry": e.id, "J&F": j, "J-mean": j, "F-mean": j, "delta": 0.0, "verdict": "close"}
        for e, j in zip(config.entries, (66.9, 67.6, 67.0), strict=True)
    ]  # fmt: skip
    frame = paper_tables(config, pd.DataFrame(measured))["davis2017-val"]
    rows = frame[frame["row"] == "CRW R18"]
    assert list(rows["J&F reproduced"]) == [67.6, 66.9, 67.0], "the authors' weights first"


def test_protocols_are_listed_apart_and_ranked_within(table):
    text = to_markdown(table)
    assert text.count("## davis2017-val, protocol") == 2
    assert text.index("crw-r18.released.crw") < text.index("crw-r18.random.crw")


def test_csv_has_the_stated_columns_and_two_decimals(table):
    lines = to_csv(table).splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert ",67.50," in lines[1]


@pytest.mark.parametrize(
    "title", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "'quoted'", "a|b", 'a,"b"', "a\nb", "NA", "1e5", "null"]
)
def test_titles_come_back_and_no_spreadsheet_runs_them(config, table, tmp_path, title):
    table["method"] = title
    (tmp_path / "table.csv").write_text(to_csv(table))
    with (tmp_path / "table.csv").open(newline="") as file:
        cells = [row["method"] for row in csv.DictReader(file)]
    assert not cells[0].startswith(("=", "+", "-", "@", "\t", "\r"))
    back = read_table(tmp_path / "table.csv")
    assert list(back["method"]) == [title] * 3 and back["delta"].iloc[2] == pytest.approx(-6.7)
    table["entry"] = title
    rows = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
    assert len(rows) == 7 and len({line.replace("\\|", "").count("|") for line in rows}) == 1


@pytest.fixture
def written(table, tmp_path):
    """A table as the program leaves it."""
    for name, text in (("table.csv", to_csv(table)), ("table.md", to_markdown(table))):
        (tmp_path / name).write_text(text)
    made = {"csv": file_hash(tmp_path / "table.csv"), "markdown": file_hash(tmp_path / "table.md")}
    write_record(tmp_path / "provenance.json", {"rows": [], "made": made})
    return tmp_path / "table.csv"


def test_a_table_is_what_was_written(config, table, written):
    found, sha256 = read_checked_table(written)
    check_rows(config, found, written)
    assert list(found["entry"]) == list(table["entry"]) and sha256 == file_hash(written)


@pytest.mark.parametrize("name", ["table.csv", "table.md"])
def test_an_edited_table_is_refused(written, name):
    path = written.with_name(name)
    path.write_text(path.read_text().replace("67.50", "99.50"))
    with pytest.raises(Refusal, match=rf"{name}: not the file(.|\n)*--forcerun"):
        read_checked_table(written)


def test_a_table_that_nothing_vouches_for_is_refused(written):
    written.with_name("provenance.json").unlink()
    with pytest.raises(Refusal, match=r"provenance.json: no such file"):
        read_checked_table(written)


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", '"', "\0", ",".join(COLUMNS) + "\n" + ",".join("x" * len(COLUMNS)) + "\n"]
)
def test_files_that_are_no_table_are_refused(written, text):
    written.write_text(text)
    with pytest.raises(Refusal, match=r"table.csv: "):
        read_checked_table(written)


def test_a_table_of_other_entries_is_refused(config, table, written):
    with pytest.raises(
        Refusal, match=r"rows of other entries than the config's \(davis2017-val crw-r18.released.crw\)"
    ):
        check_rows(config, table.iloc[1:], written)


def test_markdown_cells():
    frame = pd.DataFrame({"a": [1.0, np.nan], "b": ["x", None]})
    assert markdown_table(frame).splitlines()[2:] == ["| 1.00 | x |", "|  |  |"]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_plots_are_drawn(table, tmp_path, suffix):
    by_sequence = sequence_frame({e: {"dog": 0.5, "cows": 0.9} for e in table["entry"]})
    for name, figure in {
        "leaderboard": leaderboard(table, "davis2017-val"),
        "sequences": heat_map(by_sequence, "davis2017-val"),
        "cost": quality_against_cost(table, "davis2017-val"),
    }.items():
        save(figure, tmp_path / f"{name}{suffix}")
        assert (tmp_path / f"{name}{suffix}").stat().st_size > 5000


@pytest.mark.parametrize("speeds", [(0.78, 4.19, 4.31), (0.99,), (40.0, 55.0), (0.4, 900.0, 31.0)])
def test_ticks_of_the_cost_axis_are_plain_numbers_side_by_side(table, speeds):
    part = table.iloc[: len(speeds)].assign(fps=speeds)
    figure = quality_against_cost(part, "davis2017-val")
    axis = figure.axes[0].xaxis
    figure.draw_without_rendering()
    low, high = axis.get_view_interval()
    labels = [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    assert labels and all(float(label.get_text()) > 0 for label in labels)
    assert not any(t.label1.get_text() for t in axis.get_minor_ticks())
    boxes = [label.get_window_extent() for label in labels]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


def test_equal_tables_give_equal_svg(table, tmp_path):
    for name in ("a.svg", "b.svg"):
        save(leaderboard(table, "davis2017-val"), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_overlay_marks_what_is_wrong():
    image = np.full((60, 60, 3), 100, np.uint8)
    truth, guess = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.uint8)
    truth[10:30, 10:30] = 1
    guess[10:30, 20:50] = 1
    picture = overlay(image, guess, truth)
    assert (picture[15, 25] != 100).any(), "the mask is tinted"
    assert (picture[12:28, 9:12].min(axis=2) > 200).any(), "what was missed is outlined in white"
    assert ((picture[:, :, 0] > 200) & (picture[:, :, 1] < 120) & (picture[:, :, 2] > 200)).any(), (
        "what is extra in magenta"
    )
    assert (picture[50:, 50:] == 100).all()


def test_sheet_has_a_strip_for_each_sequence(tiny_davis, tmp_path):
    for name in tiny_davis.sequences:
        (tmp_path / name).mkdir()
        for path in tiny_davis.sequence(name).annotations:
            save_mask(tmp_path / name / path.name, np.zeros((48, 80), np.uint8))
    picture = sheet(tiny_davis, tmp_path, "title", single_object=False)
    height = round(48 * WIDTH / 80)
    assert picture.shape == (44 + 2 * height, 3 * WIDTH, 3)


def test_page_names_every_entry_and_needs_no_network(config, table):
    text = page(config, table, ["davis2017-val"])
    for entry in config.entries:
        assert entry.id in text
    assert "http" not in text
    assert (ROOT / "results/README.md").exists()
