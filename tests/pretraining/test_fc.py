"""FC: positives, loss and momentum against literal forms."""

import copy

import numpy as np
import pytest
import torch

from corrbench.datasets.videos import Index, Video
from corrbench.encoders.resnet import random_resnet
from corrbench.errors import Refusal
from corrbench.pretraining.fc import Model, Options, Source, pixel_loss, positives, target_momentum

WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


def literal_positives(u, v, cells, radius):
    out = torch.zeros(cells**2, cells**2)
    size = lambda b: ((b[2] - b[0]) / cells, (b[3] - b[1]) / cells)  # noqa: E731
    longest = max(float((size(b)[0] ** 2 + size(b)[1] ** 2) ** 0.5) for b in (u, v))
    center = lambda b, i: (b[0] + (i % cells + 0.5) * size(b)[0], b[1] + (i // cells + 0.5) * size(b)[1])  # noqa: E731
    for a in range(cells**2):
        for b in range(cells**2):
            (x, y), (s, t) = center(u, a), center(v, b)
            out[a, b] = float(((x - s) ** 2 + (y - t) ** 2) ** 0.5) / longest < radius
    return out


def test_identical_square_cells_have_the_diagonal_only():
    assert torch.equal(positives(WHOLE, WHOLE, 8, 0.5)[0], torch.eye(64))


def test_elongated_cells_have_their_neighbors_too():
    box = torch.tensor([[0.0, 0.0, 1.0, 0.5]])
    found = positives(box, box, 4, 0.5)[0]
    assert found[0, 4] == 1 and found[0, 1] == 0, "along the short side"


def test_any_two_boxes_like_the_literal_form():
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        corners = torch.rand(2, 2, 2, generator=generator).sort(1).values
        u, v = corners.flatten(1)
        assert torch.equal(positives(u[None], v[None], 5, 0.5)[0], literal_positives(u, v, 5, 0.5))


def test_disjoint_boxes_contribute_nothing():
    u, v = torch.tensor([[0.0, 0.0, 0.2, 0.2]]), torch.tensor([[0.7, 0.7, 1.0, 1.0]])
    q = torch.nn.functional.normalize(torch.randn(1, 8, 16), dim=1)
    assert positives(u, v, 4, 0.5).sum() == 0 and float(pixel_loss(q, q, positives(u, v, 4, 0.5))) == 0
    assert float(pixel_loss(q, q, positives(WHOLE, WHOLE, 4, 0.5))) == pytest.approx(-2, abs=1e-5)


def test_momentum_rises_from_its_first_value_to_one():
    assert target_momentum(0, 100, 0.99) == pytest.approx(0.99) and target_momentum(100, 100, 0.99) == pytest.approx(1)
    assert target_momentum(50, 100, 0.99) == pytest.approx(0.995)


def test_the_target_moves_its_parameters_only():
    model = Model(Options(image=32, hidden=16, channels=8))
    for p in model.online_encoder.parameters():
        p.data.add_(1.0)
    model.online_encoder.bn1.running_mean.add_(5.0)
    before = copy.deepcopy(model.target_encoder.state_dict())
    model.before_step(0, 10)
    after = model.target_encoder.state_dict()
    assert torch.allclose(after["conv1.weight"], before["conv1.weight"] + 0.01, atol=1e-6)
    assert torch.equal(after["bn1.running_mean"], before["bn1.running_mean"])
    assert not any(p.requires_grad for p in model.target_encoder.parameters())
    assert len(model.checkpoint()["model"]) == 267, "120 + 120 + 27"


def test_crops_are_never_thinner_than_two_pixels():
    class Reader:
        index = Index((Video("v", 3, 0, 40, 24),))

        def read(self, video, numbers):
            return [np.zeros((24, 40, 3), np.uint8)]

    source = Source(Options(image=16))
    for i in range(300):
        boxes = source.load(Reader(), np.array([0, 1]), np.random.default_rng(i))["boxes"]
        size = (boxes[:, 2:] - boxes[:, :2]) * torch.tensor([39.0, 23.0]) + 1
        assert (size > 1.9).all() and (boxes >= 0).all() and (boxes <= 1).all()


class White:
    index = Index((Video("v", 3, 0, 200, 160),))

    def read(self, video, numbers):
        return [np.zeros((160, 200, 3), np.uint8)]


@pytest.mark.parametrize("crop", [(0.0, 1.0), (0.2, 0.6), (0.5, 0.5)])
def test_crops_have_the_share_of_the_area_that_is_asked_for(crop):
    source = Source(Options(image=16, crop=crop))
    shares = []
    for i in range(100):
        boxes = source.load(White(), np.array([0, 1]), np.random.default_rng(i))["boxes"].double()
        size = (boxes[:, 2:] - boxes[:, :2]) * torch.tensor([199.0, 159.0]) + 1
        shares += (size.prod(1) / (200 * 160)).tolist()
    assert crop[0] - 0.01 <= min(shares) and max(shares) <= crop[1] + 0.01
    assert max(shares) - min(shares) > 0.7 * (crop[1] - crop[0])


def test_resnet50_and_the_stages_whose_strides_are_removed():
    """infer_dims of the reference: the map of layer4, 2048 channels, stride 8; without removal 32."""
    model = Model(Options(arch="resnet50", hidden=16, predictor_hidden=24, channels=8))
    assert model.online_projector.linear1.in_channels == 2048 and model.predictor.linear1.out_channels == 24
    assert model.online_encoder(torch.zeros(1, 3, 64, 64)).shape == (1, 2048, 8, 8)
    assert Model(Options(hidden=16, channels=8, dense=())).online_encoder(torch.zeros(1, 3, 64, 64)).shape[2:] == (2, 2)
    for wrong in ({"crop": (0.5, 0.2)}, {"crop": (0.5,)}, {"dense": ("layer1",)}):
        with pytest.raises(Refusal, match="correct the option"):
            Options(**wrong)


def test_a_start_from_another_recipe_and_from_a_whole_network():
    """The target starts as a copy of the online network, as at the beginning of every run."""
    first = Model(Options(hidden=16, channels=8))
    for p in first.parameters():
        p.data.add_(0.01 * torch.randn_like(p))
    second = Model(Options(hidden=16, channels=8))
    second.load_init(first.checkpoint())
    for name in ("online_encoder", "online_projector", "predictor"):
        for key, value in getattr(first, name).state_dict().items():
            assert torch.equal(getattr(second, name).state_dict()[key], value)
    state = random_resnet("resnet18", seed=4)
    second.load_init({"state_dict": state, "extra": {}, "meta": {"arch": "resnet18"}})
    for net in (second.online_encoder, second.target_encoder):
        assert all(torch.equal(net.state_dict()[k], v) for k, v in state.items())
    with pytest.raises(Refusal, match="weights of a resnet50"):
        second.load_init({"state_dict": state, "extra": {}, "meta": {"arch": "resnet50"}})
