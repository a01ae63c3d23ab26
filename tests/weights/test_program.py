"""scripts/convert.py: outputs, options and the report."""

import json
import sys

import pytest
import torch

from corrbench.errors import Refusal
from corrbench.files import file_hash, read_record
from corrbench.outputs import claim
from corrbench.weights.canonical import load_weights
from scripts.convert import main

SETTINGS = json.dumps({"encoder": {"arch": "resnet18"}, "released": None})


def program(monkeypatch, out, *arguments, method=("--method", "random-r18")):
    monkeypatch.setattr(sys, "argv", ["convert", *method, "--out", str(out), *map(str, arguments or ("--seed", 0))])
    main()


def test_report_and_weights_know_each_other(tmp_path, monkeypatch):
    out = tmp_path / "weights.pt"
    program(monkeypatch, out)
    report = read_record(tmp_path / "report.json")
    assert report["weights_file_sha256"] == file_hash(out) and report["sha256"] == load_weights(out).meta["sha256"]
    whole = out.read_bytes()
    data = bytearray(whole)
    data[len(data) // 2] ^= 1
    out.write_bytes(data)
    with pytest.raises(Refusal, match="weights.pt: a damaged file"):
        load_weights(out)
    program(monkeypatch, out)  # the remedy
    assert out.read_bytes() == whole


def test_what_a_report_says_of_a_wrapped_checkpoint(tmp_path, monkeypatch, capsys):
    program(monkeypatch, tmp_path / "weights.pt")
    state = torch.load(tmp_path / "weights.pt", weights_only=True)["state_dict"]
    other = {k: v + 1 for k, v in state.items()}
    raw = {"state_dict": {f"module.{k}": v for k, v in state.items()}, "state_dict_ema": other}
    torch.save(raw, tmp_path / "x.pth")
    program(monkeypatch, tmp_path / "a/weights.pt", "--checkpoint", tmp_path / "x.pth")
    said, report = capsys.readouterr().err, read_record(tmp_path / "a/report.json")
    assert (
        report["container"] == "state_dict"
        and report["stripped"] == ["module."]
        and "state_dict_ema" in report["notes"][0]
    )
    assert "stripped module." in said and "state_dict_ema" in said
    program(monkeypatch, tmp_path / "b/weights.pt", "--checkpoint", tmp_path / "x.pth", "--container", "state_dict_ema")
    assert read_record(tmp_path / "b/report.json")["container"] == "state_dict_ema"


def test_refused_outputs_and_options(tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(Refusal, match="thesis.txt: a file that scripts/convert.py did not write"):
        program(monkeypatch, tmp_path / "thesis.txt")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/report.json").write_text("{}")
    with pytest.raises(Refusal, match="report.json: a file that scripts/convert.py did not write"):
        program(monkeypatch, tmp_path / "d/weights.pt")
    assert (tmp_path / "thesis.txt").read_text() == "mine" and (tmp_path / "d/report.json").read_text() == "{}"
    torch.save({}, tmp_path / "x.pth")
    with pytest.raises(Refusal, match="the checkpoint itself"):
        program(monkeypatch, tmp_path / "x.pth", "--checkpoint", tmp_path / "x.pth")
    with pytest.raises(Refusal, match="a folder"):
        program(monkeypatch, tmp_path / "d/../d")
    with claim(tmp_path / "w.pt"), pytest.raises(Refusal, match="another run is writing it"):
        program(monkeypatch, tmp_path / "w.pt")
    for text in ("{", "[]", "{}"):
        with pytest.raises(Refusal, match="--settings"):
            program(monkeypatch, tmp_path / "w.pt", "--seed", 0, "--settings", text)


@pytest.mark.parametrize(("method", "words"), [("identity", "no network"), ("sfc", "a fusion")])
def test_methods_without_weights_of_their_own(method, words, tmp_path, monkeypatch):
    for source in (("--seed", 0), ("--checkpoint", tmp_path / "none.pth")):
        with pytest.raises(Refusal, match=f"method {method}: {words}"):
            program(monkeypatch, tmp_path / "w.pt", *source, method=("--method", method))
