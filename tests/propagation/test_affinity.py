"""The windowed engine equals the dense formula, whatever the tiles and threads."""

import pytest
import torch
from reference import propagation as dense

from corrbench.propagation.affinity import Exempt, topk_readout
from corrbench.propagation.protocol import Search, Selection, Window
from corrbench.propagation.softmax import softmax_readout
from corrbench.propagation.tiles import Workspace

torch.manual_seed(0)
H, W, C, K = 13, 17, 16, 3
FRAMES = [torch.nn.functional.normalize(torch.randn(H, W, C), dim=-1) for _ in range(6)]
LABELS = [torch.rand(H, W, K) for _ in range(6)]
QUERY = torch.nn.functional.normalize(torch.randn(H, W, C), dim=-1)
DISC = Window("disc", 4, True, "excluded", None)


def bank(frames):
    return torch.stack(frames, 2)


@pytest.mark.parametrize("tile", [(4, 8), (8, 8), (3, 5), (20, 30), (1, 1)])
@pytest.mark.parametrize("threads", [1, 2])
def test_crw_form(tile, threads):
    """Frame 0 once everywhere and three times in the window, five more frames."""
    context = [0, 0, 0, 0, 1, 2, 3, 4, 5]
    expected = dense.dense_topk(
        QUERY, [FRAMES[i] for i in context], [LABELS[i] for i in context], exempt=1,
        allowed=dense.window(H, W, "disc", 4), topk=10, temperature=0.05,
    )  # fmt: skip
    with Workspace(torch.device("cpu"), threads) as workspace:
        got = topk_readout(
            QUERY, bank(FRAMES[1:]), torch.stack(LABELS[1:]), copies=[1] * 5,
            exempt=[Exempt(FRAMES[0], LABELS[0], everywhere=1, inside=3)], window=DISC,
            selection=Selection(10, False, 0.05), tile_size=tile, workspace=workspace,
        )  # fmt: skip
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_first_step_of_crw_is_nearly_nearest_neighbor():
    """t = 1: 21 copies of frame 0 fill the top 10 with copies of one cell where it is inside the window."""
    context = [0] * 21
    expected = dense.dense_topk(
        QUERY, [FRAMES[0]] * 21, [LABELS[0]] * 21, exempt=1,
        allowed=dense.window(H, W, "disc", 4), topk=10, temperature=0.05,
    )  # fmt: skip
    got = topk_readout(
        QUERY, bank(FRAMES[:1])[:, :, :0], torch.stack(LABELS[:1])[:0], copies=[],
        exempt=[Exempt(FRAMES[0], LABELS[0], everywhere=1, inside=len(context) - 1)], window=DISC,
        selection=Selection(10, False, 0.05),
    )  # fmt: skip
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("shape", "radius", "copies"), [("disc", 5, [2, 1, 1]), ("square", 3, [1, 1, 1])])
def test_windowed_form(shape, radius, copies):
    """VFS (frame 0 twice) and DINO (square), every frame inside the window."""
    context = [i for i, n in enumerate(copies) for _ in range(n)]
    expected = dense.dense_topk(
        QUERY, [FRAMES[i] for i in context], [LABELS[i] for i in context], exempt=0,
        allowed=dense.window(H, W, shape, radius), topk=5, temperature=0.07,
    )  # fmt: skip
    got = topk_readout(
        QUERY, bank(FRAMES[:3]), torch.stack(LABELS[:3]), copies=copies,
        window=Window(shape, radius, False, "excluded", None), selection=Selection(5, False, 0.07),
    )  # fmt: skip
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_no_window_at_all():
    expected = dense.dense_topk(
        QUERY, FRAMES[:2], LABELS[:2], exempt=2, allowed=dense.window(H, W, "disc", 1), topk=7, temperature=0.1
    )
    got = topk_readout(
        QUERY, bank(FRAMES[:2]), torch.stack(LABELS[:2]), copies=[1, 1],
        window=Window("none", 0, False, "excluded", None), selection=Selection(7, False, 0.1),
    )  # fmt: skip
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_ties_at_the_kth_place_are_kept():
    """Few distinct features make exact ties everywhere; DINO keeps all that reach the k-th."""
    kinds = torch.nn.functional.one_hot(torch.randint(0, 3, (4, H, W)), C).float()
    query, keys = kinds[0], list(kinds[1:])
    expected = dense.dense_topk(
        query,
        keys,
        LABELS[:3],
        exempt=0,
        allowed=dense.window(H, W, "square", 3),
        topk=5,
        temperature=0.1,
        keep_ties=True,
    )
    got = topk_readout(
        query, bank(keys), torch.stack(LABELS[:3]), copies=[1, 1, 1],
        window=Window("square", 3, False, "excluded", None), selection=Selection(5, True, 0.1),
    )  # fmt: skip
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_ties_are_those_of_the_exponential():
    """DINO compares exp(sim / 0.1) in float32: a similarity one rounding step below the k-th is the same there."""
    values = (torch.arange(400, dtype=torch.int32) + torch.tensor(0.8).view(torch.int32)).view(torch.float32)
    exponentials = torch.exp(values / 0.1)
    lower = int((exponentials[1:] == exponentials[:-1]).nonzero()[0])
    kth, below, under = values[lower + 1], values[lower], values[lower] - 1e-4
    assert kth > below and torch.exp(kth / 0.1) == torch.exp(below / 0.1) > torch.exp(under / 0.1)
    sims = torch.zeros(5, 5)
    sims[2, 1:4] = torch.stack([torch.tensor(0.9), kth, below])  # the third candidate of a top 2
    sims[1, 2] = under
    key = torch.nn.functional.pad(sims[:, :, None], (0, 1))  # [5, 5, 2]: the query (1, 0) reads them as they are
    query = torch.tensor([1.0, 0.0]).expand(5, 5, 2).contiguous()
    labels = torch.eye(25).view(5, 5, 25)
    got = topk_readout(
        query, bank([key]), labels[None], copies=[1],
        window=Window("square", 2, False, "excluded", None), selection=Selection(2, True, 0.1),
    )[2, 2]  # fmt: skip
    assert set(got.nonzero()[:, 0].tolist()) == {11, 12, 13}
    expected = dense.dense_topk(
        query, [key], [labels], exempt=0, allowed=dense.window(5, 5, "square", 2), topk=2, temperature=0.1, keep_ties=True
    )[2, 2]  # fmt: skip
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


def test_fewer_candidates_than_k():
    """A window smaller than k: what is forbidden may be kept but must weigh nothing."""
    got = topk_readout(
        QUERY, bank(FRAMES[:1]), torch.stack(LABELS[:1]), copies=[1],
        window=Window("disc", 1, False, "excluded", None), selection=Selection(10, False, 0.05),
    )  # fmt: skip
    torch.testing.assert_close(got, LABELS[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("h", "w", "shape", "radius", "topk"), [(2, 3, "disc", 12, 10), (13, 17, "disc", 2, 10), (13, 17, "disc", 3, 10), (13, 17, "square", 1, 10)])  # fmt: skip
@pytest.mark.parametrize("tile", [(12, 8), (1, 1)])
def test_small_rectangles_with_several_frames(h, w, shape, radius, topk, tile):
    """More candidates than cells: the k best may hold several frames of one cell."""
    frames = [f[:h, :w].contiguous() for f in FRAMES]
    labels = [m[:h, :w].contiguous() for m in LABELS]
    expected = dense.dense_topk(
        QUERY[:h, :w].contiguous(), frames[1:], labels[1:], exempt=0, allowed=dense.window(h, w, shape, radius), topk=topk, temperature=0.05
    )  # fmt: skip
    got = topk_readout(
        QUERY[:h, :w], bank(frames[1:]), torch.stack(labels[1:]), copies=[1] * 5,
        window=Window(shape, radius, False, "excluded", None), selection=Selection(topk, False, 0.05), tile_size=tile,
    )  # fmt: skip
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("shape", "radius", "ties"), [("disc", 12, False), ("disc", 18, False), ("square", 12, True)])
def test_default_tiles_on_a_larger_map(shape, radius, ties):
    torch.manual_seed(1)
    h, w = 70, 50
    features = [torch.nn.functional.normalize(torch.randn(h, w, C), dim=-1) for _ in range(4)]
    labels = [torch.rand(h, w, K) for _ in range(3)]
    expected = dense.dense_topk(
        features[3], features[:3], labels, exempt=0, allowed=dense.window(h, w, shape, radius), topk=10, temperature=0.07, keep_ties=ties
    )  # fmt: skip
    got = topk_readout(
        features[3], bank(features[:3]), torch.stack(labels), copies=[1] * 3,
        window=Window(shape, radius, False, "excluded", None), selection=Selection(10, ties, 0.07),
    )  # fmt: skip
    assert ((got - expected).abs().amax(-1) < 1e-5).float().mean() > 0.999


def unfold_softmax(query, keys, labels, radius):
    """MAST's plain step through torch.unfold: zeros outside take part in the softmax."""
    side = 2 * radius + 1

    def patches(maps):
        unfolded = torch.nn.functional.unfold(maps.permute(2, 0, 1)[None], side, padding=radius)
        return unfolded.view(maps.shape[2], side * side, H, W).permute(2, 3, 1, 0)

    logits = torch.cat([(patches(k) * query[:, :, None]).sum(-1) for k in keys], 2)
    values = torch.cat([patches(m) for m in labels], 2)
    return (logits.softmax(2)[..., None] * values).sum(2)


@pytest.mark.parametrize("tile", [(4, 8), (3, 5), (20, 30)])
def test_softmax_over_the_window_equals_unfold(tile):
    keys, query = [f * 3 for f in FRAMES[:3]], QUERY * 3
    got = softmax_readout(
        query, keys, LABELS[:3], dilations=[0, 0, 0], window=Window("square", 3, False, "zero", None),
        selection=Selection(None, False, 1.0), tile_size=tile,
    )  # fmt: skip
    torch.testing.assert_close(got, unfold_softmax(query, keys, LABELS[:3], 3), atol=1e-5, rtol=1e-5)


def grid_sampled(query, keys, labels, radius, dilation):
    """One searched frame the literal way: dilated correlation, expected offset, grid_sample with align_corners."""
    steps = torch.arange(-radius, radius + 1)
    dy, dx = (g.reshape(-1).float() for g in torch.meshgrid(steps, steps, indexing="ij"))
    y, x = torch.meshgrid(torch.arange(H).float(), torch.arange(W).float(), indexing="ij")

    def sample(maps, sy, sx):  # [h, w, P]
        grid = torch.stack((2 * sx / (W - 1) - 1, 2 * sy / (H - 1) - 1), -1).view(1, H * W, -1, 2)
        out = torch.nn.functional.grid_sample(maps.permute(2, 0, 1)[None], grid, align_corners=True)
        return out[0].permute(1, 2, 0).view(H, W, len(dy), -1)

    coarse = (sample(keys, y[..., None] + dilation * dy, x[..., None] + dilation * dx) * query[:, :, None]).sum(-1)
    weights = coarse.softmax(2)
    oy, ox = dilation * (weights * dy).sum(2), dilation * (weights * dx).sum(2)
    sy, sx = y[..., None] + oy[..., None] + dy, x[..., None] + ox[..., None] + dx
    attention = (sample(keys, sy, sx) * query[:, :, None]).sum(-1).softmax(2)
    return (attention[..., None] * sample(labels, sy, sx)).sum(2)


@pytest.mark.parametrize("dilation", [2, 3])
@pytest.mark.parametrize("tile", [(4, 8), (3, 5)])
def test_searched_frame_equals_grid_sample(dilation, tile):
    query, key = QUERY * 3, FRAMES[0] * 3
    window = Window("square", 3, False, "zero", Search(15, 4, False))
    got = softmax_readout(
        query, [key], LABELS[:1], dilations=[dilation], window=window, selection=Selection(None, False, 1.0), tile_size=tile
    )  # fmt: skip
    torch.testing.assert_close(got, grid_sampled(query, key, LABELS[0], 3, dilation), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near(precision):
    half = [f.to(precision) for f in FRAMES]
    arguments = {"copies": [1] * 5, "window": Window("disc", 4, False, "excluded", None), "selection": Selection(5, False, 0.1)}  # fmt: skip
    exact = topk_readout(QUERY, bank(FRAMES[1:]), torch.stack(LABELS[1:]), **arguments)
    got = topk_readout(QUERY.to(precision), bank(half[1:]), torch.stack(LABELS[1:]), **arguments)
    assert got.dtype == torch.float32
    assert (got - exact).abs().mean() < 0.02


def test_an_error_in_a_thread_is_not_lost():
    def fail(item):
        raise RuntimeError(f"item {item}")

    with Workspace(torch.device("cpu"), 2) as workspace, pytest.raises(RuntimeError, match="item"):
        workspace.each(fail, [1, 2, 3])


@pytest.mark.gpu
def test_cuda_equals_cpu():
    arguments = {"copies": [1] * 5, "window": DISC, "selection": Selection(10, False, 0.05)}

    def run(device):
        first = Exempt(FRAMES[0].to(device), LABELS[0].to(device), everywhere=1, inside=2)
        keys, labels = bank(FRAMES[1:]).to(device), torch.stack(LABELS[1:]).to(device)
        return topk_readout(QUERY.to(device), keys, labels, exempt=[first], **arguments).cpu()

    torch.testing.assert_close(run("cuda"), run("cpu"), atol=1e-5, rtol=0)
