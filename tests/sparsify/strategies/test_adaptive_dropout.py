"""Adaptive dropout: its moments and what it is in expectation, against enumeration and closed forms."""

import itertools
import math

import pytest
import torch
from torch import nn

from tests.sparsify.strategies.layers import assert_moments, draws, layer_of
from unrolled.penalties import L0, L1, MCP, Blocks, Filters, Grouped, LogSum
from unrolled.sparsify import AdaptiveDropout


def test_in_expectation_adaptive_dropout_is_the_reweighted_ridge():
    torch.manual_seed(0)
    w, strength, penalty = torch.tensor([[0.8, -0.3, 0.1]], dtype=torch.float64), 0.2, LogSum(0.5)
    x, y = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, 1, dtype=torch.float64)
    x /= x.norm(dim=0)
    layer = layer_of(w)
    sparsifier = AdaptiveDropout(layer, penalty, strength)
    noisy = draws(layer, 3000)
    eta = w.abs() * (w.abs() + 0.5)
    alpha = (eta / (eta + strength))[0]
    kept = noisy != 0
    torch.testing.assert_close(noisy[kept], (w / alpha).expand_as(noisy)[kept])
    assert ((kept.double().mean(0)[0] - alpha).abs() < 4 * (alpha * (1 - alpha) / 3000).sqrt()).all()
    joint = torch.cov(kept[:, 0].double().T)
    assert (joint - joint.diag().diag()).abs().max() < 4 * 0.25 / math.sqrt(3000)  # they are independent
    expected = 0.0
    for mask in itertools.product([0.0, 1.0], repeat=3):
        mask = torch.tensor(mask, dtype=torch.float64)
        chance = torch.where(mask == 1, alpha, 1 - alpha).prod()
        expected += chance * (x @ (mask / alpha * w[0]) - y[:, 0]).square().sum() / 2
    ridge = (x @ w[0] - y[:, 0]).square().sum() / 2 + strength / 2 * (w.square() / eta).sum()
    torch.testing.assert_close(expected, ridge)
    assert sparsifier.loss() == 0


@pytest.mark.parametrize("noise", ["bernoulli", "gaussian"])
def test_adaptive_noise_has_mean_1_and_the_variance_of_the_penalty(noise):
    w = torch.tensor([[0.8, -0.3, 0.1, 0.0], [0.3, 0.4, 0.0, 0.0]], dtype=torch.float64)
    for penalty, eta in (
        (MCP(1.0, 0.5), 0.5 * w.abs() / (0.5 - w.abs())),
        (Grouped(L1(), Filters(), weight=1), w.norm(dim=1, keepdim=True).expand(2, 4)),
        (
            Grouped(L1(), Blocks((2, 2)), weight=1),
            w.reshape(2, 2, 2).norm(dim=(0, 2)).repeat_interleave(2).expand(2, 4),
        ),
    ):
        eta = torch.where((eta < 0) & (w.abs() >= 0.5), math.inf, eta)
        layer = layer_of(w.repeat(20, 1))  # as many samples in one draw
        sparsifier = AdaptiveDropout(layer, penalty, 0.2, noise=noise)
        variance = torch.where(w == 0, 0.0, 0.2 * w.square() / eta)
        assert_moments(draws(layer, 100).reshape(2000, 2, 4), w, variance)
        assert torch.equal(layer.eval()(torch.eye(4, dtype=w.dtype)).T, w.repeat(20, 1))
        sparsifier.release()


def test_bad_arguments():
    model = nn.Linear(3, 2)
    for make, message in (
        (lambda: AdaptiveDropout(model, L1(), 1.0, noise="uniform"), "noise must be 'bernoulli' or 'gaussian'"),
        (lambda: AdaptiveDropout(model, L0(), 1.0), "flat but for a jump"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
