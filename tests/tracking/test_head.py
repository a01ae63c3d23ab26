import math

import pytest
import torch

from corrbench.tracking.head import Head, cross_correlate, focal_loss, response_labels


def test_golden_losses_of_the_reference():
    scores, labels = torch.tensor([[[2.0, -1.0], [0.5, -3.0]]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert float(focal_loss(scores, labels, gamma=2)) == pytest.approx(0.844069, abs=1e-6)
    assert float(focal_loss(scores * 0, labels, gamma=2)) == pytest.approx(math.log(2), abs=1e-6)


def test_the_loss_is_normalized_over_the_batch():
    """The formula written out, weights with gradient."""
    scores = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = response_labels(4, radius=8, stride=8)
    p = scores.sigmoid()
    weight = torch.where(labels == 1, (1 - p) ** 2, p**2)
    plain = (-weight * torch.where(labels == 1, p, 1 - p).log() / weight.mean()).mean()
    ours = focal_loss(scores, labels, gamma=2)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(*(torch.autograd.grad(x, scores, retain_graph=True)[0] for x in (ours, plain)))
    each = sum(focal_loss(s[None], labels, gamma=2) for s in scores) / 3
    assert abs(float(each.detach()) - float(ours.detach())) > 1e-4  # the mean of single losses is another number


def test_labels_of_the_reference():
    labels = response_labels(16, radius=16, stride=8)
    assert labels.sum() == 12 and labels.shape == (16, 16)
    assert response_labels(17, radius=16, stride=8).sum() == 13
    torch.testing.assert_close(labels, labels.T)


def test_cross_correlation_is_the_sum_written_out():
    g = torch.Generator().manual_seed(0)
    kernels, search = torch.randn(2, 3, 4, 4, generator=g), torch.randn(6, 3, 7, 7, generator=g)
    got = cross_correlate(kernels, search)
    assert got.shape == (6, 4, 4)
    for b in range(6):
        for i in range(4):
            for j in range(4):
                expected = (kernels[b // 3] * search[b, :, i : i + 4, j : j + 4]).sum()
                assert float(got[b, i, j]) == pytest.approx(float(expected), abs=1e-4)


def test_cross_correlation_has_the_gradients_of_a_convolution():
    g = torch.Generator().manual_seed(0)
    kernels = torch.randn(2, 3, 4, 4, generator=g, dtype=torch.float64).requires_grad_()
    search = torch.randn(4, 3, 7, 7, generator=g, dtype=torch.float64).requires_grad_()
    weight = torch.randn(4, 4, 4, generator=g, dtype=torch.float64)
    plain = torch.cat(
        [torch.nn.functional.conv2d(search[2 * i : 2 * i + 2], kernels[i : i + 1])[:, 0] for i in range(2)]
    )
    ours = cross_correlate(kernels, search)
    torch.testing.assert_close(ours, plain)
    for got, expected in zip(
        *(torch.autograd.grad((x * weight).sum(), (kernels, search)) for x in (ours, plain)), strict=True
    ):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(("channels", "parameters"), [(512, 525_312), (2048, 8_392_704)])
def test_parameters_and_keys_of_the_reference(channels, parameters):
    head = Head(channels, 1e-3)
    assert sum(p.numel() for p in head.parameters()) == parameters
    assert set(head.state_dict()) == {"z_convs.0.weight", "z_convs.0.bias", "x_convs.0.weight", "x_convs.0.bias"}


def test_response_sizes():
    head = Head(8, 1e-3)
    assert head(torch.zeros(1, 8, 15, 15), torch.zeros(1, 8, 30, 30)).shape == (1, 16, 16)
    assert head(torch.zeros(1, 8, 15, 15), torch.zeros(3, 8, 32, 32)).shape == (3, 18, 18)
