import math
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT

from corrbench.encoders.build import build
from corrbench.encoders.stm import STM
from corrbench.errors import Refusal
from corrbench.segmentation import correspond
from corrbench.segmentation.correspond import correspondence, encode, mask_values, point_values, transfer
from corrbench.weights.canonical import save_weights
from corrbench.weights.convert import random_weights

CPU = torch.device("cpu")
R18 = {"arch": "resnet18", "layer": "layer1", "strides": [1, 2, 1, 1], "padding": "zeros", "color": "rgb"}


def textured(height, width, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def test_stm_is_the_formula_of_the_reference():
    """Source: memory key with two empty masks; W = softmax over source cells of the products over the root of 128."""
    torch.manual_seed(0)
    net = STM().eval()
    a, b = textured(48, 64), textured(48, 64, 1)
    source, target = encode(net, a, CPU), encode(net, b, CPU, source=False)
    got = correspondence(source, target, slice(None), temperature=1.0).T

    def tensor(image):
        x = torch.from_numpy((image[:, :, ::-1].astype(np.float32) / 255).transpose(2, 0, 1).copy())[None]
        return (x - torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).reshape(1, 3, 1, 1)

    with torch.no_grad():
        key = net.memorize_with(tensor(a), torch.zeros(1, 1, 48, 64), torch.zeros(1, 1, 48, 64))[0][0].flatten(1)
        plain = (key.T @ net.query(tensor(b)).key[0].flatten(1) / math.sqrt(128)).softmax(0)
    torch.testing.assert_close(got, plain, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(got.sum(0), torch.ones(12), rtol=1e-4, atol=1e-4)


def test_a_shifted_image_is_found_by_any_encoder(monkeypatch):
    torch.manual_seed(0)
    net = build(R18).eval()
    wide = textured(96, 200)
    first, second = wide[:, :160], wide[:, 24:184]  # the picture moves 24 px to the left
    source, target = encode(net, first, CPU), encode(net, second, CPU)
    heat, share = transfer(source, target, point_values(source, 100, 40), temperature=0.05)
    assert 0 < share <= 1
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    assert heat.shape == (96, 160) and abs(x - 76) <= 6 and abs(y - 40) <= 6
    monkeypatch.setattr(correspond, "AT_ONCE", 7)
    np.testing.assert_allclose(
        transfer(source, target, point_values(source, 100, 40), temperature=0.05)[0], heat, atol=1e-6
    )
    mask = np.zeros((96, 160), np.uint8)
    mask[30:60, 80:120] = 1
    region = transfer(source, target, mask_values(source, mask), temperature=0.01)[0] > 0.5
    assert region[35:55, 62:90].mean() > 0.8 and region[:, 120:].mean() < 0.2


def test_points_count_the_padding():
    net = STM().eval()
    cells = encode(net, textured(40, 56), CPU)
    assert cells.padding == (4, 4, 4, 4) and cells.features.shape[1:] == (3, 4)
    assert cells.cell(0, 0) == (0, 0) and cells.cell(11.9, 0) == (0, 0) and cells.cell(12, 12) == (1, 1)
    with pytest.raises(Refusal, match="x below 56"):
        cells.cell(56, 0)
    with pytest.raises(Refusal, match="as the source"):
        mask_values(cells, np.zeros((5, 5), np.uint8))


def test_the_program_writes_a_picture(tmp_path):
    save_weights(tmp_path / "w.pt", random_weights(R18, method="m", seed=0))
    cv2.imwrite(str(tmp_path / "a.png"), textured(64, 96))
    cv2.imwrite(str(tmp_path / "b.png"), textured(64, 96, 1))
    command = [sys.executable, "-m", "scripts.correspond", "--weights", tmp_path / "w.pt", "--source", tmp_path / "a.png", "--target", tmp_path / "b.png", "--point", "30,20", "--out", tmp_path / "o.png"]  # fmt: skip
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "->" in done.stdout, done.stderr
    assert cv2.imread(str(tmp_path / "o.png")).shape == (64, 96 * 2 + 6, 3)
