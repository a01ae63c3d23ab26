"""Every checkpoint family through the converter, and everything that it must refuse."""

import argparse
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import checkpoints

from corrbench.encoders.build import build
from corrbench.errors import Refusal
from corrbench.files import file_hash
from corrbench.weights.canonical import content_hash, load_weights, save_weights
from corrbench.weights.convert import convert, random_weights
from corrbench.weights.families import FAMILIES, detect, family
from corrbench.weights.load import load_encoder
from corrbench.weights.opening import read_checkpoint

COUNTS = {"stm": 597, "resnet18": 120, "resnet50": 318, "resnet18_hr": 114}


def write(tmp_path, raw):
    path = tmp_path / "any-name.bin"
    torch.save(raw, path)
    return path


@pytest.mark.parametrize("case", checkpoints.CASES)
def test_every_family_bit_for_bit(case, tmp_path, methods):
    torch.manual_seed(0)
    raw, method, canonical, name, extra = checkpoints.build(case)
    row = methods.get(method, "test")
    expected_family = None if "training" in case else row["released"]["family"]
    path = write(tmp_path, raw)
    weights = convert(path, encoder=row["encoder"], method=method, family=expected_family)
    assert weights.meta["family"] == name
    assert len(weights.state_dict) == COUNTS[weights.meta["arch"]]
    assert set(weights.extra) == extra
    for key, value in canonical.items():
        assert torch.equal(weights.state_dict[key], value), key
    total = weights.meta["counts"]
    source = next((raw[k] for k in ("model", "state_dict") if k in raw), raw)
    assert total["matched"] + total["extra"] + sum(total["dropped"].values()) == len(source), (
        "every source key is accounted for"
    )
    assert weights.meta["source"]["sha256"] == file_hash(path)
    # the file reloads bit for bit, and the network takes it strictly
    save_weights(tmp_path / "weights.pt", weights)
    again = load_weights(tmp_path / "weights.pt")
    assert content_hash(again) == weights.meta["sha256"] == again.meta["sha256"]
    net = load_encoder(row["encoder"], [tmp_path / "weights.pt"], torch.device("cpu"))
    assert net.stride == {"resnet18_hr": 4, "stm": 16}.get(weights.meta["arch"], 8)


def test_each_released_row_has_a_known_family_and_a_case(methods):
    rows = [methods.get(name, "test") for name in methods]
    for row in rows:
        if "released" in row:
            family(row["released"]["family"])
    covered = {checkpoints.build(case)[3] for case in checkpoints.CASES}
    assert covered == {f.name for f in FAMILIES}


@pytest.mark.parametrize(("arch", "count"), [("resnet18", 90), ("resnet50", 258)])
def test_layer4_may_be_missing_as_a_whole(arch, count, tmp_path, methods):
    row = methods.get("vfs-r18" if arch == "resnet18" else "vfs-r50", "test")
    state = {k: v for k, v in checkpoints.resnet(arch).items() if not k.startswith("layer4.")}
    weights = convert(write(tmp_path, {"state_dict": state}), encoder=row["encoder"], method="x")
    assert len(weights.state_dict) == count and weights.meta["counts"]["layer4"] is False
    save_weights(tmp_path / "w.pt", weights)
    load_encoder(row["encoder"], [tmp_path / "w.pt"], torch.device("cpu"))
    with pytest.raises(Refusal, match="layer4"):
        load_encoder({**row["encoder"], "layer": "layer4"}, [tmp_path / "w.pt"], torch.device("cpu"))


def crw(methods, change=None, **more):
    raw, method, *_ = checkpoints.build("crw")
    if change:
        change(raw["model"])
    return raw, {"encoder": methods.get(method, "test")["encoder"], "method": method, **more}


def missing(model):
    del model["encoder.model.layer2.0.conv1.weight"]


def one_counter_missing(model):
    del model["encoder.model.bn1.num_batches_tracked"]


def part_of_layer4_missing(model):
    del model["encoder.model.layer4.1.bn2.weight"]


def unexpected(model):
    model["encoder.model.extra_head.weight"] = torch.zeros(1)


def duplicate(model):
    model["encoder.model.layer2.0.conv1.1.weight"] = model["encoder.model.layer2.0.conv1.weight"]


def wrong_shape(model):
    model["encoder.model.layer2.0.conv1.weight"] = torch.zeros(3, 3)


def not_finite(model):
    model["encoder.model.layer2.0.conv1.weight"][0, 0, 0, 0] = float("nan")


def negative_variance(model):
    model["encoder.model.bn1.running_var"][0] = -1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing, r"missing key\(s\) of resnet18: layer2.0.conv1.weight"),
        (one_counter_missing, "bn1.num_batches_tracked"),
        (part_of_layer4_missing, "layer4.1.bn2.weight"),
        (unexpected, r"unexpected key\(s\) .*encoder.model.extra_head.weight"),
        (duplicate, "both become 'layer2.0.conv1.weight'"),
        (wrong_shape, r"layer2.0.conv1.weight has shape \(3, 3\)"),
        (not_finite, "layer2.0.conv1.weight holds values that are not finite"),
        (negative_variance, "bn1.running_var holds variances that are negative"),
    ],
)
def test_damaged_checkpoints_are_refused_by_name(change, message, tmp_path, methods):
    raw, arguments = crw(methods, change)
    with pytest.raises(Refusal, match=message) as refusal:
        convert(write(tmp_path, raw), **arguments)
    assert "any-name.bin" in str(refusal.value) and "what to do" in str(refusal.value)


def test_liir_is_no_resnet18(tmp_path, methods):
    raw, *_ = checkpoints.build("liir-ape")
    with pytest.raises(Refusal, match=r"weights of a resnet18_hr\n  expected: weights of a resnet18 "):
        convert(write(tmp_path, raw), encoder=methods.get("crw-r18", "t")["encoder"], method="crw-r18")
    # stripped of its prefix it would load half-way into a ResNet-18: refused by its shapes
    state = {
        k.removeprefix("feature_extraction."): v
        for k, v in raw["state_dict"].items()
        if k.startswith("feature_extraction.layer") or "conv1" in k or "bn1" in k
    }
    with pytest.raises(Refusal, match="layer4"):
        convert(
            write(tmp_path, {"state_dict": state}), encoder=methods.get("vfs-r18", "t")["encoder"], method="vfs-r18"
        )


def test_liir_without_position_map_or_output_convolution(tmp_path, methods):
    raw, method, *_ = checkpoints.build("liir-ape")
    del raw["state_dict"]["feature_extraction.pos_embed1"]
    with pytest.raises(Refusal, match="missing key.*pos_embed1"):
        convert(write(tmp_path, raw), encoder=methods.get(method, "t")["encoder"], method=method)


def test_another_family_than_the_row_names(tmp_path, methods):
    raw, *_ = checkpoints.build("moco")
    with pytest.raises(Refusal, match=r"a moco checkpoint\n  expected: a simsiam checkpoint"):
        convert(
            write(tmp_path, raw),
            encoder=methods.get("simsiam-r50", "t")["encoder"],
            method="simsiam-r50",
            family="simsiam",
        )


def test_unknown_and_ambiguous_families():
    with pytest.raises(Refusal, match="fit no known checkpoint family; they begin a.b, c"):
        detect(["a.b", "c"], None)
    keys = [*checkpoints.build("simsiam")[0]["state_dict"], *checkpoints.build("moco")[0]["state_dict"]]
    with pytest.raises(Refusal, match="several checkpoint families: moco, simsiam"):
        detect(keys, "state_dict")
    with pytest.raises(Refusal, match="did you mean 'simsiam'"):
        family("simsia")


class Stranger:
    """Something that a pickle must not bring in unasked."""


def test_pickles_with_foreign_objects_need_an_opt_in(tmp_path, methods):
    raw, arguments = crw(methods)
    path = write(tmp_path, {**raw, "args": Stranger()})
    with pytest.raises(Refusal, match="trust_pickle"):
        convert(path, **arguments)
    assert convert(path, trust_pickle=True, **arguments).meta["family"] == "crw"
    assert convert(write(tmp_path, {**raw, "args": argparse.Namespace(a=1)}), **arguments).meta["family"] == "crw"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such checkpoint"), (b"not a checkpoint", "not a readable checkpoint|more than tensors")],
)
def test_missing_and_unreadable_files(content, message, tmp_path, methods):
    _, arguments = crw(methods)
    path = tmp_path / "file.pth"
    if content:
        path.write_bytes(content)
    with pytest.raises(Refusal, match=message):
        convert(path, **arguments)


def test_no_tensors(tmp_path, methods):
    _, arguments = crw(methods)
    with pytest.raises(Refusal, match="no tensors found"):
        convert(write(tmp_path, {"epoch": 3}), **arguments)


def test_published_hash_is_checked(tmp_path, methods):
    raw, arguments = crw(methods)
    path = write(tmp_path, raw)
    right = {"algorithm": "sha256", "value": file_hash(path)[:8], "on_mismatch": "refuse"}
    assert convert(path, claim=right, **arguments).meta["source"]["claim"]["matches"] is True
    wrong = {**right, "value": "00000000"}
    with pytest.raises(Refusal, match="published is 00000000"):
        convert(path, claim=wrong, **arguments)
    assert (
        convert(path, claim={**wrong, "on_mismatch": "warn"}, **arguments).meta["source"]["claim"]["matches"] is False
    )


def test_canonical_file_that_was_altered_is_refused(tmp_path, methods):
    encoder = methods.get("random-r18", "t")["encoder"]
    weights = random_weights(encoder, method="random-r18", seed=0)
    save_weights(tmp_path / "w.pt", weights)
    weights.state_dict["conv1.weight"][0] += 1
    save_weights(tmp_path / "altered.pt", weights)
    load_weights(tmp_path / "w.pt")
    with pytest.raises(Refusal, match="do not have the hash"):
        load_weights(tmp_path / "altered.pt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.pt")
    with pytest.raises(Refusal, match="not in the canonical format"):
        load_weights(tmp_path / "foreign.pt")
    with pytest.raises(Refusal, match="no such weights file"):
        load_weights(tmp_path / "nowhere.pt")
    with pytest.raises(Refusal, match="weights of a resnet18\n  expected: weights of a resnet50"):
        load_encoder(methods.get("random-r50", "t")["encoder"], [tmp_path / "w.pt"], torch.device("cpu"))


def test_random_weights_depend_on_the_seed_only(methods):
    for name in ("random-r18", "random-hr"):
        encoder = methods.get(name, "t")["encoder"]
        torch.manual_seed(5)
        first = random_weights(encoder, method=name, seed=0).meta["sha256"]
        state = torch.random.get_rng_state()
        assert random_weights(encoder, method=name, seed=0).meta["sha256"] == first
        assert torch.equal(state, torch.random.get_rng_state()), "the caller's random state is left alone"
        assert random_weights(encoder, method=name, seed=1).meta["sha256"] != first
    build(encoder)


@pytest.mark.parametrize(
    "content", [b"", b"half a file", b"<!DOCTYPE html><html>", b"PK\x03\x04 cut", b"\x80\x02}q\x00.", bytes(range(256))]
)
def test_files_that_are_no_checkpoint(content, tmp_path):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(Refusal, match="broken.pth: "):
        read_checkpoint(path)


def test_a_checkpoint_that_is_written_meanwhile_is_refused(tmp_path, methods, monkeypatch):
    """A training that rewrites its last.pth: the report must not name a file whose numbers were never read."""
    from corrbench.weights import convert as module

    raw, arguments = crw(methods)
    path = write(tmp_path, raw)

    def slowly(path, **options):
        value = read_checkpoint(path, **options)
        torch.save({**raw, "epoch": 7}, path)
        return value

    monkeypatch.setattr(module, "read_checkpoint", slowly)
    with pytest.raises(Refusal, match="changed while it was read"):
        convert(path, **arguments)


def test_weights_replaced_after_they_were_recorded(tmp_path, methods):
    row = methods.get("random-r18", "t")
    path = tmp_path / "w.pt"
    save_weights(path, random_weights(row["encoder"], method="random-r18", seed=0))
    recorded = load_weights(path).meta["sha256"]
    load_encoder(row["encoder"], [path], torch.device("cpu"), sha256=[recorded])
    save_weights(path, random_weights(row["encoder"], method="random-r18", seed=1))
    with pytest.raises(Refusal, match="was replaced while it was read"):
        load_encoder(row["encoder"], [path], torch.device("cpu"), sha256=[recorded])


@pytest.mark.parametrize(
    ("case", "key"), [("timecycle", "module.encoderVideo.neck.weight"), ("uvc", "module.gray_encoder.neck.weight")]
)
def test_a_strange_tensor_of_the_encoder_is_no_training_head(tmp_path, case, key, methods):
    raw, method, *_ = checkpoints.build(case)
    raw["state_dict"][key] = torch.zeros(3)
    torch.save(raw, tmp_path / "x.pth")
    with pytest.raises(Refusal, match="1 unexpected key"):
        convert(tmp_path / "x.pth", encoder=methods.get(method, "test")["encoder"], method=method)
