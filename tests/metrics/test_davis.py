"""J and F: small fixtures, the literal reference, vos-benchmark where the definitions agree, refusals."""

import shutil

import numpy as np
import pytest
from PIL import Image
from reference import metrics as literal

from corrbench.datasets.davis import read_annotation
from corrbench.datasets.palette import save_mask
from corrbench.errors import Refusal
from corrbench.metrics.davis import (
    boundary,
    contour,
    evaluate,
    frame_scores,
    global_scores,
    region,
    statistics,
    tolerance,
)
from corrbench.metrics.scores import write_scores


def square(y0=100, y1=200, x0=300, x1=400):
    mask = np.zeros((480, 854), np.uint8)
    mask[y0:y1, x0:x1] = 1
    return mask


CASES = [
    (square(), 1, 1),
    (square(x0=301, x1=401), 0.980198, 1), (square(x0=304, x1=404), 0.923077, 1), (square(x0=308, x1=408), 0.851852, 1),
    (square(x0=309, x1=409), 0.834862, 0.54), (square(x0=312, x1=412), 0.785714, 0.525), (square(x0=316, x1=416), 0.724138, 0.505),
    (square(107, 193, 307, 393), 0.7396, 0.963731), (square(108, 192, 308, 392), 0.7056, 0.918919), (square(110, 190, 310, 390), 0.64, 0),
    (np.zeros((480, 854), np.uint8), 0, 0),
]  # fmt: skip


@pytest.mark.parametrize(("guess", "j", "f"), CASES)
def test_small_fixtures(guess, j, f):
    assert region(square(), guess) == pytest.approx(j, abs=5e-7)
    assert contour(square(), guess, 8) == pytest.approx(f, abs=5e-7)


def test_both_empty_is_one():
    empty = np.zeros((480, 854), np.uint8)
    assert region(empty, empty) == contour(empty, empty, 8) == 1


def test_boundary_cases():
    def at(*points):
        mask = np.zeros((6, 6), np.uint8)
        for y, x in points:
            mask[y, x] = 1
        return mask

    block = at((2, 2), (2, 3), (3, 2), (3, 3))
    ring = {(y, x) for y in (1, 2, 3) for x in (1, 2, 3)} - {(2, 2)}
    assert set(zip(*np.nonzero(boundary(block)), strict=True)) == ring
    corner = np.zeros((6, 6), np.uint8)
    corner[3:, 3:] = 1
    assert set(zip(*np.nonzero(boundary(corner)), strict=True)) == {(2, x) for x in range(2, 6)} | {
        (y, 2) for y in range(3, 6)
    }
    assert not boundary(np.ones((6, 6), np.uint8)).any()
    assert np.count_nonzero(boundary(at((5, 5)))) == 3


def test_tolerances():
    assert [tolerance(*s) for s in ((480, 854), (480, 910), (480, 1152), (240, 320))] == [8, 9, 10, 4]


@pytest.mark.parametrize("seed", range(60))
def test_random_masks_equal_the_literal_definition(seed):
    rng = np.random.default_rng(seed)
    h, w = rng.integers(5, 70, 2)
    blobs = (rng.random((2, h // 4 + 1, w // 4 + 1)) < rng.uniform(0.05, 0.9)).astype(np.uint8)
    truth, guess = (np.ascontiguousarray(np.kron(b, np.ones((4, 4), np.uint8))[:h, :w]) for b in blobs)
    assert np.array_equal(boundary(truth).astype(bool), literal.boundary(truth))
    assert np.array_equal(literal.fast_boundary(truth), literal.boundary(truth))
    assert region(truth, guess) == literal.j_measure(truth.astype(bool), guess.astype(bool))
    assert contour(truth, guess, tolerance(h, w)) == literal.f_measure(truth, guess)


@pytest.mark.parametrize(("n", "decay", "recall"), [(67, 0.75, 0.492537), (38, 0.756757, 0.5), (2, 1.0, 0.5), (3, 0.75, 1 / 3), (4, 2 / 3, 0.5), (1, 0.0, 1.0)])  # fmt: skip
def test_statistics_of_a_ramp(n, decay, recall):
    values = np.linspace(1, 0, n)
    got = statistics(values)
    assert got.decay == pytest.approx(decay, abs=1e-6)
    assert got.recall == pytest.approx(recall, abs=1e-6)
    assert (got.mean, got.recall, got.decay) == literal.db_statistics(values)


def write_masks(davis, folder, change=None):
    """Predictions: the annotations, shifted by two pixels, or as `change` makes them."""
    for name in davis.sequences:
        (folder / name).mkdir(parents=True)
        for path in davis.sequence(name).annotations:
            ids = read_annotation(path)
            save_mask(folder / name / path.name, np.roll(ids, 2, axis=1) if change is None else change(ids))


@pytest.fixture
def masks(tiny_davis, tmp_path):
    write_masks(tiny_davis, tmp_path / "masks")
    return tmp_path / "masks"


@pytest.mark.parametrize("workers", [1, 2])
def test_whole_benchmark_equals_the_literal_definition(tiny_davis, masks, workers):
    stacks = []
    for name in tiny_davis.sequences:
        paths = tiny_davis.sequence(name).annotations
        stacks.append(
            ([read_annotation(p) for p in paths], [np.array(Image.open(masks / name / p.name)) for p in paths])
        )
    expected = literal.official_global([(np.stack(t), np.stack(g)) for t, g in stacks])
    got = global_scores(evaluate(tiny_davis, masks, workers=workers))
    assert got == pytest.approx(expected, abs=1e-14)
    assert {k: f"{v:.3f}" for k, v in got.items()} == {k: f"{v:.3f}" for k, v in expected.items()}


def test_vos_benchmark_agrees_on_the_means(tiny_davis, masks):
    evaluator_module = pytest.importorskip("vos_benchmark.evaluator")
    j, f = [], []
    for name in tiny_davis.sequences:
        evaluator = evaluator_module.Evaluator(name=name)
        for path in tiny_davis.sequence(name).annotations[1:-1]:
            evaluator.feed_frame(np.array(Image.open(masks / name / path.name)), read_annotation(path))
        iou, boundary_f = evaluator.conclude()
        j += list(iou.values())
        f += list(boundary_f.values())
    got = global_scores(evaluate(tiny_davis, masks))
    assert 100 * got["J-Mean"] == pytest.approx(np.mean(j), abs=1e-9)
    assert 100 * got["F-Mean"] == pytest.approx(np.mean(f), abs=1e-9)


def test_single_object_variant(tiny_davis, tmp_path):
    """2016: everything above 0 is one object, 255 included, in annotations and predictions."""
    write_masks(tiny_davis, tmp_path / "m", lambda ids: ((ids > 0) * 255).astype(np.uint8))
    scores = evaluate(tiny_davis, tmp_path / "m", single_object=True)
    assert len(scores) == 2
    assert global_scores(scores)["J&F-Mean"] == 1


def test_void_in_annotations_is_background(tiny_davis, masks):
    before = evaluate(tiny_davis, masks)
    path = tiny_davis.sequence("one").annotations[2]
    ids = read_annotation(path)
    ids[ids == 0] = 255
    save_mask(path, ids)
    after = evaluate(tiny_davis, masks)
    for a, b in zip(before, after, strict=True):
        assert np.array_equal(a.region, b.region) and np.array_equal(a.contour, b.contour)


def test_an_object_that_appears_later_is_ignored_and_first_and_last_do_not_count(tiny_davis, masks):
    before = global_scores(evaluate(tiny_davis, masks))
    paths = tiny_davis.sequence("one").annotations
    for mask in ("00000.png", "00005.png"):
        (masks / "one" / mask).unlink()
    ids = read_annotation(paths[3])
    ids[0, 0] = 9
    save_mask(paths[3], ids)
    assert global_scores(evaluate(tiny_davis, masks)) == before


def drop_frame(masks):
    (masks / "three" / "00003.png").unlink()


def drop_sequence(masks):
    shutil.rmtree(masks / "one")


def extra_frame(masks):
    shutil.copy(masks / "one" / "00003.png", masks / "one" / "00009.png")


def extra_id(masks):
    save_mask(masks / "one" / "00003.png", np.full((48, 80), 2, np.uint8))


def void(masks):
    save_mask(masks / "one" / "00003.png", np.full((48, 80), 255, np.uint8))


def other_size(masks):
    save_mask(masks / "one" / "00003.png", np.zeros((40, 80), np.uint8))


def color(masks):
    Image.fromarray(np.zeros((48, 80, 3), np.uint8)).save(masks / "one" / "00003.png")


def broken(masks):
    (masks / "one" / "00003.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_frame, r"no mask for frame\(s\) 00003"),
        (drop_sequence, "no masks for one"),
        (extra_frame, r"00009 belong to no annotated frame"),
        (extra_id, r"object id 2\n  expected: ids up to 1"),
        (void, r"object id 255 \(void\)"),
        (other_size, r"80x40 pixels\n  expected: 80x48"),
        (color, "3 channels"),
        (broken, "unreadable mask"),
    ],
)
def test_what_the_official_code_lets_pass_is_refused(tiny_davis, masks, damage, message):
    damage(masks)
    with pytest.raises(Refusal, match=message) as refusal:
        evaluate(tiny_davis, masks)
    assert "what to do" in str(refusal.value)


def test_files_have_the_official_columns(tiny_davis, masks, tmp_path):
    write_scores(tmp_path / "scores", evaluate(tiny_davis, masks), {"by": "test"})
    header, row = (tmp_path / "scores/global.csv").read_text().splitlines()
    assert header == "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay"
    assert all(len(v.split(".")[1]) == 3 for v in row.split(","))
    objects = (tmp_path / "scores/per_object.csv").read_text().splitlines()
    assert objects[0] == "Sequence,J-Mean,F-Mean"
    assert [line.split(",")[0] for line in objects[1:]] == ["three_1", "three_2", "three_3", "one_1"]


def test_frames_of_several_objects():
    truth = np.zeros((48, 80), np.uint8)
    truth[10:20, 10:20], truth[30:40, 40:60] = 1, 3
    j, f = frame_scores(truth, truth, 3)
    assert j == [1, 1, 1] and f == [1, 1, 1]  # id 2 is missing in both: 1, as the official code counts it
