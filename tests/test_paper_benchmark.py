"""The benchmark of the papers, config/config.yaml: every published row, and what waits for a person."""

import json

import pandas as pd
import pytest
from conftest import ROOT

from corrbench.config import Config
from corrbench.errors import Refusal
from corrbench.files import canonical_json
from corrbench.report.paper import paper_tables
from corrbench.report.table import COLUMNS, to_markdown
from corrbench.report.targets import coverage, read_targets, target_of

PAPERS = {"CRW": 1, "VFS": 4, "SFC": 7, "LIIR": 4, "MiVOS": 14}


def paper(*names, **changes):
    return Config.of_files([ROOT / "config" / f"{name}.yaml" for name in names], changes)


def test_every_published_row_of_the_five_papers_is_asked_for_once():
    found = coverage(paper("config"))
    assert {name: sum(map(len, rows.values())) for name, rows in found.items()} == PAPERS
    assert all(set(rows) <= {"run", "wait"} for rows in found.values()), found
    ids = [target.values["id"] for target in read_targets(paper("config"))]
    assert len(ids) == len(set(ids))
    config = paper("config")
    everything = [*config.entries, *(w.entry for w in config.waiting)]
    assert len({e.key for e in everything}) == len(everything)


def test_masks_that_authors_give_have_the_published_number_of_their_row():
    config = paper("config")
    given = [e for e in (*config.entries, *(w.entry for w in config.waiting)) if e.given is not None]
    targets = {e.method["name"]: target_of(e, read_targets(config), subset=False) for e in given}
    assert len(targets) == 18 and all(targets.values())


def test_pretrained_rows_stand_beside_released_ones():
    """Of every method with a recipe; the tier is said once."""
    both, alone = (
        [*c.entries, *(w.entry for w in c.waiting)]
        for c in (paper("config", "pretrain", tier="short"), paper("config"))
    )
    pretrained = [e for e in both if e.source == "short"]
    with_recipe = {e.method["name"] for e in alone if "recipe" in e.method}
    assert with_recipe | {"sfc"} == {e.method["name"] for e in pretrained}
    assert len(both) == len(alone) + len(pretrained)
    with pytest.raises(Refusal, match="tier"):
        paper("config", "pretrain", tier="huge")


def test_what_waits_is_told_with_what_to_do_and_does_not_stop_the_rest():
    config = paper("config")
    config.check_data()
    assert {need.name for w in config.waiting for need in w.needs} == {
        "got10k",
        "youtube-vos-val",
        "youtube-vos-2018-val",
        "mivos-results",
    }
    assert not [e for e in config.entries if e.benchmark["name"].startswith("ytvos")]
    there = paper("config", data={"got10k": "/data/GOT-10k"})
    assert {n.name for w in there.waiting for n in w.needs} == {
        "youtube-vos-val",
        "youtube-vos-2018-val",
        "mivos-results",
    }
    with pytest.raises(Refusal, match=r"data.got10k: no folder /data/GOT-10k"):
        there.check_data()  # a root that is named is taken to be there
    with pytest.raises(Refusal, match=r"needs data\.got10k"):
        paper("config", missing="refuse").check_data()


def test_programs_of_a_run_see_what_the_workflow_saw(tmp_path):
    """A file that somebody places meanwhile changes nothing of a run."""
    config = paper("config")
    passed = Config.from_argument(canonical_json(config.values))
    assert [e.key for e in passed.entries] == [e.key for e in config.entries]
    assert [(w.entry.key, w.needs) for w in passed.waiting] == [(w.entry.key, w.needs) for w in config.waiting]
    values = {**json.loads(canonical_json(config.values)), "data": {**config.values["data"], "got10k": str(tmp_path)}}
    assert len(Config(values).entries) == len(config.entries)


def test_a_config_of_which_nothing_can_run_is_refused():
    with pytest.raises(Refusal, match=r"no entry can run yet(.|\n)*YouTube-VOS 2019"):
        Config(
            {
                "missing": "skip",
                "runs": [{"methods": ["mivos-s012"], "weights": ["released"], "benchmarks": ["ytvos2019-val"]}],
            }
        )


def test_tables_say_why_a_row_has_no_number(monkeypatch):
    config = paper("config")
    monkeypatch.setattr(config, "is_subset", lambda benchmark: False)
    rows = [dict.fromkeys(COLUMNS) | {"benchmark": e.benchmark["name"], "entry": e.id, "protocol": e.protocol.name, "protocol_hash": e.protocol.hash,
                                      "J&F": 50.0 if e.benchmark["scoring"] != "server" else None, "verdict": "differs"} for e in config.entries]  # fmt: skip
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    papers = {name: frame.set_index("row") for name, frame in paper_tables(config, table).items()}
    davis = papers["davis2017-val"]
    assert not any("not run" in set(frame["verdict"]) for frame in papers.values())
    assert davis.loc["DenseCL R50", "verdict"] == "no such network here"
    assert davis.loc["ImageNet R50", "verdict"] == "its rules are not known"
    assert davis.loc["CRW R18 as cited", "verdict"] == "measured as: CRW R18"
    assert list(davis.index)[-1] not in ("MiVOS", "CRW R18"), "what nobody can run comes last"
    assert {f"{m} {side}" for m in ("J-Recall", "F-Decay", "fps") for side in ("published", "reproduced")} <= set(
        davis.columns
    )
    assert set(papers["davis2017-test-dev"]["verdict"]) == {
        "packed for the evaluation server",
        "waiting for mivos-results",
    }
    youtube = papers["ytvos2019-val"]
    assert set(youtube.loc["MiVOS", "J-unseen published"]) == {77.3} and "J-Mean published" not in youtube.columns
    waits = youtube.set_index("entry")["verdict"]
    assert waits["mivos-s012.released.mivos-ytvos"] == "waiting for youtube-vos-val"
    assert waits["mivos-s012-yv19.masks.given"] == "waiting for youtube-vos-val and mivos-results"
    assert "| mivos-s012.released.mivos-ytvos | ytvos2019-val | YouTube-VOS 2019 val, all frames |" in to_markdown(
        table, config.waiting
    )
    assert "## Waiting" not in to_markdown(table)
