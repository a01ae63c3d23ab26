import subprocess
import time

import numpy as np
import pytest
import torch
import warm
from conftest import ROOT
from runs import same_state
from tracks import command, make_tracks, make_weights, train

from corrbench.datasets.got10k import TrackReader, build_track_index
from corrbench.datasets.synthetic_tracks import write_got10k
from corrbench.errors import Refusal
from corrbench.pretraining.schedule import factor
from corrbench.tracking.probe import Model, Options, Source, augment, center_crop
from corrbench.weights.canonical import load_weights


def raw(path):
    weights = load_weights(path)
    return {"state_dict": weights.state_dict, "extra": weights.extra, "meta": weights.meta}


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    return make_tracks(tmp_path_factory.mktemp("tracks"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return make_weights(tmp_path_factory.mktemp("weights") / "weights.pt")


def test_learning_rate_of_the_reference():
    schedule = {"kind": "exponential", "final": 0.01}
    rates = [1e-3 * factor(schedule, e * 1166 + 5, total=58300, steps_per_epoch=1166, batch=8) for e in (0, 1, 49)]
    assert rates == pytest.approx([1e-3, 0.912011e-3, 1.096e-5], rel=1e-3)


def test_crops_of_a_pair(tmp_path):
    write_got10k(tmp_path, videos=1, frames=4, height=200, width=260)
    reader = TrackReader(tmp_path, build_track_index(tmp_path))
    source = Source(Options())
    pair = source.epoch(reader.index, np.random.default_rng(0))[0]
    crops = source.load(reader, pair, np.random.default_rng(1))
    assert crops["z"].shape == (3, 120, 120) and crops["x"].shape == (3, 239, 239) and crops["z"].dtype == torch.uint8
    again = source.load(reader, pair, np.random.default_rng(1))
    assert all(torch.equal(crops[k], again[k]) for k in crops)
    other = source.load(reader, pair, np.random.default_rng(2))
    assert not torch.equal(crops["x"], other["x"])


def test_augmentation_moves_by_four_pixels_and_stretches_by_five_percent():
    patch = np.zeros((255, 255, 3), np.uint8)
    patch[117:138, 117:138] = 255  # 21 px around the center
    shifts, sizes = set(), []
    for seed in range(300):
        out = augment(patch, np.random.default_rng(seed), stretch=0.05)
        assert out.shape == (239, 239, 3)
        rows = np.flatnonzero((out[:, :, 0] > 127).any(1))
        shifts.add(round((rows[0] + rows[-1]) / 2 - 119))
        sizes.append(len(rows))
    assert {-4, 4} <= shifts <= set(range(-5, 6))
    assert min(sizes) >= 19 and max(sizes) <= 23


def test_center_crop_pads_with_the_mean_color():
    patch = np.full((242, 242, 3), 9, np.uint8)
    assert center_crop(patch, 247).shape == (246, 246, 3)  # half to even, as the reference's round
    assert (center_crop(patch, 247) == 9).all()
    assert center_crop(np.zeros((239, 239, 3), np.uint8), 120).shape == (120, 120, 3)


def test_only_the_head_learns_and_batch_norm_stays(weights):
    model = Model(Options())
    model.load_init(raw(weights))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    batch = {"z": torch.randint(0, 256, (2, 3, 120, 120), dtype=torch.uint8), "x": torch.randint(0, 256, (2, 3, 239, 239), dtype=torch.uint8)}  # fmt: skip
    loss = model(batch, torch.Generator())["loss"]
    loss.backward()
    learning = {n for n, p in model.named_parameters() if p.grad is not None}
    assert learning == {f"head.{a}_convs.0.{b}" for a in "zx" for b in ("weight", "bias")}
    after = model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_refusals(weights):
    with pytest.raises(Refusal, match="512 for layer4 of resnet50"):
        Options(arch="resnet50")
    with pytest.raises(Refusal, match="weights of a resnet18"):
        Model(Options(arch="resnet50", channels=2048, scale=1e-5)).load_init(raw(weights))
    with pytest.raises(Refusal, match="the probe has no backbone"):
        Model(Options())({"z": torch.zeros(1), "x": torch.zeros(1)}, torch.Generator())
    stripped = raw(weights)
    stripped["state_dict"] = {k: v for k, v in stripped["state_dict"].items() if not k.startswith("layer4.")}
    with pytest.raises(Refusal, match="up to layer4"):
        Model(Options()).load_init(stripped)
    Model(Options(layer="layer3", channels=256)).load_init(stripped)


def test_killed_it_ends_with_the_same_layer(tracks, weights, tmp_path):
    """kill -9, then the same command again: bit for bit. The checkpoint is the layer with the hash of its backbone."""
    made = torch.load(train(tracks, weights, tmp_path / "whole"), weights_only=True)
    process = subprocess.Popen(command(tracks, weights, tmp_path / "killed", "--save-steps", 1, python=warm.python()), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    log = tmp_path / "killed/log.jsonl"
    while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 3):
        time.sleep(0.01)
    process.kill()
    process.communicate()  # until nobody has the pipe: the program itself is gone, not only its stand-in
    train(tracks, weights, tmp_path / "killed")
    assert same_state(tmp_path / "whole/last.pt", tmp_path / "killed/last.pt")
    assert made["weights_sha256"] == load_weights(weights).meta["sha256"]
    assert made["state_dict"]["head.z_convs.0.weight"].shape == (64, 64, 1, 1)
    # the same folder with other weights: never a silent continuation of the old run
    other = torch.load(
        train(tracks, make_weights(tmp_path / "other.pt", seed=1), tmp_path / "killed"), weights_only=True
    )
    assert other["weights_sha256"] != made["weights_sha256"]
    assert not torch.equal(other["state_dict"]["head.z_convs.0.weight"], made["state_dict"]["head.z_convs.0.weight"])
