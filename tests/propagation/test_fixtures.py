"""Numeric fixtures of every protocol: small cases computed with the functions of the reference repositories."""

import numpy as np
import pytest
import torch

from corrbench.encoders.fusion import fuse
from corrbench.propagation.memory import Memory
from corrbench.propagation.protocol import Protocol
from corrbench.propagation.softmax import TILE
from corrbench.propagation.tiles import Workspace
from corrbench.rows import merge

H, W = 6, 7


def phi(channels, frames, *, offset=1.0):
    """``[t, h, w, C]``: sin(offset + 0.9c + 0.37y(1+c mod 3) + 0.53x(1+2c mod 5) + 0.29t(1+c mod 2))."""
    c, t, y, x = np.meshgrid(np.arange(channels), np.arange(frames), np.arange(H), np.arange(W), indexing="ij")
    values = np.sin(offset + 0.9 * c + 0.37 * y * (1 + c % 3) + 0.53 * x * (1 + (2 * c) % 5) + 0.29 * t * (1 + c % 2))
    return torch.from_numpy(values.astype(np.float32)).permute(1, 2, 3, 0).contiguous()


def grid_labels():
    ids = np.zeros((H, W), np.int64)
    ids[1:4, 1:4] = 1
    ids[3:6, 4:7] = 2
    return torch.nn.functional.one_hot(torch.from_numpy(ids), 3).float()


def run(protocol, features, frames):
    """Soft labels of each frame with the engine's own memory."""
    labels = grid_labels()
    memory = Memory(protocol, features[0], labels)
    out = [labels]
    with Workspace(torch.device("cpu")) as workspace:
        for t in range(1, frames):
            scores = memory.read(t, features[t], workspace)
            memory.add(t, features[t], scores)
            out.append(scores)
    return out


def changed(protocols, name, change):
    return Protocol.from_row(merge(protocols.get(name, "test"), change))


TOPK_CASES = {
    "crw": (
        "crw",
        {"context": {"recent": 3}, "window": {"radius": 3}, "selection": {"temperature": 0.05, "topk": 5}},
        {
            1: ((19.91465, 11.47684, 10.60851), (0.102766, 0.897234, 0), (0.212974, 0, 0.787026)),
            2: ((19.87285, 10.02369, 12.10346), (0.346373, 0.653627, 0), (0.028207, 0, 0.971793)),
            5: ((18.37886, 6.32634, 17.29480), (0.692262, 0.002600, 0.305137), (0.008117, 0, 0.991883)),
        },
    ),
    "vfs": (
        "vfs-r18",
        {"context": {"recent": 3}, "window": {"radius": 3}, "selection": {"topk": 5}},
        {
            1: ((21.14738, 10.54306, 10.30957), (0.011199, 0.988801, 0), (0.085950, 0, 0.914050)),
            2: ((20.18881, 9.60015, 12.21104), (0.412645, 0.587355, 0), (0.019645, 0, 0.980355)),
            5: ((17.90248, 6.23671, 17.86081), (0.719263, 0.010833, 0.269903), (0.026536, 0, 0.973464)),
        },
    ),
    "dino": (
        "dino",
        {"context": {"recent": 3}, "window": {"radius": 2}},
        {
            1: ((21.65488, 10.06494, 10.28018), (0.090956, 0.909044, 0), (0.193198, 0, 0.806802)),
            2: ((20.38356, 9.66749, 11.94895), (0.429411, 0.570589, 0), (0.077104, 0, 0.922896)),
            5: ((17.89110, 6.51969, 17.58921), (0.676404, 0.017109, 0.306487), (0.078072, 0, 0.921928)),
        },
    ),
}


@pytest.mark.parametrize("case", TOPK_CASES)
def test_topk_protocols(case, protocols):
    name, change, expected = TOPK_CASES[case]
    features = torch.nn.functional.normalize(phi(8, 6), dim=-1)
    out = run(changed(protocols, name, change), features, 6)
    check(out, expected)


def check(out, expected):
    for t, (sums, at_23, at_44) in expected.items():
        np.testing.assert_allclose(out[t].sum((0, 1)), sums, atol=1e-4)
        np.testing.assert_allclose(out[t][2, 3], at_23, atol=1e-5)
        np.testing.assert_allclose(out[t][4, 4], at_44, atol=1e-5)


def test_sfc_fusion(protocols):
    fine, semantic = phi(8, 6), phi(5, 6, offset=1.5)
    fused = fuse(fine.permute(0, 3, 1, 2), semantic.permute(0, 3, 1, 2), 1.75).permute(0, 2, 3, 1)

    def cosine(f):
        f = torch.nn.functional.normalize(f, dim=-1)
        return float(f[1, 2, 3] @ f[0, 2, 3])

    assert cosine(fused) == pytest.approx(0.892663, abs=1e-6)
    assert cosine(fine) == pytest.approx(0.888162, abs=1e-6)
    assert cosine(semantic) == pytest.approx(0.906447, abs=1e-6)
    change = {"context": {"recent": 3}, "window": {"radius": 3}, "selection": {"topk": 7}}
    expected = {
        1: ((21.41748, 10.27908, 10.30343), (0.129095, 0.870905, 0), (0.127153, 0, 0.872847)),
        5: ((18.08158, 7.78557, 16.13285), (0.714226, 0.010627, 0.275147), (0.075256, 0, 0.924744)),
    }
    check(run(changed(protocols, "sfc", change), fused, 6), expected)


# ------------------------------------------------------------------------------------------------ MAST and LIIR, one step


def rolled_labels(frame):
    image = np.zeros((24, 28), np.int64)
    image[4:16, 4:16] = 1
    image[12:24, 16:28] = 2
    ids = np.roll(image, frame, axis=1)[::4, ::4]
    return torch.nn.functional.one_hot(torch.from_numpy(np.ascontiguousarray(ids)), 7).float()


WINDOW_CASES = [
    ("liir", 1, (19.60441, 10.80784, 11.39160), (0.995494, 0.003216, 0), (0.122045, 0.873334, 0.004622), (0.135038, 0.000272, 0.864017)),
    ("mast", 1, (19.60441, 10.80784, 11.39160), (0.995494, 0.003216, 0), (0.122045, 0.873334, 0.004622), (0.135038, 0.000272, 0.864017)),
    ("liir-momen", 1, (19.60441, 10.80784, 11.39160), (0.995494, 0.003216, 0), (0.122045, 0.873334, 0.004622), (0.135038, 0.000272, 0.864017)),
    ("liir-compact", 1, (24.48580, 12.78246, 13.92704), (1.126887, 0.033848, 0), (0.068981, 1.151894, 0.044808), (0.465837, 0.002440, 0.770864)),
    ("liir-momen-compact", 1, (24.48580, 13.42158, 14.62339), (1.126887, 0.035540, 0), (0.068981, 1.209489, 0.047048), (0.465837, 0.002562, 0.809407)),
    ("liir", 22, (21.21229, 9.55827, 11.05637), (0.796388, 0.200528, 0.000004), (0.343340, 0.229269, 0.427028), (0.132742, 0.012694, 0.854212)),
    ("liir-compact", 22, (58.22813, 25.86136, 29.72318), (1.742229, 0.668415, 0.000004), (0.802107, 1.137979, 0.783971), (0.618762, 0.045754, 1.997559)),
    ("liir-momen-compact", 22, (58.48203, 27.66068, 31.90151), (1.743166, 0.697978, 0), (0.760584, 1.274438, 0.791678), (0.613917, 0.042589, 2.101039)),
    ("mast", 22, (20.83685, 13.02581, 7.42836), (0.744410, 0.252582, 0.000004), (0.409268, 0.111729, 0.475809), (0.419417, 0.018033, 0.462824)),
    ("liir", 36, (20.97548, 10.20534, 10.28657), (0.971196, 0.014781, 0.011976), (0.126028, 0.838487, 0.032064), (0.909349, 0.078400, 0.011108)),
]  # fmt: skip


@pytest.mark.parametrize("case", WINDOW_CASES, ids=lambda c: f"{c[0]}-t{c[1]}")
@pytest.mark.parametrize("tile", [TILE, (3, 2)], ids=["tile12x8", "tile3x2"])
def test_window_protocols(case, tile, protocols, monkeypatch):
    name, t, sums, at_00, at_23, at_44 = case
    monkeypatch.setattr("corrbench.propagation.softmax.TILE", tile)
    protocol = changed(protocols, name, {"window": {"radius": 2}})
    features = phi(8, t + 1) * 1.5
    memory = Memory(protocol, features[0], rolled_labels(0))
    for frame in range(1, t):
        memory.add(frame, features[frame], rolled_labels(frame))
    with Workspace(torch.device("cpu")) as workspace:
        scores = memory.read(t, features[t], workspace)
    # compared maps sum near ties of the second peak in another order, which moves a sum by up to 0.1 %
    tolerance = 1e-3 if "compact" in name else 2e-5
    np.testing.assert_allclose(scores.sum((0, 1))[:3], sums, rtol=tolerance, atol=1e-4)
    assert scores[..., 3:].abs().max() == 0
    for cell, expected in (((0, 0), at_00), ((2, 3), at_23), ((4, 4), at_44)):
        np.testing.assert_allclose(scores[cell][:3], expected, atol=2e-5)
