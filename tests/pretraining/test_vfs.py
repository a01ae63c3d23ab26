"""VFS: the loss against all pairs, gradients, frames, network."""

import numpy as np
import pytest
import torch
from torch import nn

from corrbench.pretraining.vfs import Model, Options, Source, similarity_loss


def vectors(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 4, 8, generator=generator, requires_grad=True) for _ in range(4)]


def test_loss_is_the_mean_over_sixteen_cross_pairs():
    p1, z1, p2, z2 = vectors(0)
    total = 0.0
    for b in range(3):
        for i in range(4):
            for j in range(4):
                total += (2 - 2 * nn.functional.cosine_similarity(p1[b, i], z2[b, j], dim=0)) / 2
                total += (2 - 2 * nn.functional.cosine_similarity(p2[b, j], z1[b, i], dim=0)) / 2
    assert torch.allclose(similarity_loss(p1, z1, p2, z2, intra_video=True), total / (3 * 16), atol=1e-6)


def test_loss_of_equal_places_only():
    p1, z1, p2, z2 = vectors(1)
    cosine = nn.functional.cosine_similarity
    literal = ((2 - 2 * cosine(p1, z2, dim=2)) / 2 + (2 - 2 * cosine(p2, z1, dim=2)) / 2).mean()
    assert torch.allclose(similarity_loss(p1, z1, p2, z2, intra_video=False), literal, atol=1e-6)


def test_no_gradient_reaches_z_and_the_range():
    p1, z1, p2, z2 = vectors(2)
    similarity_loss(p1, z1, p2, z2, intra_video=True).backward()
    assert z1.grad is None and z2.grad is None and p1.grad is not None
    assert similarity_loss(p1, p1, p1, p1, intra_video=False).item() == pytest.approx(0, abs=1e-5)
    assert similarity_loss(p1, -p1, p1, -p1, intra_video=False).item() == pytest.approx(4, abs=1e-5)


def test_the_loss_starts_near_two_and_does_not_begin_collapsed():
    torch.manual_seed(0)
    model = Model(Options(image=64))
    clips = torch.randint(0, 255, (4, 2, 4, 3, 64, 64), dtype=torch.uint8)
    parts = model({"clips": clips}, torch.Generator())
    assert float(parts["loss"]) == pytest.approx(2, abs=0.15) and 0.7 < float(parts["spread"]) < 1.1


def test_network_and_its_checkpoint():
    model = Model(Options())
    state = model.checkpoint()["state_dict"]
    assert len(state) == 151, "120 + iteration + 30 of the head"
    assert float(model.backbone.layer2[1].bn2.weight.abs().sum()) == 0, "the last norm of a block starts at 0"
    assert "backbone.layer2.0.downsample.bn.running_mean" in state and "backbone.conv1.conv.weight" in state


def test_frames_of_segments():
    source, rng = Source(Options()), np.random.default_rng(0)
    for _ in range(50):
        frames = source.frames(80, rng)
        assert all(10 * j <= f < 10 * j + 10 for j, f in enumerate(frames)), "one frame out of each eighth"
    assert source.frames(5, rng) == [0, 1, 2, 2, 3, 4, 4, 0] or len(source.frames(5, rng)) == 8
    assert all(0 <= f < 3 for f in source.frames(3, rng))
    assert any(0 in source.frames(7, rng)[-1:] for _ in range(100)), "the number past the end wraps to 0"


@pytest.mark.parametrize("color", [False, True])
def test_samples(color):
    class Reader:
        class index:
            videos = (type("V", (), {"frames": 16})(),)

        def read(self, video, numbers):
            return [np.random.default_rng(n).integers(0, 255, (60, 80, 3), dtype=np.uint8) for n in numbers]

    source = Source(Options(image=32, color=color))
    load = lambda: source.load(Reader(), np.array([0]), np.random.default_rng(3))["clips"]  # noqa: E731
    assert load().shape == (2, 4, 3, 32, 32) and torch.equal(load(), load())
