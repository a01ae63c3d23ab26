import cv2
import numpy as np
import pytest

from corrbench.tracking import crops
from corrbench.tracking.crops import center_of, crop, crop_sides


def test_sides_and_center_of_the_reference():
    exemplar, search = crop_sides(34, 81, exemplar=120, instance=255, context=0.5)
    assert exemplar == pytest.approx(112.573, abs=1e-3) and search == pytest.approx(239.218, abs=1e-3)
    np.testing.assert_array_equal(center_of(np.array([1, 1, 3, 5])), [2, 1])  # 1-based: (x, y) 1, 1 is pixel 0, 0


@pytest.mark.parametrize(
    ("center", "side", "padding"),  # top, bottom, left, right, measured from the reference on a 240x320 image
    [((120, 10), 80, (0, 0, 95, 1)), ((120, 310), 80, (0, 0, 0, 96)), ((5, 160), 100, (114, 1, 0, 0)), ((120, 160), 400, (51, 51, 25, 26))],
)  # fmt: skip
def test_padding_of_the_reference(monkeypatch, center, side, padding):
    seen = []
    pad = cv2.copyMakeBorder
    monkeypatch.setattr(crops.cv2, "copyMakeBorder", lambda *a, **k: seen.append(a[1:5]) or pad(*a, **k))
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    assert crop(image, np.array(center, np.float32), side, 255).shape == (255, 255, 3)
    # the reference pads only on the sides that need it; a rounding remainder goes to the right and the bottom
    assert seen == [padding]


@pytest.mark.parametrize(("side", "x0", "out", "left"), [(22, -11, 120, 60), (221, -13, 255, 15), (105, -21, 255, 51)])
def test_whole_quotients_lose_no_pixel(monkeypatch, side, x0, out, left):
    """Measured from the reference: -x0 * out / side, in this order."""
    seen = []
    pad = cv2.copyMakeBorder
    monkeypatch.setattr(crops.cv2, "copyMakeBorder", lambda *a, **k: seen.append(a[1:5]) or pad(*a, **k))
    crop(np.zeros((400, 400, 3), np.uint8), np.array([200, x0 + side / 2]), side, out)
    assert seen[0][2] == left


def test_the_border_is_the_mean_color_and_outside_is_black():
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, :50] = (10, 20, 200)
    patch = crop(image, np.array([50, 0], np.float32), 60, 60)
    np.testing.assert_array_equal(patch[:, :29], np.broadcast_to([5, 10, 100], (60, 29, 3)))
    assert not crop(image, np.array([50, -200], np.float32), 60, 60).any()
    assert not crop(image, np.array([500, 50], np.float32), 60, 60).any()


def test_inside_is_a_plain_resize():
    image = np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    got = crop(image, np.array([100, 90], np.float32), 80, 255, cv2.INTER_CUBIC)
    np.testing.assert_array_equal(got, cv2.resize(image[60:140, 50:130], (255, 255), interpolation=cv2.INTER_CUBIC))


def test_a_tiny_side_counts_as_two_pixels():
    image = np.random.default_rng(2).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        crop(image, np.array([20, 20], np.float32), 0.1, 8), crop(image, np.array([20, 20], np.float32), 2, 8)
    )
