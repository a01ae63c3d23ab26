"""Results that do not belong to what is asked are found by their own records, one kind of damage at a time."""

import json
import os
import shutil

import pytest
from report_world import config_of, rewrite, write_row

from corrbench.errors import Refusal
from corrbench.files import SEAL, file_hash, write_json
from corrbench.report.audit import Audit, audit
from corrbench.report.results import load_results
from corrbench.workflow import Notes


def found(folder, **changes):
    """What does not belong: {path below results: why}."""
    config = config_of(folder, **changes)
    look = Audit(config, Notes(config.results / ".versions", keep=False)).run()
    return {path.relative_to(config.results).as_posix(): why for path, why in look.items()}


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


def test_one_bit_of_a_weights_file(copy):
    """Planning compares what the file says of itself, the table its bytes."""
    folder = copy / "results/weights/random-r18/random"
    whole = file_hash(folder / "weights.pt")
    rewrite(folder / "report.json", lambda r: r.update(weights_file_sha256=whole))
    assert audit(config_of(copy)) == {}
    data = bytearray((folder / "weights.pt").read_bytes())
    data[-1] ^= 1
    (folder / "weights.pt").write_bytes(data)
    assert list(audit(config_of(copy)).values()) == ["weights.pt is not the file that it names"]


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


def test_a_path_that_was_mistyped_is_not_a_checkpoint_that_is_gone(copy):
    files = {"mine": {"path": str(copy / "epoch_200.pth")}}
    assert config_of(copy, files=files).converted_before() == []
    with pytest.raises(Refusal, match=r"no file .*epoch_200.pth; what was converted under this name is mine.pth"):
        config_of(copy, files=files).check_data()


def test_another_code_of_the_conversion_and_of_the_doctor(copy):
    for name in ("weights/random-r18/mine/report.json", "tiny-disk/data/inputs.json"):
        rewrite(copy / "results" / name, lambda record: record.update(code="0" * 12))
    assert {n: w for n, w in found(copy).items() if "code" in w} == {
        "weights/random-r18/mine/report.json": "code of the conversion changed",
        "tiny-disk/data/inputs.json": "code of the doctor changed",
    }


def test_parts_of_another_number_of_shards_block_nothing(copy):
    part = copy / "results" / WARM / "parts/0of4.json"
    part.parent.mkdir()
    shutil.copy(copy / "results" / WARM / "propagation.json", part)
    rewrite(part, lambda record: record.update(entry="another"))
    assert found(copy) == {}
    assert list(found(copy, shards={"tiny-disk": 4})) == [f"{WARM}/parts/0of4.json"]
