import pytest
import torch

from corrbench.segmentation.aggregation import aggregate
from corrbench.segmentation.memory import read

KEYS = torch.tensor([[1, 0, -1, 0.5, -0.5, 1, 0, 2], [0, 1, 0.5, -1, 2, -0.5, 0.9, 0]]).reshape(1, 2, 2, 2, 2)
VALUES = torch.arange(10.0, 90, 10).reshape(1, 1, 2, 2, 2)
QUERY = torch.tensor([[2.0, 0, -2, 1], [0, 2, 1, -1]]).reshape(2, 2, 2)


@pytest.mark.parametrize(
    ("top_k", "sigma", "expected"),  # measured from the reference
    [
        (None, None, [61.66928, 46.59334, 42.09498, 52.31403]),
        (3, None, [65.27788, 47.88719, 39.0314, 62.47724]),
        (None, 1.0, [63.34586, 47.35445, 37.88243, 48.67598]),
        (3, 1.0, [65.27788, 47.88719, 35.57411, 54.9667]),
        (3, 5.6, [65.27788, 47.88719, 38.92699, 62.26654]),
    ],
)
@pytest.mark.parametrize("cells", [1 << 20, 8, 16])
def test_golden_values_of_the_sheet(top_k, sigma, expected, cells):
    """Whole, one query cell at a time, two at a time."""
    got = read(KEYS, VALUES, QUERY, top_k=top_k, sigma=sigma, cells=cells)
    torch.testing.assert_close(got.flatten(), torch.tensor(expected), rtol=0, atol=1e-4)


def test_more_than_there_is_takes_all():
    plain, all_of_them = (read(KEYS, VALUES, QUERY, top_k=k) for k in (None, 50))
    torch.testing.assert_close(plain, all_of_them)


def test_objects_are_read_apart():
    both = read(torch.cat([KEYS, -KEYS]), torch.cat([VALUES, VALUES]), QUERY, top_k=3)
    torch.testing.assert_close(both[:1], read(KEYS, VALUES, QUERY, top_k=3))
    torch.testing.assert_close(both[1:], read(-KEYS, VALUES, QUERY, top_k=3))


@pytest.mark.parametrize(
    ("p", "expected"),
    [([0.9, 0.2], [0.009313, 0.963912, 0.026775]), ([0.6, 0.6], [0.059701, 0.470149, 0.470149]), ([0.5], [0.5, 0.5]), ([0.9], [0.012195, 0.987805])],
)  # fmt: skip
def test_aggregation_of_the_sheet(p, expected):
    classes, logits = aggregate(torch.tensor(p))
    torch.testing.assert_close(classes, torch.tensor(expected), rtol=0, atol=1e-6)
    torch.testing.assert_close(logits.softmax(0), classes)
