import math

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from corrbench.encoders.stm import PREPROCESS, STM, Residual, Up
from corrbench.errors import Refusal
from corrbench.segmentation import engine as engine_module
from corrbench.segmentation.engine import Engine, Frames, padding
from corrbench.segmentation.protocol import MaskPropagation

CPU = torch.device("cpu")


def narrow():
    """The network with one block a stage and a narrow decoder: everything that the engine sees, at a fifth of the time."""
    net = STM()
    for encoder, stages in (
        (net.mask_rgb_encoder, ("layer1", "layer2", "layer3")),
        (net.rgb_encoder, ("res2", "layer2", "layer3")),
    ):
        for stage in stages:
            setattr(encoder, stage, getattr(encoder, stage)[:1])
    decoder = net.decoder
    decoder.compress, decoder.up_16_8, decoder.up_8_4 = Residual(1024, 32), Up(512, 32, 32), Up(256, 32, 32)
    decoder.pred = torch.nn.Conv2d(32, 1, 3, padding=1)
    return net.eval()


@pytest.fixture(scope="module")
def whole():
    """The network as it is."""
    torch.manual_seed(0)
    return STM().eval()


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return narrow()


@pytest.fixture(scope="module")
def heedful():
    """Several cells count in a read and the decoder heeds their values, so that masks depend on what is read."""
    torch.manual_seed(0)
    net = narrow()
    with torch.no_grad():
        for kv in (net.kv_m_f16, net.kv_q_f16):
            kv.key_proj.weight.mul_(0.5)
        net.kv_m_f16.val_proj.weight.mul_(5)
    return net


def rules(**changes):
    plain = {"name": "r", "every": 5, "top_k": 50, "sigma": None, "memory_frames": 100, "size": "native"}
    return MaskPropagation(**{**plain, **changes})


def video(count, height, width, annotations, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return Frames("v", count, lambda t: images[t], annotations)


def boxes(height, width, **where):
    ids = np.zeros((height, width), np.uint8)
    for number, (top, left, bottom, right) in where.items():
        ids[top:bottom, left:right] = int(number[1:])
    return ids


def soft(p):
    """Soft aggregation (hkchengrex/Mask-Propagation, model/aggregate.py)."""
    q = torch.cat([torch.prod(1 - p, 0, keepdim=True), p]).clamp(1e-7, 1 - 1e-7)
    return torch.log(q / (1 - q)).softmax(0)


@torch.no_grad()
def reference(net, frames, every=5, k=50, sigma=None, most=100, short=None):
    """The propagation of hkchengrex/Mask-Propagation (inference_core.py) with every frame's probabilities kept: the slow, obvious form."""
    given = sorted(frames.annotations)
    ids = sorted({int(v) for a in frames.annotations.values() for v in np.unique(a)} - {0})
    height, width = frames.annotations[given[0]].shape
    h, w = (
        (height, width)
        if short is None
        else tuple(480 if s == min(height, width) else int(480 * s / min(height, width)) for s in (height, width))
    )
    left, right, top, bottom = padding(h, w)

    def image(t):
        x = torch.from_numpy(frames.image(t).transpose(2, 0, 1).copy())[None].float() / 255
        x = (x - torch.tensor(PREPROCESS.mean).reshape(1, 3, 1, 1)) / torch.tensor(PREPROCESS.std).reshape(1, 3, 1, 1)
        x = x if short is None else interpolate(x, (h, w), mode="bicubic", align_corners=False)
        return torch.nn.functional.pad(x, (left, right, top, bottom))

    P = torch.zeros(len(ids) + 1, frames.count, h + top + bottom, w + left + right)
    banks, enabled = [[] for _ in ids], set()

    def remember(bank, memory):
        bank.append(memory)
        free = [m for m in bank[:-1] if not m[2]]
        if len(bank) > most and free:
            bank[:] = [m for m in bank if m is not free[0]]

    def memorise(t):
        on = sorted(enabled)
        masks = P[[i + 1 for i in on], t][:, None]
        others = torch.stack(
            [sum((masks[j] for j in range(len(on)) if j != i), torch.zeros_like(masks[0])) for i in range(len(on))]
        )
        keys, values = net.memorize_with(image(t), masks, others)
        return {i: (key, value) for i, key, value in zip(on, keys, values, strict=True)}

    for i, f in enumerate(given):
        end = given[i + 1] + 1 if i + 1 < len(given) else frames.count
        labels = torch.from_numpy(frames.annotations[f].astype(np.int64))
        labels = (
            labels if short is None else interpolate(labels[None, None].float(), (h, w), mode="nearest")[0, 0].long()
        )
        labels = torch.nn.functional.pad(labels, (left, right, top, bottom))
        new = [j for j, number in enumerate(ids) if (frames.annotations[f] == number).any()]
        enabled |= set(new)
        P[:, f][:, labels > 0] = 0
        for j in new:
            P[j + 1, f] = (labels == ids[j]).float()
        P[:, f] = soft(P[1:, f].clone())
        for j, kv in memorise(f).items():
            remember(banks[j], (*kv, True))
        last, extra = f, {}
        for t in range(f + 1, end):
            query = net.query(image(t))
            logits = []
            for j in sorted(enabled):
                memory = [*banks[j], *([extra[j]] if j in extra else [])]
                K = torch.cat([m[0].flatten(1) for m in memory], 1)
                V = torch.cat([m[1].flatten(1) for m in memory], 1)
                A = K.T @ query.key[0].flatten(1) / math.sqrt(128)
                peak = A.argmax(1)
                A = torch.exp(A - A.max(0).values)
                if sigma is not None:
                    cell = torch.arange(A.shape[1])
                    wide = query.key.shape[3]
                    apart = (cell // wide - (peak // wide)[:, None]) ** 2 + (cell % wide - (peak % wide)[:, None]) ** 2
                    A = A * torch.exp(-apart / (2 * sigma**2))
                best = A.topk(len(A) if k is None else min(k, len(A)), 0)
                W = torch.zeros_like(A).scatter_(0, best.indices, best.values / best.values.sum(0))
                logits.append(net.decode((V @ W).reshape(1, 512, *query.key.shape[2:]), query)[0, 0])
            P[:, t] = 0
            P[[0, *(j + 1 for j in sorted(enabled))], t] = soft(torch.stack(logits).sigmoid())
            if t != end - 1:
                kv = memorise(t)
                if t - last >= every:
                    for j, pair in kv.items():
                        remember(banks[j], (*pair, False))
                    last, extra = t, {}
                else:
                    extra = kv
    inner = P[:, :, top : top + h, left : left + w]
    if short is not None:
        inner = torch.stack(
            [interpolate(p[None], (height, width), mode="bilinear", align_corners=False)[0] for p in inner.unbind(1)], 1
        )
    classes = torch.tensor([0, *ids])[inner.argmax(0)]
    return {t: classes[t].numpy() for t in range(given[0], frames.count)}


def agree(net, frames, short=None, **changes):
    names = {"top_k": "k", "memory_frames": "most"}
    expected = reference(net, frames, short=short, **{names.get(n, n): v for n, v in changes.items()})
    made = Engine(net, rules(size="short_side" if short else "native", **changes), CPU)
    found = dict(made.run(frames))
    assert found.keys() == expected.keys()
    for t, ids in found.items():
        assert (ids != expected[t]).mean() < 1e-3, t
    return made, found


def test_one_annotation_as_in_davis(whole):
    first = boxes(45, 70, o1=(5, 5, 25, 30), o2=(20, 35, 40, 60))
    made, found = agree(whole, video(9, 45, 70, {0: first}))
    np.testing.assert_array_equal(found[0], first)
    assert made.timing.frames == 9 and made.timing.seconds > 0


def test_a_single_object(net):
    agree(net, video(4, 48, 64, {0: boxes(48, 64, o1=(5, 5, 25, 30))}))


def test_objects_that_appear_later_as_in_youtube_vos(net):
    """Ids with gaps; a video that starts after its first frame; a label that appears again."""
    annotations = {
        1: boxes(45, 60, o3=(5, 5, 25, 25)),
        4: boxes(45, 60, o7=(20, 30, 40, 55)),
        8: boxes(45, 60, o3=(0, 0, 20, 20), o9=(30, 5, 44, 20)),
    }
    _, found = agree(net, video(11, 45, 60, annotations))
    assert min(found) == 1 and set(np.unique(found[8])) <= {0, 3, 7, 9}
    assert (found[8][annotations[8] == 9] == 9).all() and 9 not in np.unique(found[7])


@pytest.mark.parametrize(
    "changes",
    [{"top_k": 1}, {"top_k": 2}, {"top_k": None}, {"top_k": None, "sigma": 0.5}, {"top_k": 2, "sigma": 0.5}, {"every": 2},
     {"memory_frames": 1}, {"memory_frames": 2, "every": 2}],
    ids=str,
)  # fmt: skip
def test_every_rule_of_a_row_counts(heedful, changes):
    frames = video(12, 48, 80, {0: boxes(48, 80, o1=(5, 5, 25, 30), o2=(20, 40, 45, 70))})
    _, found = agree(heedful, frames, **changes)
    plain = dict(Engine(heedful, rules(), CPU).run(frames))
    if changes != {"top_k": None}:  # of a small memory 50 cells are nearly all
        assert max((found[t] != plain[t]).mean() for t in found) > 0.005


@pytest.mark.parametrize("most", [1, 2, 3])
def test_as_many_annotated_frames_as_may_be_remembered(net, most):
    annotations = {t: boxes(45, 60, o1=(t, t, 20 + t, 25)) for t in (0, 3, 6)}
    agree(net, video(14, 45, 60, annotations), memory_frames=most, every=2)


def test_an_object_starts_even_if_resizing_loses_it(net):
    first = boxes(720, 760, o1=(100, 100, 500, 600))
    lost = next(row for row in range(5, 20) if row not in {int(i * 720 / 480) for i in range(480)})
    first[lost, 10:40] = 2
    found = dict(Engine(net, rules(size="short_side"), CPU).run(video(2, 720, 760, {0: first})))
    alone = dict(
        Engine(net, rules(size="short_side"), CPU).run(
            video(2, 720, 760, {0: np.where(first == 2, 2, 0).astype(np.uint8)})
        )
    )
    assert set(found) == set(alone) == {0, 1}


def test_a_network_that_breaks_is_refused():
    broken = STM().eval()
    broken.decoder.pred.bias.data.fill_(float("nan"))
    with pytest.raises(Refusal, match="v: the network's output in frame 1 is not finite"):
        list(Engine(broken, rules(), CPU).run(video(2, 32, 32, {0: boxes(32, 32, o1=(5, 5, 20, 20))})))


def test_a_short_side_of_480(net):
    agree(net, video(2, 60, 84, {0: boxes(60, 84, o1=(5, 5, 45, 50))}), short=480)


def test_groups_of_objects_change_nothing(net, monkeypatch):
    first = boxes(32, 64, o1=(2, 2, 12, 20), o2=(2, 30, 20, 50), o5=(20, 5, 30, 30))
    frames = video(7, 32, 64, {0: first})
    together = dict(Engine(net, rules(), CPU).run(frames))
    monkeypatch.setattr(engine_module, "PIXELS", 1)
    alone = dict(Engine(net, rules(), CPU).run(frames))
    assert all((together[t] == alone[t]).mean() > 0.999 for t in together)


def test_padding_of_the_reference():
    assert padding(480, 854) == (5, 5, 0, 0) and padding(480, 910) == (1, 1, 0, 0) and padding(480, 911) == (0, 1, 0, 0)
    assert padding(480, 853) == (5, 6, 0, 0) and padding(101, 33) == (7, 8, 5, 6) and padding(480, 864) == (0, 0, 0, 0)


def test_refusals(net):
    with pytest.raises(Refusal, match="no object in any annotation"):
        list(Engine(net, rules(), CPU).run(video(2, 32, 32, {0: np.zeros((32, 32), np.uint8)})))
    frames = video(2, 32, 32, {0: boxes(32, 48, o1=(5, 5, 20, 20))})
    with pytest.raises(Refusal, match="frame 0 is 32x32"):
        list(Engine(net, rules(), CPU).run(frames))
