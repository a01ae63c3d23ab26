"""corrbench from Python: the numbers of the workflow, a model left as it was, and what is refused."""

import json
import subprocess

import numpy as np
import pytest
import torch
import warm
from conftest import ROOT
from flow import CONFIG, ROWS, snakemake, write

import corrbench
from corrbench.datasets.davis import open_davis
from corrbench.datasets.palette import save_mask
from corrbench.encoders.build import build
from corrbench.encoders.resnet import random_resnet
from corrbench.rows import AllRows

TINY = {"benchmark": "tiny-val", "rows": [ROWS]}


def resnet():
    """The network of the row random-r18 with its seeded weights."""
    net = build(AllRows([]).methods.get("random-r18", "test")["encoder"])
    net.load_weights(random_resnet("resnet18", 0), {})
    return net


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the workflow: random-r18 under three protocols."""
    folder = tmp_path_factory.mktemp("api")
    run = {
        "methods": ["random-r18"],
        "weights": ["random"],
        "protocols": ["crw", "vfs-r18"],
        "benchmarks": ["tiny-val"],
    }
    write(folder, {**CONFIG, "runs": [run]})
    snakemake(folder, "--", "results/table.csv")
    return folder / "results"


@pytest.mark.parametrize("protocol", ["crw", "vfs-r18"])
def test_the_same_numbers_by_api_command_and_workflow(finished, tmp_path, protocol):
    root = finished / "data/tiny-val"
    result = corrbench.evaluate(resnet(), root=root, protocol=protocol, masks=tmp_path / "masks", **TINY)
    made = json.loads((finished / f"tiny-val/random-r18.random.{protocol}/scores/scores.json").read_text())
    assert {name: result[name] for name in ("J&F", "J-mean", "F-decay")} == {
        name: 100 * made["global"][official] for name, official in (("J&F", "J&F-Mean"), ("J-mean", "J-Mean"), ("F-decay", "F-Decay"))
    }  # fmt: skip
    assert [f"{r.sequence}_{r.object}" for r in result.per_object.itertuples()] == [
        o["Sequence"] for o in made["objects"]
    ]
    assert dict(zip(result.per_sequence["sequence"], result.per_sequence["J&F"] / 100, strict=True)) == pytest.approx(
        made["sequences"]
    )
    for path in (tmp_path / "masks").rglob("*.png"):
        theirs = finished / f"tiny-val/random-r18.random.{protocol}/masks" / path.relative_to(tmp_path / "masks")
        assert path.read_bytes() == theirs.read_bytes()
    command = [warm.python(), "-m", "scripts.evaluate", "--benchmark", "tiny-val", "--rows", ROWS, "--root", root, "--masks", tmp_path / "masks", "--out", tmp_path / "command"]  # fmt: skip
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True, capture_output=True)
    folder = result.save(tmp_path / "api")
    for name in ("global.csv", "per_object.csv", "per_frame.csv.gz"):
        assert (folder / name).read_bytes() == (tmp_path / "command" / name).read_bytes()
    assert result.protocol_hash in repr(result) and len(result) == len(list(result)) == 7


def test_a_model_in_training_is_left_as_it_was(tiny_davis):
    """Modes of all modules, gradients and random numbers; batch norm reads its statistics meanwhile and keeps them."""
    net = resnet().train()
    net.layers.layer2.eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    modes, state = [m.training for m in net.modules()], torch.get_rng_state()
    corrbench.evaluate(net, root=tiny_davis.root, sequences=["one"], **TINY)
    assert [m.training for m in net.modules()] == modes and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    net(torch.zeros(1, 3, 32, 32)).sum().backward()


def test_a_part_says_so_and_options_reach_the_rules(tiny_davis):
    whole, part = (corrbench.evaluate(resnet(), root=tiny_davis.root, sequences=s, **TINY) for s in (None, ["one"]))
    assert (whole.benchmark, part.benchmark) == ("tiny-val", "tiny-val (1 of 2)")
    assert set(part.per_object["sequence"]) == {"one"} and whole.record["stride"] == 8
    lab = corrbench.evaluate(resnet(), root=tiny_davis.root, sequences=["one"], color="lab", stride=8, **TINY)
    assert lab["J&F"] != part["J&F"]


class Wrong(torch.nn.Module):
    def __init__(self, change):
        super().__init__()
        self.net, self.change = resnet(), change

    def forward(self, images):
        return self.change(self.net(images))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: (x, x), "returned a tuple"),
        (lambda x: x.flatten(2).transpose(1, 2), r"shape \(1, 60, 256\)"),
        (lambda x: x[0], "returned a tensor of shape"),
        (lambda x: x[:, :, :, :-3], "a grid of 6x7 cells"),
        (lambda x: x * float("nan"), "not finite"),
    ],
)
def test_what_is_no_feature_map_is_refused(tiny_davis, change, said):
    with pytest.raises(corrbench.Refusal, match=said):
        corrbench.evaluate(Wrong(change), root=tiny_davis.root, **TINY)


def test_names_and_data_that_are_wrong_are_refused(tiny_davis, tmp_path):
    with pytest.raises(corrbench.Refusal, match="did you mean 'crw'"):
        corrbench.evaluate(resnet(), root=tiny_davis.root, protocol="crv", **TINY)
    with pytest.raises(corrbench.Refusal, match="uses no network"):
        corrbench.evaluate(resnet(), root=tiny_davis.root, protocol="identity", **TINY)
    with pytest.raises(corrbench.Refusal, match="no benchmark of masks"):
        corrbench.evaluate(resnet(), "otb100", root=tiny_davis.root)
    with pytest.raises(corrbench.Refusal, match="no such folder|missing"):
        corrbench.evaluate(resnet(), root=tmp_path / "nothing", **TINY)


def test_masks_through_a_video_of_ones_own(tiny_davis, tmp_path):
    """From arrays, paths and a folder: the same masks as on the benchmark."""
    davis = open_davis(tiny_davis.root, AllRows([ROWS]).benchmarks.get("tiny-val", "test"), ["three"])
    video = davis.sequence("three")
    arrays = [np.ascontiguousarray(video.image(t)[:, :, ::-1]) for t in range(len(video.images))]
    first = video.first_annotation()
    save_mask(tmp_path / "first.png", first)
    by_array = corrbench.propagate(resnet(), arrays, first)
    assert len(by_array) == 6 and all(m.shape == first.shape and m.dtype == np.uint8 for m in by_array)
    for frames in (video.images, video.images[0].parent):
        masks = corrbench.propagate(resnet(), frames, tmp_path / "first.png")
        assert all(np.array_equal(a, b) for a, b in zip(masks, by_array, strict=True))
    corrbench.evaluate(resnet(), root=tiny_davis.root, sequences=["three"], masks=tmp_path / "masks", **TINY)
    for mask, path in zip(by_array, sorted((tmp_path / "masks/three").glob("*.png")), strict=True):
        assert np.array_equal(mask, np.array(__import__("PIL.Image").Image.open(path)))
    for frames, mask, said in (([], first, "no frames"), ([arrays[0].astype(float)], first, "float64"), (tmp_path / "x", first, "x"),
                               (arrays, first.astype(float), "float64"), (arrays, first[:-1], "first annotation is")):  # fmt: skip
        with pytest.raises(corrbench.Refusal, match=said):
            corrbench.propagate(resnet(), frames, mask)


def test_lists():
    assert "crw-r18" in corrbench.list_methods() and "dino" in corrbench.list_protocols()
    assert "tiny-val" not in corrbench.list_benchmarks() and "tiny-val" in corrbench.list_benchmarks([ROWS])
