"""Labels, sizes, inputs and decoding."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from corrbench.encoders.preprocess import Preprocess
from corrbench.errors import Refusal
from corrbench.propagation.decode import Sizes, decode
from corrbench.propagation.inputs import network_size, prepare
from corrbench.propagation.labels import first_labels, shrink
from corrbench.propagation.protocol import Decode, Labels
from corrbench.propagation.protocol import Image as ImageRule

BILINEAR = Labels("bilinear", "present", "soft")
NEAREST = Labels("nearest", "max_id", "soft")
STRIDE = Labels("stride", "seven", "hard")


def mask_with(ids, shape=(48, 80)):
    mask = np.zeros(shape, np.uint8)
    for i, number in enumerate(ids):
        mask[8 : 8 + 16, 4 + 20 * i : 20 + 20 * i] = number
    return mask


def test_bilinear_labels_are_soft_and_keep_a_tiny_object():
    mask = mask_with([2])
    mask[41:44, 73:76] = 7  # 3x3 pixels: lost by nearest, not by bilinear
    labels, ids = first_labels(mask, (6, 10), BILINEAR, stride=8)
    assert ids == [0, 2, 7]
    assert 0 < labels[..., 2].max() < 1
    assert labels.sum(-1).allclose(torch.ones(6, 10))
    _, ids = first_labels(mask, (6, 10), NEAREST, stride=8)
    assert ids == [0, 1, 2]  # the highest id left after the shrink decides


@pytest.mark.parametrize("objects", [1, 2, 3, 4, 6, 11, 254])
@pytest.mark.parametrize("size", [(480, 854), (240, 427)])
def test_bilinear_labels_are_resized_in_one_call(objects, size):
    """CRW code/data/vos.py resizes all channels at once; one by one OpenCV's sums differ by up to 3e-5."""
    height, width = size
    mask = np.random.default_rng(objects).integers(0, objects + 1, size, dtype=np.uint8)
    grid = (-(-height // 8), -(-width // 8))
    labels, ids = first_labels(mask, grid, BILINEAR, stride=8)
    assert ids == list(range(objects + 1))
    onehot = np.stack([mask == i for i in ids], -1)
    assert np.array_equal(labels, cv2.resize(np.float32(onehot), grid[::-1]))  # bilinear is OpenCV's default


def test_an_object_that_fills_the_frame_is_one_class():
    labels, ids = first_labels(np.full((48, 80), 3, np.uint8), (6, 10), BILINEAR, stride=8)
    assert ids == [3] and labels.shape == (6, 10, 1) and (labels == 1).all()


def test_nearest_is_pil_nearest():
    mask = np.arange(854, dtype=np.int64).repeat(8).reshape(854, 8).T.astype(np.uint8)
    small = shrink(np.ascontiguousarray(mask), (1, 107), NEAREST, stride=8)
    assert list(small[0, :5]) == [3, 11, 19, 27, 35]


def test_stride_labels_take_the_top_left_pixel_and_seven_classes():
    mask = mask_with([1, 6])
    labels, ids = first_labels(mask, (12, 20), STRIDE, stride=4)
    assert ids == list(range(7))
    assert np.array_equal(labels.argmax(-1), mask[::4, ::4])
    with pytest.raises(Refusal, match="object id 8") as refusal:
        first_labels(mask_with([8]), (12, 20), STRIDE, stride=4)
    assert "another protocol" in str(refusal.value)
    with pytest.raises(Refusal, match="every 8 pixels"):
        first_labels(mask, (12, 20), STRIDE, stride=8)


def test_first_frame_without_object_is_refused():
    with pytest.raises(Refusal, match="first frame has no object"):
        first_labels(np.zeros((48, 80), np.uint8), (6, 10), BILINEAR, stride=8)


@pytest.mark.parametrize(
    ("rule", "image", "network"),
    [
        (ImageRule("native", None, "encoder"), (480, 910), (480, 910)),
        (ImageRule("short_side", 480, "encoder"), (180, 320), (480, 853)),
        (ImageRule("short_side", 480, "encoder"), (480, 854), (480, 854)),
        (ImageRule("floor64", 480, "dino"), (480, 854), (480, 832)),
        (ImageRule("floor64", 480, "dino"), (480, 910), (480, 896)),
        (ImageRule("floor64", 480, "dino"), (480, 1152), (480, 1152)),
        (ImageRule("floor64", 480, "dino"), (854, 480), (832, 480)),
        (ImageRule("pad", 4, "encoder"), (480, 854), (480, 856)),
    ],
)
def test_network_sizes(rule, image, network):
    assert network_size(*image, rule).network == network


def test_padding_follows_normalization():
    rule = ImageRule("pad", 4, "encoder")
    image = np.full((6, 6, 3), 200, np.uint8)
    out = prepare(image, network_size(6, 6, rule), rule, Preprocess.of_color("lab"))
    assert out.shape == (3, 8, 8)
    assert out[:, 6:].abs().max() == 0 and out[:, :, 6:].abs().max() == 0


def test_color_spaces():
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 0] = 255  # blue, in BGR
    rgb = prepare(
        image,
        network_size(2, 2, ImageRule("native", None, "encoder")),
        ImageRule("native", None, "encoder"),
        Preprocess.of_color("rgb"),
    )
    assert rgb[2, 0, 0] == pytest.approx((1 - 0.406) / 0.225, abs=1e-6)
    dino = prepare(
        image,
        network_size(2, 2, ImageRule("native", None, "dino")),
        ImageRule("native", None, "dino"),
        Preprocess.of_color("rgb"),
    )
    assert dino[0, 0, 0] == pytest.approx(-0.485 / 0.228, abs=1e-6)
    lab = prepare(
        image,
        network_size(2, 2, ImageRule("native", None, "encoder")),
        ImageRule("native", None, "encoder"),
        Preprocess.of_color("lab"),
    )
    reference = cv2.cvtColor(np.float32([[[1, 0, 0]]]), cv2.COLOR_BGR2LAB)[0, 0]
    np.testing.assert_allclose(
        lab[:, 0, 0], [(reference[0] - 50) / 50, reference[1] / 127, reference[2] / 127], rtol=1e-6
    )


NATIVE = Sizes((48, 80), (48, 80), padded=False)


def test_decode_is_bilinear_then_argmax():
    torch.manual_seed(0)
    scores = torch.rand(3, 6, 10)
    mask = decode(scores, [0, 2, 5], NATIVE, Decode("image", "none", "decoded"))
    large = np.stack([cv2.resize(c.numpy(), (80, 48), interpolation=cv2.INTER_LINEAR) for c in scores])
    assert (mask == np.array([0, 2, 5])[large.argmax(0)]).mean() > 0.999
    tied = decode(torch.zeros(2, 6, 10), [0, 1], NATIVE, Decode("image", "none", "decoded"))
    assert not tied.any()  # the lowest class wins


def test_minmax_lets_a_weak_object_win():
    scores = torch.zeros(2, 6, 10)
    scores[0] = 0.8
    scores[0, 0, 0] = 1.0
    scores[1, 2:4, 2:4] = 0.3
    plain = decode(scores, [0, 1], NATIVE, Decode("image", "none", "decoded"))
    stretched = decode(scores, [0, 1], NATIVE, Decode("image", "epsilon", "annotation"))
    exact = decode(scores, [0, 1], NATIVE, Decode("image", "exact", "annotation"))
    assert not plain.any() and stretched.any()
    assert np.array_equal(stretched, exact)


def test_constant_class_is_no_nan():
    scores = torch.stack([torch.ones(6, 10), torch.rand(6, 10)])
    mask = decode(scores, [0, 1], NATIVE, Decode("image", "exact", "annotation"))
    assert mask.any()  # a NaN would have won everywhere


def test_network_size_is_cropped_or_resized_back():
    scores = torch.rand(2, 12, 20)
    padded = decode(scores, [0, 1], Sizes((46, 78), (48, 80), padded=True), Decode("network", "none", "annotation"))
    whole = decode(scores, [0, 1], NATIVE, Decode("network", "none", "annotation"))
    assert np.array_equal(padded, whole[:46, :78])
    resized = decode(scores, [0, 1], Sizes((30, 50), (48, 80), padded=False), Decode("network", "none", "annotation"))
    assert np.array_equal(resized, np.asarray(Image.fromarray(whole).resize((50, 30), Image.Resampling.NEAREST)))


def test_luminance_is_what_crws_loader_gives_uvc():
    """code/data/vos.py with use_lab: float, back to 8 bit by cutting, 8-bit Lab, L three times, (L - 128) / 128."""
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    rgb = (image.astype(np.float32) / 255.0)[:, :, ::-1].copy()
    lab = cv2.cvtColor((rgb * 255).astype(np.uint8)[:, :, ::-1].copy(), cv2.COLOR_BGR2LAB)
    wanted = (torch.from_numpy(lab).float()[:, :, 0] - 128) / 128
    rule = ImageRule("native", None, "encoder")
    found = prepare(image, network_size(40, 50, rule), rule, Preprocess.of_color("luminance"))
    assert found.shape == (3, 40, 50) and all(torch.equal(channel, wanted) for channel in found)
