"""SFC's pass of an image of zeros: what it moves, what it leaves, and that each member of a fusion goes through it."""

import pytest
import torch
import torchvision

from corrbench.weights.canonical import content_hash, save_weights
from corrbench.weights.convert import random_weights
from corrbench.weights.load import load_encoder

CPU = torch.device("cpu")
ROW = {"arch": "resnet18", "layer": "layer3", "strides": [1, 2, 1, 1], "padding": "zeros", "color": "rgb"}
STATISTICS = ("running_mean", "running_var")


@pytest.fixture
def weights(tmp_path):
    """Files of two seeded networks whose statistics are not those of new ones."""
    paths = []
    for seed in (0, 1):
        made = random_weights(ROW, method="random-r18", seed=seed)
        generator = torch.Generator().manual_seed(seed)
        for name, value in made.state_dict.items():
            if name.endswith(STATISTICS):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        made.meta["sha256"] = content_hash(made)
        paths.append(tmp_path / f"{seed}.pt")
        save_weights(paths[-1], made)
    return paths


def statistics(net):
    return {k.split(".", 1)[1]: v for k, v in net.state_dict().items() if k.endswith(STATISTICS)}


def literally(path, padding):
    """torchvision's network treated as SFC's make_encoder treats its own: stride 1 in layer3, no layer4, a pass in training mode."""
    net = torchvision.models.resnet18(weights=None)
    net.load_state_dict(torch.load(path, weights_only=True)["state_dict"], strict=False)
    for module in net.layer3.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.stride = (1, 1)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d) and sum(module.padding) > 0:
            module.padding_mode = padding
    x = net.maxpool(net.relu(net.bn1(net.conv1(torch.zeros(1, 3, 256, 256)))))
    net.layer3(net.layer2(net.layer1(x)))
    return {k: v for k, v in net.state_dict().items() if k.endswith(STATISTICS) and not k.startswith("layer4")}


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_statistics_move_as_in_make_encoder(padding, weights):
    row = {**ROW, "padding": padding}
    plain = load_encoder(row, weights[:1], CPU)
    moved = load_encoder({**row, "zero_image_pass": True}, weights[:1], CPU)
    found, expected = statistics(moved), literally(weights[0], padding)
    assert found.keys() == expected.keys() and len(found) == 30
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)
    before = statistics(plain)
    for name in ("bn1.running_mean", "bn1.running_var"):
        torch.testing.assert_close(found[name], 0.9 * before[name])
    assert not any(m.training for m in moved.modules()), "measured in eval mode"
    for (name, a), (_, b) in zip(plain.named_parameters(), moved.named_parameters(), strict=True):
        assert torch.equal(a, b) and not b.requires_grad, name


def test_without_it_the_statistics_are_those_of_the_file(weights):
    file = torch.load(weights[0], weights_only=True)["state_dict"]
    found = statistics(load_encoder(ROW, weights[:1], CPU))
    assert all(torch.equal(value, file[name]) for name, value in found.items())


def test_every_member_of_a_fusion_goes_through_it(weights, protocol):
    row = {**ROW, "layer": "layer1", "strides": [1, 1, 1, 1]}
    fusion = protocol("sfc").encoder_row({"arch": "fusion", "members": [row, row], "weight": 1.75})
    net = load_encoder(fusion, weights, CPU)
    for member, path in zip((net.fine, net.semantic), weights, strict=True):
        alone = load_encoder({**row, "zero_image_pass": True}, [path], CPU)
        for name, value in statistics(alone).items():
            assert torch.equal(statistics(member)[name], value), name
    assert protocol("sfc-clean").encoder_row(row) == row and "zero_image_pass" not in row
