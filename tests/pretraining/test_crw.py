"""CRW: the walk against a literal form, the trap of the shared mask, patches and clips."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.datasets.video_utils import VideoClips

from corrbench.datasets.videos import Index, Video
from corrbench.errors import Refusal
from corrbench.pretraining.crw import Model, Options, Source, walk
from corrbench.pretraining.networks import Trunk


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
