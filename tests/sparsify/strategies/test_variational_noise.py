"""Variational dropout: its divergence, its moments and its zeros, against quadrature and closed forms."""

import copy
import itertools
import math

import pytest
import scipy.integrate
import torch
from torch import nn

from tests.sparsify.strategies.layers import assert_moments, layer_of
from unrolled.penalties import (
    L1,
    Filters,
    VariationalDropout,
    VariationalDropoutFit,
    Weighted,
)
from unrolled.sparsify import VariationalNoise


def divergence_by_quadrature(alpha):
    """KL of N(1, α) and the log-uniform prior, up to a constant: E log|1 + √α ε| − ½ log α."""

    def integrand(e):
        return math.exp(-e * e / 2) / math.sqrt(2 * math.pi) * math.log(abs(1 + math.sqrt(alpha) * e))

    at = -1 / math.sqrt(alpha)
    ends = sorted({-12.0, 12.0, at} if abs(at) < 12 else {-12.0, 12.0})
    pieces = [scipy.integrate.quad(integrand, a, b, limit=200)[0] for a, b in itertools.pairwise(ends)]
    return sum(pieces) - math.log(alpha) / 2


def cost(log_alpha, penalty):
    layer = layer_of([[1.0]])
    return VariationalNoise(layer, penalty, 1.0, parametrisation="local", initial=log_alpha).loss().item()


def test_the_exact_divergence():
    base = cost(7.9, VariationalDropout()) - divergence_by_quadrature(math.exp(7.9))
    for log_alpha in (-7.0, -4.0, -1.0, 0.0, 1.0, 3.0, 6.0):
        expected = divergence_by_quadrature(math.exp(log_alpha)) + base
        assert cost(log_alpha, VariationalDropout()) == pytest.approx(expected, abs=2e-6)
        assert cost(log_alpha, VariationalDropoutFit()) == pytest.approx(expected, abs=1.2e-2)
    # Nothing is told by infinite noise: at the end of the range of log α little is left
    assert cost(8.0, VariationalDropout()) == pytest.approx(math.exp(-8) / 2, rel=1e-3)


def test_the_divergence_is_that_of_molchanov():
    for log_alpha in (-5.0, 0.0, 2.0):
        k1, k2, k3 = 0.63576, 1.87320, 1.48695
        negative = k1 / (1 + math.exp(-(k2 + k3 * log_alpha))) - 0.5 * math.log1p(math.exp(-log_alpha)) - k1
        assert cost(log_alpha, VariationalDropoutFit()) == pytest.approx(-negative, rel=1e-9)


@pytest.mark.parametrize("parametrisation", ["additive", "local"])
@pytest.mark.parametrize("penalty", [VariationalDropout(), VariationalDropoutFit()], ids=repr)
def test_gradients_of_the_divergence(parametrisation, penalty):
    layer = layer_of([[0.5, -2.0, 0.1]])
    sparsifier = VariationalNoise(layer, penalty, 0.7, parametrisation=parametrisation, initial=-0.5)
    parameters = [layer.weight, *sparsifier.parameters()]
    found = torch.autograd.grad(sparsifier.loss(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, found, strict=True):
        for place in range(3):
            values = []
            for shift in (1e-5, -1e-5):
                with torch.no_grad():
                    parameter[0, place] += shift
                    values.append(sparsifier.loss().item())
                    parameter[0, place] -= shift
            numeric = (values[0] - values[1]) / 2e-5
            assert (0 if gradient is None else float(gradient[0, place])) == pytest.approx(numeric, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(5, 3), (2, 5)),
        (nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), (2, 2, 5, 5)),
        (nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), (2, 2, 6)),
    ],
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("additive", [True, False])
def test_local_noise_has_the_moments_of_noise_on_weights(layer, shape, additive):
    torch.manual_seed(1)
    layer, x = copy.deepcopy(layer).double(), torch.randn(shape, dtype=torch.float64)
    mean = layer(x).detach()
    variance_of_weight = torch.full_like(layer.weight, 0.3**2) if additive else 0.4 * layer.weight.detach().square()
    # The output is linear in the weights: its variance, from its derivatives.
    jacobian = torch.autograd.functional.jacobian(
        lambda weight: torch.func.functional_call(layer, {"weight": weight}, (x,)), layer.weight.detach()
    )
    variance = (jacobian.square() * variance_of_weight).flatten(mean.ndim).sum(-1)
    name, initial = ("additive", math.log(0.3)) if additive else ("local", math.log(0.4))
    sparsifier = VariationalNoise(layer, strength=1.0, parametrisation=name, initial=initial)
    with torch.no_grad():
        many = x.repeat(30, *[1] * (x.ndim - 1))
        samples = torch.cat([layer(many).unflatten(0, (30, 2)) for _ in range(100)])
    assert_moments(samples, mean, variance)
    first, second = samples[:, 0].flatten(1).T[:3], samples[:, 1].flatten(1).T[:3]
    both = torch.corrcoef(torch.cat([first, second]))[:3, 3:]
    assert both.abs().max() < 5 / math.sqrt(3000)  # independent from sample to sample
    torch.testing.assert_close(layer.eval()(x).detach(), mean)
    sparsifier.release()


@pytest.mark.parametrize("parametrisation", ["additive", "plain"])
def test_noise_on_weights_that_layers_do_not_own_alone(parametrisation):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.a(x), self.b(x)

    model = Tied().double()
    w = model.a.weight.detach().clone()
    sparsifier = VariationalNoise(model, strength=1.0, parametrisation=parametrisation, initial=-1.0)
    eye = torch.eye(3, dtype=torch.float64)
    with torch.no_grad():
        pairs = [model(eye) for _ in range(2000)]
    sparsifier.release()
    assert all(torch.equal(a, b) for a, b in pairs)
    variance = torch.full_like(w, math.exp(-2)) if parametrisation == "additive" else math.exp(-1) * w.square()
    assert_moments(torch.stack([a.T for a, _ in pairs]), w, variance)


def test_noisy_weights_are_zero_from_log_alpha_2_944_on():
    layer = layer_of([[1.0, 2.0, 3.0, 4.0]])
    sparsifier = VariationalNoise(layer, strength=1.0, parametrisation="plain")
    (log_alpha,) = sparsifier.parameters()
    torch.testing.assert_close(log_alpha.detach(), torch.full((1, 4), -5.0, dtype=torch.float64))
    with torch.no_grad():
        log_alpha.copy_(torch.tensor([[2.94, 2.95, 20.0, -20.0]]))
    sparsifier.finalize()
    assert layer.weight.tolist() == [[1.0, 0.0, 0.0, 4.0]]


def test_additive_noise_decides_by_its_size_beside_the_weight_and_groups_by_their_mean():
    values = [[1.0, 0.1], [0.3, 0.2]]
    for groups, expected in ((None, [[1.0, 0.0], [0.3, 0.0]]), (Filters(), [[1.0, 0.1], [0.0, 0.0]])):
        layer = layer_of(values)
        sparsifier = VariationalNoise(layer, strength=1.0, initial=math.log(1.2), groups=groups)  # η = w²/1.44 ≥ 1/19
        sparsifier.finalize()
        assert layer.weight.tolist() == expected


def test_bad_arguments():
    model = nn.Linear(3, 2)
    for make, message in (
        (lambda: VariationalNoise(model, L1(), 1.0), "VariationalNoise: penalty must be VariationalDropoutFit"),
        (lambda: VariationalNoise(model, Weighted(VariationalDropout(), 2.0), 1.0), "penalty must be"),
        (lambda: VariationalNoise(model, strength=1.0, parametrisation="exact"), "parametrisation must be"),
        (lambda: VariationalNoise(model, strength=1.0, initial=math.inf), "initial must be a finite number"),
        (lambda: VariationalNoise(model), "give either strength or target"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
