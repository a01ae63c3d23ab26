"""Results that do not belong to what is asked are found by their own records, one kind of damage at a time."""

import json
import os
import shutil

import pytest
import torch
import yaml
from conftest import ROOT

from corrbench.config import Config
from corrbench.datasets.opening import data_files
from corrbench.errors import Refusal
from corrbench.files import SEAL, file_hash, write_json, write_record
from corrbench.provenance import code_version
from corrbench.report.audit import Audit, settings_of, stage_of
from corrbench.report.results import load_results
from corrbench.workflow import Notes

ROWS = ROOT / "tests/data/rows"


def config_of(folder, **changes):
    values = {
        "results": str(folder / "results"), "device": "cpu", "rows": [str(folder / "rows")], "data": {"davis2017": str(folder / "disk")},
        "files": {"mine": {"path": str(folder / "mine.pth")}},
        "runs": [{"methods": ["identity"], "weights": ["none"], "benchmarks": ["tiny-disk"]},
                 {"methods": ["random-r18"], "weights": ["random", "mine"], "protocols": ["warm"], "benchmarks": ["tiny-disk"]}],
    }  # fmt: skip
    return Config({**values, **changes})


def write_row(folder, kind, row):
    path = folder / "rows" / kind / f"{row['name']}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(row))


def make(config):
    """Records as a finished run leaves them, without running anything."""
    results, notes = config.results, Notes(config.results / ".versions")
    (benchmark,) = config.all_benchmarks()
    settings = config.benchmark_settings(benchmark)
    for kind in ("inputs", "annotations"):
        files = data_files(config.data_root(benchmark), benchmark, config.sequences(benchmark), kind)
        record = {**settings, "kind": kind, "fingerprint": f"print of {kind}", "version": notes.version(files)}
        write_record(results / "tiny-disk/data" / f"{kind}.json", record)
    for weights in config.all_weights():
        report = {"method": weights.method, "encoder": config.rows.methods.get(weights.method, "t")["encoder"], "seed": weights.seed,
                  "sha256": f"numbers of {weights.path}"}  # fmt: skip
        path = config.checkpoint_path(weights)
        if path is not None:
            report["source"] = {"sha256": file_hash(path)}
        folder = results / "weights" / weights.path
        write_record(folder / "report.json", report)
        torch.save({"state_dict": {"w": torch.zeros(2)}, "extra": {}, "meta": report}, folder / "weights.pt")
    for entry in config.entries:
        folder = results / "tiny-disk" / entry.id
        stage = stage_of(entry)
        record = {"settings": settings_of(entry), "code": code_version(f"scripts/{stage}.py"), "inputs": "print of inputs",
                  "weights_sha256": [f"numbers of {w.path}" for w in entry.weights]}  # fmt: skip
        write_record(folder / "propagation.json", {"entry": entry.id, "key": entry.hash, "record": record})
        (folder / "masks/one").mkdir(parents=True)
        (folder / "masks/one/00000.png").write_bytes(entry.id.encode())
        masks = {"propagation": entry.hash, "settings": entry.postprocess_settings(), "code": code_version("scripts/postprocess.py"),
                 "files": {"one/00000.png": file_hash(folder / "masks/one/00000.png")}}  # fmt: skip
        write_record(folder / "masks/record.json", masks)
        made = {"annotations": "print of annotations", "code": code_version("scripts/evaluate.py"), "masks": masks}
        write_record(folder / "scores/scores.json", {"entry": entry.id, "global": {"J&F-Mean": 0.5}, "record": made})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    write_row(folder, "protocols", {"base": "crw", "name": "warm", "selection": {"temperature": 0.07}})
    row = yaml.safe_load((ROWS / "benchmarks/tiny-val.yaml").read_text())
    del row["generate"]
    write_row(folder, "benchmarks", {**row, "name": "tiny-disk", "data": "davis2017", "sequences": ["one"]})
    for kind, name in (("JPEGImages", "00000.jpg"), ("Annotations", "00000.png"), ("Annotations", "00001.png")):
        path = folder / "disk" / kind / "480p/one" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (folder / "mine.pth").write_bytes(b"a checkpoint")
    make(config_of(folder))
    return folder


@pytest.fixture
def copy(world, tmp_path):
    """The finished results, to damage."""
    folder = tmp_path / "copy"
    shutil.copytree(world, folder)
    for path in (folder / "results/.versions").glob("*"):
        path.unlink()
    return folder


def found(folder, **changes):
    """What does not belong: {path below results: why}."""
    config = config_of(folder, **changes)
    look = Audit(config, Notes(config.results / ".versions", keep=False)).run()
    return {path.relative_to(config.results).as_posix(): why for path, why in look.items()}


def rewrite(path, change, *, seal=True):
    record = json.loads(path.read_text())
    del record[SEAL]
    change(record)
    write_record(path, record) if seal else write_json(path, {**record, SEAL: json.loads(path.read_text())[SEAL]})


WARM, MINE = "tiny-disk/random-r18.random.warm", "tiny-disk/random-r18.mine.warm"


def test_what_belongs_is_left_alone(copy):
    assert found(copy) == {}
    assert not list((copy / "results/.versions").glob("*")), "without `keep` nothing is written"


def test_another_checkpoint_at_the_same_place(copy):
    (copy / "mine.pth").write_bytes(b"b checkpoint")
    assert found(copy) == {"weights/random-r18/mine/report.json": f"converted from another file than {copy}/mine.pth"}


def test_another_file_under_the_same_name(copy):
    (copy / "other.pth").write_bytes(b"other")
    wrong = found(copy, files={"mine": {"path": str(copy / "other.pth")}})
    assert list(wrong) == ["weights/random-r18/mine/report.json"] and "converted from another file" in str(wrong)


def test_a_checkpoint_that_is_gone_contradicts_nothing(copy):
    (copy / "mine.pth").unlink()
    config = config_of(copy)
    config.check_data()
    assert found(copy) == {} and config.converted_before() == ["mine"]
    (copy / "results/weights/random-r18/mine/weights.pt").unlink()
    with pytest.raises(Refusal, match=r"files.mine: no file"):
        config_of(copy).check_data()


def test_other_settings_in_words(copy):
    write_row(copy, "protocols", {"base": "crw", "name": "warm", "selection": {"temperature": 0.05}})
    why = "settings of propagate: protocol.selection.temperature: 0.07 -> 0.05"
    assert found(copy) == {f"{WARM}/propagation.json": why, f"{MINE}/propagation.json": why}


def test_another_decode_rule(copy):
    rule = {"base": "crw", "name": "warm", "selection": {"temperature": 0.07}, "decode": {"minmax": "epsilon"}}
    write_row(copy, "protocols", rule)
    wrong = found(copy)
    assert set(wrong) == {f"{e}/{f}" for e in (WARM, MINE) for f in ("masks/record.json", "scores/scores.json")}
    assert "decode.minmax" in wrong[f"{WARM}/masks/record.json"]


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("JPEGImages/480p/one/00000.jpg", ["inputs"]),
        ("Annotations/480p/one/00001.png", ["annotations"]),
        ("Annotations/480p/one/00000.png", ["inputs", "annotations"]),
    ],
)
def test_other_data(copy, file, kinds):
    path = copy / "disk" / file
    path.write_bytes(path.read_bytes().replace(b"0", b"1"))
    assert found(copy) == {f"tiny-disk/data/{kind}.json": "files of the data set changed" for kind in kinds}


def test_other_code(copy):
    rewrite(copy / "results" / WARM / "scores/scores.json", lambda r: r["record"].update(code="0"))
    rewrite(copy / "results" / MINE / "propagation.json", lambda r: r["record"].update(code="0"))
    assert found(copy) == {
        f"{WARM}/scores/scores.json": "code of the metric changed",
        f"{MINE}/propagation.json": "code of propagate changed",
    }


def test_a_number_that_was_edited(copy):
    rewrite(
        copy / "results" / WARM / "scores/scores.json", lambda r: r["global"].update({"J&F-Mean": 0.99}), seal=False
    )
    assert found(copy) == {f"{WARM}/scores/scores.json": "its content is not what was written"}
    with pytest.raises(
        Refusal, match=r"scores.json: its content is not what was written\n.*\n.*--forcerun .*scores.json"
    ):
        load_results(config_of(copy))


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"record": 3, "entry": []}', "\0"])
def test_records_that_are_none(copy, text):
    for name in ("propagation.json", "masks/record.json", "scores/scores.json"):
        (copy / "results" / WARM / name).write_text(text)
    (copy / "results/weights/random-r18/random/report.json").write_text(text)
    (copy / "results/tiny-disk/data/annotations.json").write_text(text)
    wrong = found(copy)
    assert {f"{WARM}/{name}" for name in ("propagation.json", "masks/record.json", "scores/scores.json")} <= set(wrong)
    assert {"weights/random-r18/random/report.json", "tiny-disk/data/annotations.json"} <= set(wrong)


@pytest.mark.parametrize("part", ["scores", "masks", "."])
def test_folders_of_another_entry(copy, part):
    own, other = copy / "results" / WARM / part, copy / "results" / MINE / part
    shutil.rmtree(own)
    shutil.copytree(other, own)
    wrong = found(copy)
    assert wrong and all(name.startswith(WARM) for name in wrong)


def test_masks_that_were_changed(copy):
    path = copy / "results" / WARM / "masks/one/00000.png"
    stat = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (path.parent / "00001.png").write_bytes(b"x")
    assert found(copy) == {f"{WARM}/masks/record.json": "masks that were changed since: one/00000.png, one/00001.png"}


def test_weights_exchanged_below_their_report(copy):
    folder = copy / "results/weights/random-r18"
    shutil.copy(folder / "mine/weights.pt", folder / "random/weights.pt")
    assert found(copy) == {"weights/random-r18/random/report.json": "weights.pt is not the file that it names"}
    (folder / "random/weights.pt").write_bytes(b"PK")
    assert "not a weights file" in found(copy)["weights/random-r18/random/report.json"]


def test_weights_and_report_of_others(copy):
    folder = copy / "results/weights/random-r18"
    for name in ("weights.pt", "report.json"):
        shutil.copy(folder / "mine" / name, folder / "random" / name)
    wrong = found(copy)
    assert "seed" in wrong["weights/random-r18/random/report.json"]
    assert wrong[f"{WARM}/propagation.json"] == "made with other weights"


def test_a_missing_result_is_no_contradiction(copy):
    shutil.rmtree(copy / "results" / WARM)
    assert found(copy) == {}
    with pytest.raises(Refusal, match=r"propagation.json: no such file"):
        load_results(config_of(copy))


def test_records_of_the_first_edition_are_read(copy):
    path = copy / "results" / WARM / "scores/scores.json"
    record = json.loads(path.read_text())
    del record[SEAL]
    write_json(path, record)
    assert found(copy) == {}
