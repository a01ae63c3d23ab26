"""LIIR's losses against literal forms, queue, stages."""

import math

import pytest
import torch
from torch import nn

from corrbench.errors import Refusal
from corrbench.pretraining import reconstruction as rec
from corrbench.pretraining.liir import Model, Options, compact_target, compactness_loss, inter_video_weights
from corrbench.pretraining.networks import join_batchnorm

FULL = Options(image=64, momentum=True, compact=True, queue=6, pairs=None)


def maps(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch(videos, seed=0):
    return {"frames": maps(len(videos), 2, 3, 64, 64, seed=seed), "video": torch.tensor(videos)}


def test_the_two_best_share_by_the_softmax_of_their_probabilities():
    weights = torch.full((1, 169, 1, 1), 0.2 / 167)
    weights[0, 84], weights[0, 20] = 0.6, 0.2
    target, mask = compact_target(weights)
    assert mask.item() == 1 and target[0, 84].item() == pytest.approx(0.599, abs=1e-3)
    assert target[0, 20].item() == pytest.approx(0.401, abs=1e-3)
    assert target[0, 85].item() == pytest.approx(0.599 / 16, abs=1e-3), "one cell away a sixteenth"
    assert target.sum().item() == pytest.approx(1.27, abs=0.01)


def test_compactness_like_the_literal_form():
    weights = (3 * maps(2, 49, 3, 3)).softmax(1).requires_grad_()
    total = 0.0
    for b in range(2):
        for y in range(3):
            for x in range(3):
                w = weights[b, :, y, x]
                (v1, v2), (c1, c2) = (t.tolist() for t in w.topk(2))
                a = torch.tensor([v1, v2]).softmax(0)
                h = torch.zeros(49)
                for share, c in zip(a, (c1, c2), strict=True):
                    for i in range(49):
                        distance = (i // 7 - c // 7) ** 2 + (i % 7 - c % 7) ** 2
                        h[i] += share * math.exp(-4 * math.log(2) * distance)
                m = float(v1 > 0.5)
                total += torch.nn.functional.smooth_l1_loss(20 * w * m, 20 * h * m, reduction="sum")
    found = compactness_loss(weights)
    assert torch.allclose(found, total / (2 * 49 * 9), atol=1e-5) and found > 0
    assert torch.autograd.grad(found, weights)[0].abs().sum() > 0


def test_without_negatives_it_is_the_plain_softmax():
    target, reference, queue = maps(2, 8, 5, 6), maps(2, 8, 5, 6, seed=1), maps(4, 8, 5, 6, seed=2)
    plain = rec.local_correlation(target, reference, 3).softmax(1)
    assert torch.allclose(
        inter_video_weights(target, reference, queue, torch.zeros(2, 4, dtype=torch.bool), 3), plain, atol=1e-6
    )


def test_negatives_of_the_queue_like_the_literal_form():
    target, reference, queue = maps(2, 8, 5, 6), maps(2, 8, 5, 6, seed=1), maps(45, 8, 5, 6, seed=2)
    keep = torch.zeros(2, 45, dtype=torch.bool)
    keep[0, [0, 41]], keep[1, [2, 44]] = True, True  # in two chunks
    target.requires_grad_()
    found = inter_video_weights(target, reference, queue, keep, 3)
    own = rec.local_correlation(target, reference, 3)
    for b in range(2):
        others = torch.cat(
            [rec.local_correlation(target[b : b + 1], queue[m : m + 1], 3)[0] for m in keep[b].nonzero()[:, 0]]
        )
        logits = torch.cat([own[b], others])
        assert torch.allclose(found[b], logits.softmax(0)[:49], atol=1e-6)
    assert (found.sum(1) < 1).all()
    (gradient,) = torch.autograd.grad((found**2).sum(), target, retain_graph=True)
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def test_stages_have_their_losses_and_heads():
    for options, parts, heads in (
        (Options(image=64), {"loss", "pixel"}, 0),
        (Options(image=64, semantic=True, compact=True), {"loss", "pixel", "semantic", "compact"}, 1),
        (FULL, {"loss", "pixel", "semantic", "compact"}, 2),
    ):
        model = Model(options)
        assert set(model(batch([1, 2]), torch.Generator().manual_seed(0))) == parts
        state = model.checkpoint()["state_dict"]
        assert sum(k.startswith("feature_extraction.") for k in state) == 115
        assert sum(k.startswith("conv_semantic") for k in state) == 2 * heads
        assert not any("queue" in k for k in state)
    network = Model(Options()).network
    assert sum(p.numel() for p in network.parameters()) - (64 * 256 * 9 + 64) == 6192704, "the published network"


def test_the_ring_and_its_negatives():
    torch.manual_seed(0)
    model = Model(FULL)
    for step, videos in enumerate(([1, 2], [3, 4], [5, 6])):
        assert not model.negatives(torch.tensor(videos)).any(), "plain until the ring was filled and a step more"
        model(batch(videos, step), torch.Generator().manual_seed(0))
        model.after_step()
    assert model.queue_videos.tolist() == [1, 2, 3, 4, 5, 6]
    assert not model.negatives(torch.tensor([1, 9])).any()
    model(batch([1, 7]), torch.Generator().manual_seed(0))
    model.after_step()
    assert model.queue_videos.tolist() == [1, 7, 3, 4, 5, 6], "the oldest go first"
    keep = model.negatives(torch.tensor([1, 9]))
    assert keep.sum(1).tolist() == [5, 5], "own videos out, and as many for every sample as the poorest has"
    assert not keep[0, 0]


def test_the_key_convolution_follows_slowly_and_starts_as_a_copy(tmp_path):
    step_b = Model(Options(image=64, semantic=True))
    model = Model(FULL)
    model.load_init(step_b.checkpoint())
    assert torch.equal(model.conv_semantic.weight, step_b.conv_semantic.weight)
    assert torch.equal(model.conv_semantic_k.weight, model.conv_semantic.weight)
    assert torch.equal(model.network.conv1.weight, step_b.network.conv1.weight)
    model.conv_semantic.weight.data.add_(1.0)
    before = model.conv_semantic_k.weight.clone()
    model.before_step(0, 10)
    assert torch.allclose(model.conv_semantic_k.weight, before + 0.001, atol=1e-6)
    lacking = step_b.checkpoint()
    del lacking["state_dict"]["feature_extraction.pos_embed1"]
    with pytest.raises(RuntimeError, match="pos_embed1"):
        model.load_init(lacking)


def test_target_and_reference_are_batches_of_their_own():
    """As in the reference, batch norm never mixes the two frames: 2 forward passes, 2 updates of the running mean."""
    model = Model(Options(image=64))
    model(batch([0, 1]), torch.Generator().manual_seed(0))
    assert int(model.network.bn1.num_batches_tracked) == 2


@pytest.mark.parametrize(
    ("options", "order"),
    [
        (Options(image=64), (0, 1)),
        (Options(image=64, semantic=True), (0, 1)),
        (Options(image=64, semantic=True, compact=True), (0, 1)),
        (Options(image=64, momentum=True, queue=6), (1, 0)),
        (FULL, (1, 0)),
    ],
    ids="ABCDE",
)
def test_running_statistics_follow_the_references_order(options, order):
    """mast_semantic.py (A to C) encodes the reference frame, then the target; mast_momen.py (D, E) the other way round."""
    torch.manual_seed(0)
    model, literal = Model(options), Model(options)
    literal.load_state_dict(model.state_dict())
    pairs = batch([0, 1])
    model(pairs, torch.Generator().manual_seed(3))
    inputs, _ = rec.drop_channel(pairs["frames"].flatten(0, 1), rec.draw_channel(torch.Generator().manual_seed(3)))
    for frame in order:  # 0 is the reference, 1 the target
        literal.network.trunk(inputs.unflatten(0, (-1, 2))[:, frame])
    found, expected = model.network.state_dict(), literal.network.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_frozen_batch_norm_stays_frozen():
    model = Model(Options(image=64, freeze_bn=True)).train()
    before = model.network.bn1.running_mean.clone()
    model(batch([0, 1]), torch.Generator().manual_seed(0))
    assert torch.equal(model.network.bn1.running_mean, before) and model.network.bn1.weight.requires_grad
    for joined in (nn.SyncBatchNorm.convert_sync_batchnorm(model), join_batchnorm(model, torch.device("cpu"))):
        joined.train()
        assert not any(m.training for name, m in joined.named_modules() if name.endswith(("bn1", "bn2")))


@pytest.mark.parametrize("queue", [False, True])
@pytest.mark.parametrize("options", [Options(image=64, semantic=True), FULL], ids=["no queue", "queue"])
def test_a_start_from_a_released_file(options, queue):
    """As the authors' files are: under DataParallel's names, with or without the queue of the inter-video loss; and converted."""
    made = Model(Options(image=64, semantic=True))
    raw = {"state_dict": {f"module.{k}": v for k, v in made.checkpoint()["state_dict"].items()}, "epoch": 29}
    if queue:
        raw["state_dict"] |= {
            "module.colorizer.feats_queue": maps(80, 3),
            "module.colorizer.flag": maps(1),
            "module.conv_semantic_k.weight": maps(2),
        }
    network = made.network.state_dict()
    extra = {k: v for k, v in network.items() if k.startswith(("pos_embed1", "post_convolution"))}
    extra |= {f"conv_semantic.{k}": v for k, v in made.conv_semantic.state_dict().items()}
    converted = {
        "state_dict": {k: v for k, v in network.items() if k not in extra},
        "extra": extra,
        "meta": {"arch": "resnet18_hr"},
    }
    for start in (raw, converted):
        model = Model(options)
        model.load_init(start)
        assert all(torch.equal(v, network[k]) for k, v in model.network.state_dict().items())
        assert torch.equal(model.conv_semantic.weight, made.conv_semantic.weight)
        if options.momentum:
            assert torch.equal(model.conv_semantic_k.weight, made.conv_semantic.weight) and int(model.queued) == 0
    with pytest.raises(Refusal, match="weights of a resnet18"):
        Model(options).load_init({**converted, "meta": {"arch": "resnet18"}})
