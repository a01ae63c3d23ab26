import cv2
import numpy as np
import pytest
import torch

from corrbench.encoders.dilated import tracking_backbone
from corrbench.encoders.preprocess import Preprocess
from corrbench.errors import Refusal
from corrbench.tracking.crops import crop, crop_sides
from corrbench.tracking.head import Head
from corrbench.tracking.inputs import normalize
from corrbench.tracking.probe import Options
from corrbench.tracking.protocol import Figures
from corrbench.tracking.siamfc import Network, Target, load_head

IMAGE = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
BOX = np.array([100.0, 80, 40, 60])


def reference_update(state, responses):
    """The update of huanglianghua/siamfc-pytorch (siamfc.py, `update`), written out once more with plain numbers."""
    center, size, x_side = state
    factors = [1.0375**-1, 1.0, 1.0375]
    big = [cv2.resize(r, (272, 272), interpolation=cv2.INTER_CUBIC) for r in responses]
    big[0], big[2] = big[0] * 0.9745, big[2] * 0.9745
    best = max(range(3), key=lambda i: big[i].max())
    q = big[best] - big[best].min()
    q = q / (q.sum() + 1e-16)
    hann = np.outer(np.hanning(272), np.hanning(272))
    q = (1 - 0.176) * q + 0.176 * hann / hann.sum()
    row, column = divmod(int(q.argmax()), 272)
    move = np.array([row - 135.5, column - 135.5]) * 8 / 16 * x_side * factors[best] / 255
    f = 0.41 + 0.59 * factors[best]
    return center + move, size * f, x_side * f


def test_update_is_the_formula_of_the_reference():
    target = Target(IMAGE, BOX, Options(), Figures())
    state = (
        np.array([79 + 59 / 2, 99 + 39 / 2]),
        np.array([60.0, 40.0]),
        crop_sides(40, 60, exemplar=120, instance=255, context=0.5)[1],
    )
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(12):
        responses = rng.normal(0, 1, (3, 18, 18)).astype(np.float32)
        box = target.update(responses)
        state = reference_update(state, responses)
        (cy, cx), (h, w), _ = state
        np.testing.assert_allclose(box, [cx + 1 - (w - 1) / 2, cy + 1 - (h - 1) / 2, w, h], rtol=2e-5)
        seen.add(round(float(h / 60), 3))
    assert len(seen) > 3  # sizes went up and down


def test_factors_of_the_reference():
    target = Target(IMAGE, BOX, Options(), Figures())
    up = np.zeros((3, 18, 18), np.float32)
    up[2, 9, 9] = 10
    assert target.update(up)[2] / 40 == pytest.approx(1.022125)
    down = np.zeros((3, 18, 18), np.float32)
    down[0, 9, 9] = 10
    target = Target(IMAGE, BOX, Options(), Figures())
    assert target.update(down)[3] / 60 == pytest.approx(0.978675, rel=1e-6)


def test_the_penalty_raises_negative_responses_as_in_the_reference():
    target = Target(IMAGE, BOX, Options(), Figures())
    responses = np.full((3, 18, 18), -1.0, np.float32)
    assert target.update(responses)[2] < 40  # -0.9745 of the smaller scale wins over -1; the first of equals


def test_a_displacement_is_seventeen_eighteenths(monkeypatch):
    """The 18x18 map counts as 17 cells (trap 1): a peak k cells off the center moves 8 * 17/18 k search pixels."""
    target = Target(IMAGE, BOX, Options(), Figures(window=0.0))
    y, x = np.mgrid[0:18, 0:18]
    peak = np.exp(-((x - 8.5 - 4) ** 2 + (y - 8.5) ** 2) / 4).astype(np.float32)
    before, side = target.center.copy(), target.search_side
    target.update(np.stack([peak * 0.1, peak, peak * 0.1]))
    moved = (target.center - before) * 255 / side
    assert moved[1] == pytest.approx(4 * 8 * 17 / 18, abs=0.3) and abs(moved[0]) < 0.3


def test_search_crops_and_the_network():
    target = Target(IMAGE, BOX, Options(layer="layer1", channels=64), Figures())
    crops = target.search(IMAGE)
    np.testing.assert_array_equal(crops[1], crop(IMAGE, target.center, target.search_side, 255))
    assert [c.shape for c in crops] == [(255, 255, 3)] * 3 and target.exemplar.shape == (120, 120, 3)
    backbone, head = tracking_backbone("resnet18", "layer1").eval(), Head(64, 1e-3)
    network = Network(backbone, head, torch.device("cpu"))
    many = network.responses(network.kernels([target.exemplar] * 2), crops * 2)
    one = network.responses(network.kernels([target.exemplar]), crops)
    np.testing.assert_allclose(many[3:], one, rtol=1e-4, atol=1e-5)  # together or alone
    with torch.no_grad():  # one crop at a time through the plain formula
        z, x = (
            backbone(normalize(torch.from_numpy(c.transpose(2, 0, 1).copy())[None], Preprocess()))
            for c in (target.exemplar, crops[2])
        )
        plain = torch.nn.functional.conv2d(head.x_convs[0](x), head.z_convs[0](z))[0, 0] * 1e-3
    np.testing.assert_allclose(one[2], plain.numpy(), rtol=1e-4, atol=1e-5)


def test_a_tracker_finds_a_moved_texture():
    """With raw colors as features and identity kernels, the peak follows a bright patch."""

    class Colors(torch.nn.Module):
        preprocess = Preprocess()

        def forward(self, images):
            return torch.nn.functional.avg_pool2d(images, 8, ceil_mode=True)

    head = Head(3, 1e-3)
    for conv in (head.z_convs[0], head.x_convs[0]):
        torch.nn.init.dirac_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    network = Network(Colors(), head, torch.device("cpu"))
    images = []
    for t in range(6):
        image = np.full((240, 320, 3), 115, np.uint8)
        image[80:140, 100 + 6 * t : 140 + 6 * t] = (250, 120, 10)
        images.append(image)
    target = Target(images[0], np.array([101.0, 81, 40, 60]), Options(layer="layer1", channels=64), Figures())
    kernel = network.kernels([target.exemplar])
    for image in images[1:]:
        box = target.update(network.responses(kernel, target.search(image)))
    assert box[0] == pytest.approx(131, abs=6) and box[1] == pytest.approx(81, abs=6)


def test_refusals():
    with pytest.raises(Refusal, match="positive width and height"):
        Target(IMAGE, np.array([5.0, 5, 0, 9]), Options(), Figures())
    with pytest.raises(Refusal, match="holds no layer of a tracker"):
        load_head({"conv1.weight": torch.zeros(1)}, Options(), "weights.pt")
    other = {f"head.{k}": v for k, v in Head(2048, 1e-5).state_dict().items()}
    with pytest.raises(Refusal, match=r"(?s)a layer of another backbone \(\(2048.*512 channels for layer4 of resnet18"):
        load_head(other, Options(), "weights.pt")
    network = Network(tracking_backbone("resnet18", "layer1"), Head(64, float("nan")), torch.device("cpu"))
    with pytest.raises(Refusal, match="not finite"):
        network.responses(network.kernels([IMAGE[:120, :120]]), [IMAGE[:200, :200]])
