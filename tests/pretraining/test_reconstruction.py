"""What MAST and LIIR share, against naive loops."""

import cv2
import numpy as np
import torch

from corrbench.datasets.videos import Index, Video
from corrbench.pretraining import mast
from corrbench.pretraining import reconstruction as rec


def maps(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_correlation_and_copying_like_naive_loops():
    target, reference, colors = maps(2, 5, 6, 7), maps(2, 5, 6, 7, seed=1), maps(2, 1, 6, 7, seed=2)
    found = rec.local_correlation(target, reference, 2)
    weights = found.softmax(1)
    copied = rec.copy_colors(weights, colors)
    for b in range(2):
        for y in range(6):
            for x in range(7):
                logits, values = [], []
                for dy in range(-2, 3):
                    for dx in range(-2, 3):
                        inside = 0 <= y + dy < 6 and 0 <= x + dx < 7
                        logits.append(
                            target[b, :, y, x] @ reference[b, :, y + dy, x + dx] if inside else torch.tensor(0.0)
                        )
                        values.append(colors[b, 0, y + dy, x + dx] if inside else torch.tensor(0.0))
                logits = torch.stack(logits)
                assert torch.allclose(found[b, :, y, x], logits, atol=1e-5), "outside: 0, and it takes part"
                assert torch.allclose(copied[b, 0, y, x], logits.softmax(0) @ torch.stack(values), atol=1e-5)


def test_peaked_features_reconstruct_a_moved_picture():
    torch.manual_seed(0)
    reference = torch.nn.functional.normalize(torch.randn(1, 64, 16, 16), dim=1) * 10
    colors = torch.randn(1, 1, 16, 16)
    moved, wanted = (torch.roll(x, (1, -2), (2, 3)) for x in (reference, colors))
    copied = rec.copy_colors(rec.local_correlation(moved, reference, 6).softmax(1), colors)
    assert torch.allclose(copied[..., 3:13, 3:13], wanted[..., 3:13, 3:13], atol=1e-3)


def test_one_chroma_channel_is_dropped_never_lightness():
    images = maps(3, 3, 4, 4)
    kept, colors = rec.drop_channel(images, 2)
    assert (
        (kept[:, 2] == 0).all()
        and torch.equal(colors[:, 0], images[:, 2])
        and torch.equal(kept[:, :2], images[:, :2] * 1.5)
    )
    drawn = {rec.draw_channel(torch.Generator().manual_seed(i)) for i in range(30)}
    assert drawn == {1, 2}


def test_pairs_are_disjoint_and_a_gap_apart():
    index = Index(tuple(Video(f"v{i}", 40, 0, 8, 8) for i in range(60)))
    pairs = rec.Pairs(64, None).epoch(index, np.random.default_rng(0))
    gaps = pairs[:, 2] - pairs[:, 1]
    assert set(gaps) == {2, 5, 8}
    for video in range(60):
        used = pairs[pairs[:, 0] == video, 1:].ravel()
        assert len(set(used)) == len(used)
    share = np.array([np.mean([gaps[pairs[:, 0] == v][0] == g for v in range(60)]) for g in (2, 5, 8)])
    assert np.abs(share - [0.4, 0.4, 0.2]).max() < 0.2
    assert len(rec.Pairs(64, 100).epoch(index, np.random.default_rng(0))) == 100


def test_lab_as_at_test_time():
    """Training and propagation must see one color space."""
    from corrbench.encoders.preprocess import LAB_MEAN, LAB_STD
    from corrbench.pretraining.augment import to_lab

    frame = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    lab = (cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_BGR2LAB) - LAB_MEAN) / np.array(LAB_STD)
    assert np.allclose(to_lab(frame, 32), lab.transpose(2, 0, 1), atol=1e-5)


def test_mast_network_and_checkpoint():
    model = mast.Model(mast.Options(image=64))
    images = torch.randn(2, 2, 3, 64, 64)
    assert torch.isfinite(model({"frames": images, "video": torch.zeros(2)}, torch.Generator().manual_seed(0))["loss"])
    assert model.network(torch.zeros(1, 3, 256, 256)).shape == (1, 64, 64, 64)
    state = model.checkpoint()["state_dict"]
    assert (
        len(state) == 116
        and "feature_extraction.conv1.0.weight" in state
        and "feature_extraction.layer2.0.shortcut.1.bias" in state
    )
