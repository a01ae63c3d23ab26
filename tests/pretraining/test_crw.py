"""CRW: the walk against a literal form, the trap of the shared mask, patches and clips."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.datasets.video_utils import VideoClips

from corrbench.datasets.videos import Index, Video
from corrbench.encoders.resnet import random_resnet
from corrbench.errors import Refusal
from corrbench.pretraining import augment
from corrbench.pretraining.crw import Model, Options, Source, _dropped, sinkhorn, walk
from corrbench.pretraining.networks import Trunk
from corrbench.pretraining.recipe import Recipe, check_options, options_of
from corrbench.rows import AllRows, merge

RECIPES = AllRows([]).recipes


def unit(*shape, seed=0):
    return nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_two_terms_near_ln_49():
    losses = walk(unit(20, 128, 4, 49), temperature=0.05, dropout=0.1, generator=torch.Generator().manual_seed(1))
    assert len(losses) == 2, "with four frames there are two palindromes"
    assert all(3.5 < float(loss) < 3.95 for loss in losses) and abs(math.log(49) - 3.892) < 1e-3


def test_the_walk_is_the_product_of_transitions():
    """Literal: F0 F1 .. Fi Gi .. G0, then the log of the way home."""
    q = unit(2, 16, 4, 9)
    losses = walk(q, temperature=0.05, dropout=0.0)
    affinity = [torch.einsum("bcn,bcm->bnm", q[:, :, t], q[:, :, t + 1]) for t in range(3)]
    there = [torch.softmax(a / 0.05, 2) for a in affinity]
    back = [torch.softmax(a.transpose(1, 2) / 0.05, 2) for a in affinity]
    for i, loss in zip((1, 2), losses, strict=True):
        home = torch.eye(9).expand(2, 9, 9)
        for step in [*there[: i + 1], *back[i::-1]]:
            home = home @ step
        literal = -torch.log_softmax(torch.log(home + 1e-20), 2).diagonal(dim1=1, dim2=2).mean()
        assert torch.allclose(loss, literal, atol=1e-6)


def test_identity_walks_home():
    q = torch.eye(49).expand(2, 4, 49, 49).permute(0, 3, 1, 2)  # every node its own direction, in every frame
    assert all(float(loss) < 1e-4 for loss in walk(q, temperature=0.05, dropout=0.0))


@pytest.mark.parametrize(("independent", "expected"), [(False, 0.19), (True, 0.10)])
def test_an_edge_dropped_forward_is_dropped_backward_too(monkeypatch, independent, expected):
    """Drop rates 0.10 forward and 0.19 backward."""
    seen = []
    softmax = torch.softmax
    monkeypatch.setattr(torch, "softmax", lambda x, dim: seen.append(x) or softmax(x, dim=dim))
    walk(
        unit(8, 32, 4, 49),
        temperature=0.05,
        dropout=0.1,
        independent=independent,
        generator=torch.Generator().manual_seed(2),
    )
    forward, backward = (float((x < -1e10).float().mean()) for x in seen)
    assert forward == pytest.approx(0.10, abs=0.01) and backward == pytest.approx(expected, abs=0.01)


def test_two_frames_make_no_palindrome():
    with pytest.raises(Refusal, match="at least 3"):
        Options(clip=2)


@pytest.mark.parametrize(
    "grid", [{"patch": 256}, {"patch": 300}, {"stride": 256}, {"image": 64}, {"image": 96, "patch": 80}, {"stride": 0}]
)
def test_one_patch_makes_no_walk(grid):
    """One node is at home wherever it walks: loss 0 from the first step to the last."""
    with pytest.raises(Refusal, match="at most one patch in an image"):
        Options(**grid)
    assert float(walk(unit(2, 16, 4, 1), temperature=0.05, dropout=0.0)[0]) == 0
    assert len(Options(patch=192).corners) == 3 and len(Options(patch=224).corners) == 2


def test_encoder_as_the_reference_trains_it():
    net = Model(Options()).encoder.model
    assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 512, 8, 8)
    assert net.layer3[0].conv1.padding_mode == "reflect" and net.layer3[0].downsample[0].stride == (1, 1)
    assert Trunk("resnet18", strides=(1, 2, 1, 1))(torch.zeros(1, 3, 256, 256)).shape == (1, 512, 32, 32)
    model = Model(Options())
    assert len([k for k in model.state_dict() if k.startswith("encoder.model.")]) == 120
    assert {k for k in model.state_dict() if not k.startswith("encoder")} == {
        "selfsim_fc.0.weight",
        "selfsim_fc.0.bias",
    }


def test_batch_norm_sees_what_one_gpu_of_the_author_saw():
    """Statistics of 2 x 1 clips are not those of 2 clips together."""
    patches = torch.randint(0, 255, (2, 3, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    together, apart = Model(Options()), Model(Options(bn_clips=1))
    apart.load_state_dict(together.state_dict())
    one = torch.cat([together.nodes(patches[:1]), together.nodes(patches[1:])])
    assert torch.equal(apart.nodes(patches), one)
    assert not torch.allclose(together.nodes(patches), one, atol=1e-3)


def test_running_statistics_are_those_of_the_first_gpu():
    patches = torch.randint(0, 255, (2, 3, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    both, first = Model(Options(bn_clips=1)), Model(Options(bn_clips=1))
    first.load_state_dict(both.state_dict())
    both.nodes(patches), first.nodes(patches[:1])
    assert both.state_dict()["encoder.model.bn1.num_batches_tracked"] == 1
    assert all(torch.equal(v, first.state_dict()[k]) for k, v in both.state_dict().items())


def test_clips_at_eight_frames_a_second():
    source = Source(Options())
    video = Video("v", 300, 30.0, 340, 256)
    assert source._clips(video) == 77, "a 10 s video at 30 fps has 77 clips"
    assert source.frames(video, 0) == [0, 3, 7, 11] and source.frames(Video("v", 240, 24.0, 340, 256), 2) == [
        6,
        9,
        12,
        15,
    ]
    assert source.frames(Video("v", 10, 0, 9, 9), 0) == [0, 3, 6, 9], "without a rate the gap is lowered until it fits"
    index = Index((video, Video("w", 30, 30.0, 340, 256)))
    rows = source.epoch(index, np.random.default_rng(0))
    assert sorted(rows[:, 0]) == [0] * 5 + [1] * 5 and len({tuple(r) for r in rows}) == 10


@pytest.mark.parametrize("fps", [4.0, 8.0, 12.5, 16.0, 23.976, 24.0, 25.0, 29.97, 30000 / 1001, 30.0, 48.0, 59.94])
@pytest.mark.filterwarnings("ignore:There aren't enough frames")
def test_clips_are_those_of_torchvision(fps):
    """At 24 frames a second the frames are a slice with step 3, whose length rounds up."""
    source = Source(Options())
    for frames in range(1, 326):
        video = Video("v", frames, fps, 340, 256)
        theirs, _ = VideoClips.compute_clips_for_video(torch.arange(frames), 4, 1, fps, 8)
        assert source._clips(video) == len(theirs), frames
        assert [source.frames(video, i) for i in range(len(theirs))] == theirs.tolist()


def test_forty_nine_patches():
    class Reader:
        index = Index((Video("v", 30, 8.0, 320, 256),))

        def read(self, video, numbers):
            return [np.full((256, 320, 3), (10, 20, 30), np.uint8) for _ in numbers]

    patches = Source(Options()).load(Reader(), np.array([0, 3]), np.random.default_rng(0))["patches"]
    assert patches.shape == (4, 49, 3, 64, 64) and patches.dtype == torch.uint8
    assert patches[0, 0, :, 5, 5].tolist() == [30, 20, 10], "RGB"


def parts_of(q, temperature=0.05):
    """Affinities of neighboring frames ``[B, N, N]`` and their transitions there and back."""
    affinity = [torch.einsum("bcn,bcm->bnm", q[:, :, t], q[:, :, t + 1]) for t in range(q.shape[2] - 1)]
    there = [torch.softmax(a / temperature, 2) for a in affinity]
    back = [torch.softmax(a.transpose(1, 2) / temperature, 2) for a in affinity]
    return affinity, there, back


def way_home(walked):
    return -torch.log_softmax(torch.log(walked + 1e-20), 2).diagonal(dim1=1, dim2=2).mean()


def test_the_opposite_order_of_transitions():
    """Literal: each further one of F0 .. Fi Gi .. G0 is multiplied from the left."""
    q = unit(2, 16, 4, 9)
    _, there, back = parts_of(q)
    losses = walk(q, temperature=0.05, dropout=0.0, flip=True)
    for i, loss in zip((1, 2), losses, strict=True):
        walked = torch.eye(9).expand(2, 9, 9)
        for step in [*there[: i + 1], *back[i::-1]]:
            walked = step @ walked
        assert torch.allclose(loss, way_home(walked), atol=1e-5)
    assert not torch.allclose(losses[0], walk(q, temperature=0.05, dropout=0.0)[0], atol=1e-3)


def test_no_node_meets_that_of_its_own_place():
    q = unit(2, 16, 4, 9)
    affinity, _, _ = parts_of(q)
    (first, _) = walk(q, temperature=0.05, dropout=0.0, zero_diagonal=True)
    there, back = [], []
    for a in affinity:
        a = a.clone()
        a[:, range(9), range(9)] = 0
        there.append(torch.softmax(a / 0.05, 2))
        back.append(torch.softmax(a.transpose(1, 2) / 0.05, 2))
    assert torch.allclose(first, way_home(there[0] @ there[1] @ back[1] @ back[0]), atol=1e-5)


def literal_sinkhorn(mass, tolerance, most):
    """One matrix after the other, in numpy; the stop looks at all of them, as the reference's does."""
    mass = [m / m.sum() for m in mass.double().numpy()]
    for step in range(most):
        if step and np.stack([m.sum(0) for m in mass]).std(ddof=1) <= tolerance:
            break
        mass = [m / m.sum(0, keepdims=True) for m in mass]
        mass = [m / m.sum(1, keepdims=True) for m in mass]
    return np.stack(mass)


def test_targets_by_optimal_transport():
    """One way only: from the first frame to where the transport between the frames leads."""
    q = unit(3, 16, 4, 9)
    affinity, there, _ = parts_of(q)
    mass = (affinity[0] / 0.05).exp()
    assert np.allclose(sinkhorn(mass, tolerance=0.01, most=100), literal_sinkhorn(mass, 0.01, 100), atol=1e-5)
    assert torch.allclose(sinkhorn(mass, tolerance=0.0, most=300).sum(1), torch.ones(3, 9), atol=1e-3)
    losses = walk(q, temperature=0.05, dropout=0.0, targets="sinkhorn")
    transport = [literal_sinkhorn((a / 0.05).exp(), 0.01, 100) for a in affinity]
    walked, led = there[0], transport[0]
    for i, loss in zip((1, 2), losses, strict=True):
        walked, led = walked @ there[i], transport[i] @ led
        target = literal_sinkhorn(torch.from_numpy(led), 0.001, 10).argmax(2).reshape(-1)
        logits = torch.log_softmax(torch.log(walked + 1e-20), 2).flatten(0, 1)
        assert torch.allclose(loss, -logits[range(27), target].mean(), atol=1e-5)


def test_cells_of_a_whole_frame_are_nodes():
    """`frames: none`: one node for every cell of the map, row by row, each through the head alone."""
    options = Options(frames="none", image=64)
    frame = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    image = Source(options)._patches(frame, np.random.default_rng(1))
    assert image.shape == (1, 3, 64, 64) and image.dtype == torch.uint8
    torch.manual_seed(0)
    model = Model(options).eval()
    q = model.nodes(torch.stack([image, image.flip(-1)])[None])
    assert q.shape == (1, 128, 2, 64)
    maps = model.encoder.model(augment.normalize(image, augment.CIFAR_MEAN, augment.CIFAR_STD))
    for cell, (y, x) in {0: (0, 0), 13: (1, 5), 63: (7, 7)}.items():
        node = nn.functional.normalize(model.selfsim_fc(maps[0, :, y, x]), dim=0)
        assert torch.allclose(q[0, :, 0, cell], node, atol=1e-5)
    assert set(model({"patches": torch.stack([image] * 3)[None]}, torch.Generator().manual_seed(0))) >= {
        "loss",
        "cycle1",
    }


def test_transforms_of_frames_and_patches():
    frame = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)

    def source(**options):
        return Source(Options(image=96, patch=32, stride=32, **options))

    def patches(seed=3, **options):
        return source(**options)._patches(frame, np.random.default_rng(seed))

    resized = np.asarray(Image.fromarray(frame[:, :, ::-1]).resize((64, 64), Image.Resampling.BILINEAR)).transpose(
        2, 0, 1
    )
    whole = Options(frames="none", image=64, transforms=[])
    assert np.array_equal(Source(whole)._patches(frame, np.random.default_rng(0))[0], resized), (
        "no crop: the frame is resized"
    )
    flips = [
        Source(Options(frames="none", image=64, transforms=["flip"]))
        ._patches(frame, np.random.default_rng(s))[0]
        .numpy()
        for s in range(20)
    ]
    assert {
        "same" if np.array_equal(f, resized) else "flipped" if np.array_equal(f, resized[:, :, ::-1]) else "other"
        for f in flips
    } == {"same", "flipped"}
    assert torch.equal(patches(), patches(transforms=("crop",), patch_transforms=())), "the published command's draws"
    assert not torch.equal(patches(), patches(patch_transforms=["cj"])) and patches(
        patch_transforms=["cj", "flip"]
    ).shape == (9, 3, 32, 32)
    near = (patches(patch_transforms=["cj"])[0].float() - patches()[0].float()).abs().mean()
    assert 0 < near < 40, "the first patch has the same crop, in other colors"


def test_dropped_features_depth_and_padding():
    patches = torch.randint(0, 255, (1, 3, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    model = Model(Options(featdrop=0.5, head_depth=2, padding="zeros"))
    assert [tuple(layer.weight.shape) for layer in model.selfsim_fc if isinstance(layer, nn.Linear)] == [
        (512, 512),
        (512, 512),
        (128, 512),
    ]
    assert model.encoder.model.layer3[0].conv1.padding_mode == "zeros"
    with torch.no_grad():
        a, b, c = (model.nodes(patches, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
        assert torch.equal(a, b) and not torch.allclose(a, c, atol=1e-2), "the run's own random numbers"
        model.eval()
        assert torch.equal(
            model.nodes(patches, torch.Generator().manual_seed(1)),
            model.nodes(patches, torch.Generator().manual_seed(2)),
        )
    dropped = _dropped(torch.ones(4, 64, 32, 32), 0.25, torch.Generator().manual_seed(0))
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3]) and abs(float(dropped.mean()) - 1) < 0.01
    assert len(Model(Options(head_depth=-1)).selfsim_fc) == 0
    assert Model(Options(head_depth=-1)).nodes(patches).shape == (1, 512, 3, 4)


@pytest.mark.parametrize(
    "wrong",
    [{"frames": "grids"}, {"transforms": "crop"}, {"transforms": ["blur"]}, {"patch_transforms": ["crop"]}, {"targets": "sk"},
     {"padding": "same"}, {"featdrop": 1.0}, {"head_depth": -2}],
)  # fmt: skip
def test_options_that_are_none(wrong):
    with pytest.raises(Refusal, match=next(iter(wrong))):
        Options(**wrong)


def test_recipes_take_the_options():
    row = {
        "base": "crw",
        "name": "mine",
        "options": {"transforms": ["crop", "flip"], "head_depth": 1, "targets": "sinkhorn", "frames": "none"},
    }
    recipe = Recipe.from_row(merge(RECIPES.get("crw", "test"), {k: v for k, v in row.items() if k != "base"}), "paper")
    check_options(recipe)
    assert options_of(Options, recipe.options, "test").transforms == ["crop", "flip"]


def test_a_start_from_a_whole_resnet():
    """ImageNet's or a released file's, converted; the head comes along where it is the same one."""
    state = random_resnet("resnet18", seed=5)
    meta = {"arch": "resnet18"}
    model = Model(Options())
    head = {f"selfsim_fc.{k}": torch.randn_like(v) for k, v in model.selfsim_fc.state_dict().items()}
    model.load_init({"state_dict": state, "extra": head, "meta": meta})
    assert all(torch.equal(model.encoder.model.state_dict()[k], v) for k, v in state.items())
    assert torch.equal(model.selfsim_fc[0].weight, head["selfsim_fc.0.weight"])
    deeper = Model(Options(head_depth=1))
    before = deeper.selfsim_fc[0].weight.clone()
    deeper.load_init({"state_dict": state, "extra": head, "meta": meta})
    assert torch.equal(deeper.selfsim_fc[0].weight, before), "another head starts anew"
    with pytest.raises(Refusal, match="weights of a resnet50"):
        model.load_init({"state_dict": state, "extra": {}, "meta": {"arch": "resnet50"}})
    with pytest.raises(RuntimeError, match="layer4"):
        model.load_init(
            {"state_dict": {k: v for k, v in state.items() if not k.startswith("layer4")}, "extra": {}, "meta": meta}
        )


def test_a_start_from_another_recipe():
    first = Model(Options())
    second = Model(Options())
    second.load_init(first.checkpoint())
    assert all(torch.equal(second.state_dict()[k], v) for k, v in first.state_dict().items())
