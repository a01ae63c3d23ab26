"""Without a GPU: fake CUDA tensors have devices and shapes but no numbers, and refuse to be mixed with tensors of the CPU."""

import pytest
import torch
from conftest import ROOT
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from corrbench.datasets.synthetic import write_videos
from corrbench.datasets.videos import Reader, build_index
from corrbench.encoders.stm import STM
from corrbench.pretraining import reconstruction
from corrbench.pretraining.order import Order, StepData, collate
from corrbench.pretraining.recipe import Recipe, options_of
from corrbench.propagation import affinity
from corrbench.propagation.memory import Memory
from corrbench.propagation.protocol import Protocol
from corrbench.propagation.tiles import Workspace
from corrbench.rows import Rows
from corrbench.segmentation import train
from corrbench.segmentation.aggregation import aggregate
from corrbench.segmentation.memory import Bank, read
from corrbench.tracking import probe

CUDA = torch.device("cuda")
RECIPES, PROTOCOLS = Rows([ROOT / "config"], "recipes", "recipe"), Rows([ROOT / "config"], "protocols", "protocol")


@pytest.fixture
def fake(monkeypatch):
    """The mode; where the code asks a tensor for a number it gets a large one."""
    monkeypatch.setattr(torch.Tensor, "__int__", lambda self: 10**6)
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: True)
    return FakeTensorMode(allow_non_fake_inputs=True)


def fake_like(x):
    return torch.empty(x.shape, dtype=x.dtype, device=CUDA)


def to_fake_cuda(net: nn.Module):
    """The network with fake parameters and buffers on a GPU."""
    for module in net.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = nn.Parameter(fake_like(value), requires_grad=value.requires_grad)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = fake_like(value)
    return net


def test_fake_tensors_see_a_mixture(fake):
    with fake, pytest.raises(RuntimeError, match="two different devices|same device"):
        torch.empty(3, device=CUDA) + torch.empty(3)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """Frames of two videos."""
    folder = tmp_path_factory.mktemp("devices")
    write_videos(folder / "v", videos=2, frames=80, height=64, width=96)
    index, _ = build_index(folder / "v", "*.mp4", "videos", out=folder / "f")
    return Reader(folder / "f", index, "frames")


@pytest.mark.parametrize(
    "name", ["crw", "vfs-r18", "vfs-r18-object", "vfs-r50", "fc", "mast", "liir-a", "liir-c", "liir-d", "liir-e"]
)
def test_pretraining(name, reader, fake, monkeypatch):
    monkeypatch.setattr(reconstruction, "draw_channel", lambda generator: 1)
    recipe = Recipe.from_row(RECIPES.get(name, "test"), "smoke")
    options = options_of(recipe.module.Options, recipe.options, "test")
    data = StepData(Order(recipe.module.Source(options), reader.index, 0, 2, drop_last=False), reader)
    batch = collate([data[0, 0], data[0, 1]])
    del batch["replaced"]
    check_step(recipe.module.Model(options), batch, fake)


def test_mask_propagation_training(fake):
    batch = {"frames": (2, 3, 3, 64, 64), "classes": (2, 3, 64, 64), "first": (2, 1, 64, 64), "second": (2,)}
    for kind in ("static", "clips"):
        check_step(train.Model(train.Options(kind)), {k: torch.zeros(v) for k, v in batch.items()}, fake)


def test_probe_training(fake):
    batch = {"z": torch.zeros(2, 3, 104, 104), "x": torch.zeros(2, 3, 239, 239)}
    check_step(probe.Model(probe.Options()), batch, fake)


def check_step(model, batch, mode):
    with mode:
        to_fake_cuda(model).train()
        model.before_step(30_000, 100_000)
        loss = model({name: fake_like(value) for name, value in batch.items()}, torch.Generator())["loss"]
        model.after_step()
    assert loss.device.type == "cuda" and loss.requires_grad


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_label_propagation(name, fake, monkeypatch):
    protocol = Protocol.from_row(PROTOCOLS.get(name, "test"))
    monkeypatch.setattr(affinity, "_readd_ties", lambda *_: None)  # as many cells as there are ties
    if protocol.copy:
        return  # no network, no similarities
    with fake, Workspace(CUDA) as workspace:
        memory = Memory(protocol, torch.empty(12, 16, 32, device=CUDA), torch.empty(12, 16, 3, device=CUDA))
        for t in range(1, 25):
            features, scores = torch.empty(12, 16, 32, device=CUDA), torch.empty(12, 16, 3, device=CUDA)
            if t in (1, 2, 24):  # a context that starts, grows, is full
                scores = memory.read(t, features, workspace)
            memory.add(t, features, scores)
            assert scores.device.type == "cuda" and scores.shape == (12, 16, 3)


@pytest.mark.parametrize(("top_k", "sigma"), [(None, None), (20, None), (20, 7.0)])
def test_mask_propagation(top_k, sigma, fake):
    net = STM()
    with fake:
        to_fake_cuda(net.eval())
        image, masks = torch.empty(1, 3, 64, 96, device=CUDA), torch.empty(2, 1, 64, 96, device=CUDA)
        banks = [Bank(3, 2) for _ in range(2)]
        for annotated in (True, False):
            keys, values = net.memorize_with(image, masks, masks)
            for bank, key, value in zip(banks, keys, values, strict=True):
                bank.keep(key, value, annotated=annotated)
        query = net.query(image)
        found = torch.stack([read(*bank.rows(), query.key[0], top_k=top_k, sigma=sigma) for bank in banks])
        classes, _ = aggregate(torch.sigmoid(net.decode(found, query))[:, 0])
    assert classes.device.type == "cuda" and classes.shape == (3, 64, 96)
