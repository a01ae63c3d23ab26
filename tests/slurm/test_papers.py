"""The default config to its end on a real SLURM, at a tiny scale: rows of all five papers, one table, one page, the paper tables.

It takes a quarter of an hour on two cores, so it runs where CORRBENCH_LONG is set (docs/slurm.md).
"""

import os
import re

import pandas as pd
import pytest
from controllers import FAST, Controller, needs_slurm
from flow import ROOT
from papers import tiny_papers

from corrbench.config import Config
from corrbench.report.table import read_table

pytestmark = [
    *needs_slurm,
    pytest.mark.skipif("CORRBENCH_LONG" not in os.environ, reason="a quarter of an hour; set CORRBENCH_LONG"),
]
COUNTS = {"CRW": 1, "VFS": 4, "SFC": 7, "LIIR": 4, "MiVOS": 14}
REASONS = {"no such network here", "its rules are not known"}
"""Why a published row has no number although everything is there."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    site, checkout = tiny_papers(tmp_path_factory.mktemp("papers"))
    yield checkout
    site.httpd.shutdown()


def run(cluster, checkout, *more):
    controller = Controller(cluster, checkout, *FAST, "--set-threads", "propagate=1", "segment=1", "track=1", "probe=1", "pretrain=1", *more,
                            targets=("results/table.csv", "results/report.html"))  # fmt: skip
    assert controller.end(3600) == 0, controller.text[-6000:]
    return controller


def check(checkout, names, text):
    """Every entry has its row and its number, and no published row is left without a reason. `text`: what the run said."""
    (line,) = set(re.findall(r"Published rows: (.*)\.", text))
    assert dict(part.split(" ", 1) for part in line.split("; ")) == {paper: f"{n} run" for paper, n in COUNTS.items()}
    assert "Waiting for" not in text
    config = Config.of_files([ROOT / f"config/{name}.yaml" for name in names], {"tier": "smoke"})
    entries = [*config.entries, *(w.entry for w in config.waiting)]
    table = read_table(checkout / "results/table.csv").set_index(["benchmark", "entry"])
    assert set(table.index) == {e.key for e in entries} and len(table) == len(entries)
    for entry in entries:
        row = table.loc[entry.key]
        if entry.benchmark["scoring"] == "server":
            assert (checkout / "results" / entry.benchmark["name"] / entry.id / "submission.zip").is_file()
        else:
            assert row["success" if entry.probe is not None else "J&F"] >= 0, entry.key
    page = (checkout / "results/report.html").read_text()
    said = set()
    for benchmark in {e.benchmark["name"] for e in entries}:
        markdown = (checkout / f"results/paper/{benchmark}.md").read_text()
        assert f"paper/{benchmark}.md" in page
        rows = [line.split("|") for line in markdown.splitlines() if line.startswith("| ")]
        at = [cell.strip() for cell in rows[0]].index("verdict")
        said |= {cells[at].strip() for cells in rows[1:]}
    known = {"reproduced", "close", "differs", "packed for the evaluation server", *REASONS}
    assert {v for v in said if not v.startswith("measured as: ")} <= known, said
    given = table[table["weights"] == "masks"]
    assert set(given.loc["davis2017-val", "J&F"]) == {100.0} and set(given.loc["davis2016-val", "J&F"]) == {100.0}
    return table


def test_one_command_gives_the_tables_of_all_five_papers(cluster, world):
    controller = run(cluster, world)
    check(world, ["config"], controller.text)
    again = Controller(cluster, world, "-n", targets=("results/table.csv", "results/report.html"))
    assert again.end(120) == 0 and "Nothing to be done" in again.text, again.text[-3000:]


def test_the_rows_from_pretraining_come_beside_them(cluster, world):
    """Every method and stage that has a recipe, at tier smoke: the released rows stay as they are."""
    before = pd.read_csv(world / "results/table.csv").set_index(["benchmark", "entry"])["J&F"]
    more = ("--configfile", "config/config.yaml", "config/pretrain.yaml", "--config", "tier=smoke")
    controller = run(cluster, world, *more)
    table = check(world, ["config", "pretrain"], controller.text)
    smoke = table[table["tier"] == "smoke"]
    assert smoke["trained_on"].notna().all() and len(smoke) == 10 + 8 + 2 + 2 + 2 + 2
    pd.testing.assert_series_equal(table.loc[before.index, "J&F"], before)
    recipes = {p.parent.parent.name for p in (world / "results/pretrain").glob("*/smoke-seed0/checkpoint.pth")}
    assert {
        "crw",
        "fc",
        "vfs-r18",
        "vfs-r50",
        "mast",
        "liir-a",
        "liir-c-decoupled",
        "liir-d",
        "liir-e",
        "stm-0",
        "stm-1",
        "stm-2",
        "stm-02",
    } <= recipes
