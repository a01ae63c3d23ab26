"""Propagation split into parts gives the files, the numbers and the records of one job."""

import hashlib
import json
import shutil

import pytest
from conftest import ROOT
from flow import CONFIG, WARM, planned, snakemake, write

from corrbench.errors import Refusal
from corrbench.propagation.parts import merge, part_of, unfit
from corrbench.propagation.scoremaps import ScoreReader
from corrbench.report.table import read_table

ENTRY = "results/tiny-val/random-r18.random.warm"
RUNS = [{"methods": ["random-r18"], "weights": ["random"], "protocols": ["warm"], "benchmarks": ["tiny-val"]}]


def scores_hash(path):
    reader = ScoreReader(path)
    return hashlib.sha256(b"".join(scores.numpy().tobytes() for scores in reader)).hexdigest()


def test_shards_change_nothing(tmp_path):
    folders = {}
    for name, more in (("one", {}), ("two", {"shards": {"tiny-val": 2}})):
        folders[name] = tmp_path / name
        write(folders[name], {**CONFIG, "runs": RUNS, **more})
        snakemake(folders[name], "--", "results/table.csv")
    one, two = (json.loads((f / ENTRY / "propagation.json").read_text()) for f in folders.values())
    assert (folders["two"] / ENTRY / "parts/1of2.json").exists()
    assert one["record"] == two["record"] and one["key"] == two["key"] and one["frames"] == two["frames"]
    assert list(one["sequences"]) == list(two["sequences"])
    for sequence in one["sequences"]:
        a, b = (scores_hash(f / ENTRY / "labels" / f"{sequence}.npz") for f in folders.values())
        assert a == b
    a, b = (read_table(f / "results/table.csv").drop(columns=["fps", "peak_ram_mb"]) for f in folders.values())
    assert a.equals(b)

    write(folders["one"], {**CONFIG, "runs": RUNS, "shards": {"tiny-val": 2}})  # splitting a finished run later
    assert set(planned(folders["one"], "--", f"{ENTRY}/propagation.json")) == {"propagate_part", "gather"}
    snakemake(folders["one"], "--", f"{ENTRY}/propagation.json")
    after = json.loads((folders["one"] / ENTRY / "propagation.json").read_text())
    assert after["sequences"] == one["sequences"], "kept with their times, nothing computed again"


def test_stale_parts_are_removed_and_made_again(tmp_path):
    config = {**CONFIG, "runs": RUNS, "shards": {"tiny-val": 2}}
    write(tmp_path, config)
    snakemake(tmp_path, "--", f"{ENTRY}/propagation.json")
    shutil.rmtree(tmp_path / ".snakemake")
    write(tmp_path, config, {**WARM, "selection": {"temperature": 0.05}})
    assert set(planned(tmp_path, "--", f"{ENTRY}/propagation.json")) == {"propagate_part", "gather"}  # by their records
    snakemake(tmp_path, "--", f"{ENTRY}/propagation.json")
    record = json.loads((tmp_path / ENTRY / "propagation.json").read_text())["record"]
    assert record["settings"]["protocol"]["selection"]["temperature"] == 0.05


def test_score_files_of_another_run_are_seen(tmp_path):
    write(tmp_path, {**CONFIG, "runs": RUNS, "shards": {"tiny-val": 2}})
    snakemake(tmp_path, "--", f"{ENTRY}/propagation.json")
    part = json.loads((tmp_path / ENTRY / "parts/0of2.json").read_text())
    wanted = {name: part["record"][name] for name in ("settings", "inputs", "weights_sha256")}
    assert unfit(part, wanted, tmp_path / ENTRY / "labels") == ""
    assert unfit(part, {**wanted, "inputs": "other"}, tmp_path / ENTRY / "labels") == "other inputs"
    assert "replaced by another run" in unfit({**part, "key": "0"}, wanted, tmp_path / ENTRY / "labels")


def test_parts_hold_every_sequence_once():
    names = [f"s{i}" for i in range(7)]
    parts = [part_of(names, i, 3) for i in range(3)]
    assert sorted(name for part in parts for name in part) == names and max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(Refusal, match="part 3 of 3"):
        part_of(names, 3, 3)


def summary(names, **record):
    timing = {"frames": 2, "grid": "1x1", "seconds": 1.0, "fps": 2.0, "peak_ram_mb": 10.0, "peak_gpu_mb": None}
    return {"entry": "e", "key": str(record), "record": record, "sequences": {n: dict(timing) for n in names}}


def test_parts_that_do_not_belong_together_are_refused():
    with pytest.raises(Refusal, match="device: A100 and H100"):
        merge([summary(["a"], device="A100"), summary(["b"], device="H100")], ["a", "b"])
    with pytest.raises(Refusal, match=r"\['c'\] are missing"):
        merge([summary(["a"], device="A100"), summary(["b"], device="A100")], ["a", "b", "c"])
    merged = merge([summary(["a"], device="A"), summary(["b"], device="A")], ["b", "a"])
    assert list(merged["sequences"]) == ["b", "a"] and merged["frames"] == 4 and merged["fps"] == 2.0


def test_shards_are_explained_where_a_user_meets_them():
    assert "shards:" in (ROOT / "workflow/schemas/config.schema.yaml").read_text()
