import pytest
import torch

from corrbench.segmentation.aggregation import aggregate
from corrbench.segmentation.memory import Bank, read

KEYS = torch.tensor([[1, 0, -1, 0.5, -0.5, 1, 0, 2], [0, 1, 0.5, -1, 2, -0.5, 0.9, 0]]).T  # [8 memory cells, 2]
VALUES = torch.arange(10.0, 90, 10)[:, None]
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
def test_golden_values_of_the_reference(top_k, sigma, expected, cells):
    """Whole, one query cell at a time, two at a time."""
    got = read(KEYS, VALUES, QUERY, top_k=top_k, sigma=sigma, cells=cells)
    torch.testing.assert_close(got.flatten(), torch.tensor(expected), rtol=0, atol=1e-4)


def test_more_than_there_is_takes_all():
    plain, all_of_them = (read(KEYS, VALUES, QUERY, top_k=k) for k in (None, 50))
    torch.testing.assert_close(plain, all_of_them)


def frame(number):
    return torch.full((2, 1, 3), float(number)), torch.full((5, 1, 3), float(number))


def remembered(bank):
    keys, values = bank.rows()
    assert keys.shape[1] == 2 and values.shape[1] == 5 and keys[:, 0].tolist() == values[:, 0].tolist()
    return sorted(keys[::3, 0].tolist())


def test_the_oldest_memory_leaves_and_annotated_ones_never():
    bank = Bank(6, most=3)
    for t in range(6):
        bank.keep(*frame(t), annotated=t in (0, 3))
    assert remembered(bank) == [0, 3, 5]
    for t in range(6, 9):
        bank.keep(*frame(t), annotated=True)
    assert remembered(bank) == [0, 3, 6, 7, 8]  # annotated frames stay whatever the bound


def test_one_frame_is_held_until_the_next():
    bank = Bank(3, most=2)
    bank.keep(*frame(0), annotated=True)
    bank.hold(*frame(1))
    bank.hold(*frame(2))
    assert remembered(bank) == [0, 2]
    bank.keep(*frame(3), annotated=False)
    assert remembered(bank) == [0, 3]
    bank.hold(*frame(4))
    bank.passing = False
    assert remembered(bank) == [0, 3]
    bank.keep(*frame(5), annotated=False)
    bank.hold(*frame(6))
    assert remembered(bank) == [0, 5, 6]


def test_cells_of_a_frame_are_rows():
    key, value = torch.arange(12.0).reshape(2, 2, 3), torch.arange(6.0).reshape(1, 2, 3)
    bank = Bank(1, most=1)
    bank.keep(key, value, annotated=True)
    torch.testing.assert_close(bank.rows()[0][4], key[:, 1, 1])
    torch.testing.assert_close(bank.rows()[1][4], value[:, 1, 1])


@pytest.mark.parametrize(
    ("p", "expected"),
    [([0.9, 0.2], [0.009313, 0.963912, 0.026775]), ([0.6, 0.6], [0.059701, 0.470149, 0.470149]), ([0.5], [0.5, 0.5]), ([0.9], [0.012195, 0.987805])],
)  # fmt: skip
def test_aggregation_of_the_reference(p, expected):
    classes, logits = aggregate(torch.tensor(p))
    torch.testing.assert_close(classes, torch.tensor(expected), rtol=0, atol=1e-6)
    torch.testing.assert_close(logits.softmax(0), classes)
