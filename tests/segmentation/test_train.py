import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from corrbench.datasets.clips import ClipIndex, ClipReader, build_clip_index
from corrbench.datasets.synthetic import write_clips
from corrbench.encoders.resnet import random_resnet
from corrbench.encoders.stm import STM
from corrbench.errors import Refusal
from corrbench.pretraining.order import Order
from corrbench.segmentation import augment
from corrbench.segmentation.memory import read
from corrbench.segmentation.train import (
    Model,
    Options,
    Source,
    bootstrapped_loss,
    counted_share,
    draw_frames,
    largest_skip,
    read_together,
)
from corrbench.weights.convert import convert

CLIPS = [{"images": "JPEGImages/480p/*", "replace": ["JPEGImages", "Annotations"], "spacing": 1, "repeat": 1}]
STATIC = [{"images": "static/*.jpg", "replace": ["", ""], "spacing": 1, "repeat": 2}]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder / "data", videos=3, frames=8, height=72, width=96)
    write_clips(folder / "data/static", videos=3, frames=8, height=72, width=96, static=True)
    return folder


def reader_of(root, parts):
    index = build_clip_index(parts, {"own": root / "data"}, "own", root / "out")
    index.write(root / "out/index.csv")
    again = ClipIndex.read(root / "out/index.csv")
    assert again == index
    return ClipReader(root / "out", again)


def test_share_of_the_reference():
    share = [
        counted_share(s, warm=20_000, hard=70_000, share=0.15) for s in (0, 19_999, 20_000, 45_000, 70_000, 200_000)
    ]
    assert share == pytest.approx([1, 1, 1, 0.575, 0.15, 0.15])


def test_the_loss_counts_the_largest_pixels():
    logits = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    classes = torch.randint(0, 3, (8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    each = cross_entropy(logits[None], classes[None].long(), reduction="none").flatten().sort(descending=True).values
    torch.testing.assert_close(bootstrapped_loss(logits, classes, share=1.0), each.mean())
    torch.testing.assert_close(bootstrapped_loss(logits, classes, share=0.15), each[:9].mean())  # int(0.15 * 64)


def test_skips_grow_and_fall():
    skips = [largest_skip(d, back=0.9) for d in (0, 0.09, 0.1, 0.25, 0.35, 0.5, 0.89, 0.9, 0.99)]
    assert skips == [5, 5, 10, 15, 20, 25, 25, 5, 5]
    assert largest_skip(0.85, back=0.8) == 5


def test_frames_stay_inside_and_near():
    rng, seen = np.random.default_rng(0), set()
    for _ in range(500):
        frames = draw_frames(20, 5, rng)
        ordered = sorted(frames)
        seen.add(frames[0] > frames[2])
        assert ordered[0] >= 0 and ordered[2] < 20 and max(np.diff(ordered)) <= 6
    assert seen == {True, False}
    assert all(max(draw_frames(3, 25, rng)) < 3 for _ in range(50))


def test_a_curriculum_over_the_run(root):
    reader = reader_of(root, [{**CLIPS[0], "spacing": 5}])
    order = Order(Source(Options()), reader.index, 0, 1, drop_last=True)
    order.epochs = 10
    assert [int(order.samples(e)[0, 1]) for e in (0, 1, 2, 4, 9)] == [
        1,
        2,
        3,
        5,
        1,
    ]  # YouTube-VOS: a fifth, as its frames


@pytest.mark.parametrize("kind", ["clips", "static"])
def test_samples(root, kind):
    source = Source(Options(kind=kind, crop=64))
    reader = reader_of(root, CLIPS if kind == "clips" else STATIC)
    rows = source.epoch(reader.index, np.random.default_rng(0))
    assert len(rows) == (3 if kind == "clips" else 48)
    found = [source.load(reader, row, np.random.default_rng(i)) for i, row in enumerate(rows[:6])]
    again = source.load(reader, rows[0], np.random.default_rng(0))
    assert all(torch.equal(found[0][k], again[k]) for k in again)
    for sample in found:
        assert (
            sample["frames"].shape == (3, 3, 64, 64)
            and sample["classes"].shape == (3, 64, 64)
            and sample["first"].shape == (1, 64, 64)
        )
        assert set(sample["classes"].unique().tolist()) <= ({0, 1, 2} if kind == "clips" else {0, 1})
    if kind == "static":
        assert all((s["classes"] == 1).any() and s["first"].max() > 0.9 for s in found)
    if kind == "clips":
        assert {float(s["second"]) for s in found} <= {0.0, 1.0} and any((s["classes"][0] == 1).any() for s in found)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_masks_of_single_images_come_in_every_mode(tmp_path, mode):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.jpg")
    Image.fromarray(np.where(np.arange(30) > 14, 255, 0).astype(np.uint8)[None].repeat(20, 0)).convert(mode).save(
        tmp_path / "a.png"
    )
    index = build_clip_index(
        [{**STATIC[0], "images": "*.jpg", "repeat": 1}], {"own": tmp_path}, "own", tmp_path / "out"
    )
    _, mask = ClipReader(tmp_path / "out", index).read(0, 0)
    assert sorted(set(np.array(mask).flatten().tolist())) == [0, 255]


def test_small_objects_of_bl30k():
    source = Source(Options(small_objects=False))
    ids = np.zeros((3, 64, 64), np.uint8)
    ids[0, :31, :31] = 1  # 961 px
    ids[0, 40:52, :12] = 2  # 144 px, and little later
    ids[0, 40:52, 20:32] = 3  # 144 px, and much in one other frame
    ids[1, :30, :30] = 3
    assert [source._large(ids, label) for label in (1, 2, 3)] == [True, True, False]


def test_the_training_read_is_the_plain_read():
    g = torch.Generator().manual_seed(0)
    keys, values, queries = torch.randn(2, 8, 2, 3, 4, generator=g), torch.randn(2, 5, 2, 3, 4, generator=g), torch.randn(2, 8, 3, 4, generator=g)  # fmt: skip
    together = read_together(keys, values, queries)
    for b in range(2):
        torch.testing.assert_close(together[b], read(keys[b].flatten(1).T, values[b].flatten(1).T, queries[b]))


def test_the_spline_passes_through_its_points():
    rng = np.random.default_rng(0)
    centers, values = rng.random((12, 2)), rng.normal(0, 0.02, (12, 2))
    np.testing.assert_allclose(augment.spline(centers, values)(centers), values, atol=1e-4)


def test_no_warp_shifts_the_last_column_outside():
    image = Image.fromarray(np.full((64, 64, 3), 200, np.uint8))
    mask = Image.fromarray(np.full((64, 64), 255, np.uint8))
    warped, _ = augment.thin_plate_warp(image, mask, np.random.default_rng(0), strength=0.0)
    assert not np.array(warped)[:, -1].any() and (np.array(warped)[5, :-2] == 200).all()


def test_batches_are_the_mean_of_their_samples_and_one_object_has_two_classes(root):
    reader = reader_of(root, CLIPS)
    source = Source(Options(crop=48))
    samples = [source.load(reader, np.array([i, 5]), np.random.default_rng(i)) for i in (0, 1)]
    samples[1]["second"] = torch.tensor(0.0)
    samples[1]["classes"][samples[1]["classes"] == 2] = 0
    torch.manual_seed(0)
    model = Model(Options(crop=48))
    batch = lambda items: {k: torch.stack([s[k] for s in items]) for k in items[0]}  # noqa: E731
    both = model(batch(samples), torch.Generator())["loss"]
    alone = [model(batch([s]), torch.Generator())["loss"] for s in samples]
    torch.testing.assert_close(both, sum(alone) / 2, rtol=1e-4, atol=1e-5)
    both.backward()
    assert all(p.grad is not None for p in model.parameters())  # DDP needs every parameter used


def test_stages_and_conversion(tmp_path, methods):
    """ImageNet to stage 0, stage 0 to the next, and its checkpoint through the converter of released files."""
    start = Model(Options(kind="static"))
    resnet = random_resnet("resnet50", 1)
    start.load_init({"state_dict": resnet, "extra": {}, "meta": {"arch": "resnet50"}})
    state = start.net.state_dict()
    torch.testing.assert_close(state["rgb_encoder.res2.0.conv1.weight"], resnet["layer1.0.conv1.weight"])
    torch.testing.assert_close(state["mask_rgb_encoder.conv1.weight"][:, :3], resnet["conv1.weight"])
    assert (
        state["mask_rgb_encoder.conv1.weight"][:, 3].abs().sum() > 0 and not state["mask_rgb_encoder.conv1.bias"].any()
    )
    with pytest.raises(Refusal, match="weights of a resnet18"):
        start.load_init({"state_dict": {}, "extra": {}, "meta": {"arch": "resnet18"}})
    after = Model(Options())
    after.load_init(start.checkpoint())
    released = Model(Options(kind="clips"))  # canonical weights of an STM, as fine-tuning starts from
    released.load_init({"state_dict": after.checkpoint(), "extra": {}, "meta": {"arch": "stm"}})
    assert all(torch.equal(v, after.checkpoint()[k]) for k, v in released.checkpoint().items())
    torch.testing.assert_close(
        after.net.state_dict()["mask_rgb_encoder.conv1.weight"][:, :4], state["mask_rgb_encoder.conv1.weight"]
    )
    torch.save(after.checkpoint(), tmp_path / "s.pth")
    weights = convert(
        tmp_path / "s.pth", encoder=methods.get("mivos-s012", "test")["encoder"], method="mivos-s012", family="mivos"
    )
    assert weights.meta["arch"] == "stm" and len(weights.state_dict) == 597
    STM().load_weights(weights.state_dict, weights.extra)
    torch.save(start.checkpoint(), tmp_path / "s0.pth")
    with pytest.raises(Refusal, match=r"conv1.weight has shape \(64, 4, 7, 7\)"):
        convert(tmp_path / "s0.pth", encoder={"arch": "stm"}, method="mivos-s012")


def test_refusals(root, tmp_path):
    with pytest.raises(Refusal, match="expected: static or clips"):
        Options(kind="photos")
    with pytest.raises(Refusal, match="nothing fits"):
        build_clip_index([{**CLIPS[0], "images": "nowhere/*"}], {"own": root / "data"}, "own", tmp_path)
    write_clips(tmp_path / "data", videos=1, frames=3, height=48, width=64)
    next((tmp_path / "data/Annotations/480p").glob("*/00001.png")).unlink()
    with pytest.raises(Refusal, match="1 of 1 without a mask for every image"):
        build_clip_index(CLIPS, {"own": tmp_path / "data"}, "own", tmp_path / "out")
