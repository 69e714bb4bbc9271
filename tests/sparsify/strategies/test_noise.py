"""Noise on weights: its moments, its costs and its zeros, against enumeration, quadrature and closed forms."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import scipy.integrate
import torch
from torch import nn

from unrolled.penalties import (
    L0,
    L1,
    MCP,
    Blocks,
    Filters,
    Grouped,
    HardConcrete,
    LogSum,
    VariationalDropout,
    VariationalDropoutFit,
    Weighted,
)
from unrolled.sparsify import AdaProx, AdaptiveDropout, HardConcreteGates, ReweightedTikhonov, VariationalNoise, WarmUp

STRATEGIES = {
    "adaptive": lambda model, **options: AdaptiveDropout(model, LogSum(0.1), **options),
    "gaussian": lambda model, **options: AdaptiveDropout(model, LogSum(0.1), noise="gaussian", **options),
    "additive": VariationalNoise,
    "local": lambda model, **options: VariationalNoise(model, parametrisation="local", **options),
    "plain": lambda model, **options: VariationalNoise(model, VariationalDropout(), parametrisation="plain", **options),
    "gates": HardConcreteGates,
}
ALSO = {
    "alternating": lambda model, **options: ReweightedTikhonov(model, LogSum(0.1), **options),
    "joint": lambda model, **options: ReweightedTikhonov(model, LogSum(0.1), update="joint", **options),
    "shrinking": lambda model, **options: AdaProx(model, LogSum(0.1), **options),
}


def every(table):
    return pytest.mark.parametrize("make", table.values(), ids=table.keys())


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))


def layer_of(values, dtype=torch.float64):
    weight = torch.as_tensor(values, dtype=dtype)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def draws(layer, count):
    """The noisy weights of many calls."""
    eye = torch.eye(layer.weight.shape[1], dtype=layer.weight.dtype)
    with torch.no_grad():
        return torch.stack([layer(eye).T for _ in range(count)])


def assert_moments(samples, mean, variance):
    """Within four standard errors; of the variance as for a normal distribution, doubled."""
    count = len(samples)
    error = (variance / count).sqrt()
    assert ((samples.mean(0) - mean).abs() <= 4.5 * error + 1e-7).all()
    assert ((samples.var(0) - variance).abs() <= 9 * variance * math.sqrt(2 / count) + 1e-7).all()


def train(model, sparsifier, steps, optimizer=None, rate=0.05):
    optimizer = optimizer or torch.optim.Adam([*model.parameters(), *sparsifier.parameters()], lr=rate)
    for _ in range(steps):
        torch.manual_seed(sparsifier.step_count)
        x = torch.randn(16, 1, 4, 4)
        label = (x[:, 0, 0, 0] > 0).long()
        optimizer.zero_grad()
        (nn.functional.cross_entropy(model(x), label) + sparsifier.loss()).backward()
        optimizer.step()
        sparsifier.step(optimizer)
    return optimizer


# Adaptive dropout


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
        layer = layer_of(w)
        sparsifier = AdaptiveDropout(layer, penalty, 0.2, noise=noise)
        variance = torch.where(w == 0, 0.0, 0.2 * w.square() / eta)
        assert_moments(draws(layer, 2000), w, variance)
        assert torch.equal(layer.eval()(torch.eye(4, dtype=w.dtype)).T, w)
        sparsifier.release()


# Variational dropout


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
        samples = torch.stack([layer(x) for _ in range(3000)])
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
    VariationalNoise(model, strength=1.0, parametrisation=parametrisation, initial=-1.0)
    eye = torch.eye(3, dtype=torch.float64)
    with torch.no_grad():
        pairs = [model(eye) for _ in range(2000)]
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


# Hard concrete gates


def test_gates_have_their_moments_and_are_closed_as_often_as_is_paid_for():
    layer = layer_of(torch.ones(100, 100), torch.float32)
    sparsifier = HardConcreteGates(layer, HardConcrete(0.5, -0.2, 1.3), 1.0, initial_keep=0.4)
    gates = draws(layer, 20).flatten()
    open_share, error = (gates > 0).float().mean().item(), 4 * 0.5 / math.sqrt(len(gates))
    probability = 1 / (1 + math.exp(-(math.log(0.4 / 0.6) - 0.5 * math.log(0.2 / 1.3))))
    assert open_share == pytest.approx(probability, abs=error)
    assert sparsifier.loss().item() == pytest.approx(probability * 10_000, rel=1e-5)
    u = np.linspace(0, 1, 200_001)[1:-1]
    s = 1 / (1 + np.exp(-(np.log(u / (1 - u)) + math.log(0.4 / 0.6)) / 0.5))
    s = np.clip(s * 1.5 - 0.2, 0, 1)
    assert gates.mean().item() == pytest.approx(s.mean(), abs=error)
    assert gates.square().mean().item() == pytest.approx((s**2).mean(), abs=error)
    with torch.no_grad():
        gate = layer.eval()(torch.eye(100))
    torch.testing.assert_close(gate, torch.full((100, 100), 0.4 * 1.5 - 0.2))


def test_the_gate_is_closed_in_the_end_where_its_formula_says_so():
    layer = layer_of([[1.0, 2.0, 3.0]])
    sparsifier = HardConcreteGates(layer, strength=1.0)
    (location,) = sparsifier.parameters()
    with torch.no_grad():
        location.copy_(torch.tensor([[math.log(1 / 11) - 1e-6, 0.0, 5.0]]))  # σ(log a)·1.2 = .1; σ(0)·1.2 − .1 = .5
    x = torch.eye(3, dtype=torch.float64)
    expected = torch.tensor([[0.0, 1.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(layer.eval()(x).detach().T, expected)
    with sparsifier.as_finalized() as model:
        torch.testing.assert_close(model(x).detach().T, expected)
    assert sparsifier.sparsity() == 1 / 3
    sparsifier.finalize()
    torch.testing.assert_close(layer.weight.detach(), expected)
    assert layer.weight[0, 0] == 0
    torch.testing.assert_close(layer.train()(x).detach().T, expected)


def test_a_group_has_one_gate_and_counts_as_many_times_as_it_has_weights():
    layer = layer_of(torch.ones(3, 40), torch.float32)
    single = HardConcreteGates(copy.deepcopy(layer), strength=1.0).loss().item()
    sparsifier = HardConcreteGates(layer, strength=1.0, groups=Filters())
    assert [tuple(parameter.shape) for parameter in sparsifier.parameters()] == [(3, 1)]
    assert sparsifier.loss().item() == pytest.approx(single)
    rows = draws(layer, 50).reshape(-1, 40)
    assert (rows == rows[:, :1]).all()
    assert len(rows[:, 0].unique()) > 20


def test_locations_stay_in_their_range():
    layer = layer_of([[1.0, 1.0]])
    sparsifier = HardConcreteGates(layer, strength=1.0)
    optimizer = torch.optim.SGD([*layer.parameters(), *sparsifier.parameters()], lr=1.0)
    (location,) = sparsifier.parameters()
    location.grad = torch.tensor([[100.0, -100.0]], dtype=torch.float64)
    layer.weight.grad = torch.zeros_like(layer.weight)
    optimizer.step()
    sparsifier.step(optimizer)
    torch.testing.assert_close(location.detach(), torch.tensor([[0.01, 100.0]], dtype=torch.float64).log())


# All of them


@every(STRATEGIES)
def test_copies_are_plain_and_keys_stay(make):
    model, x = small_model(), torch.randn(2, 1, 4, 4)
    keys, plain = list(model.state_dict()), model(x)
    sparsifier = make(model, strength=1e-3)
    train(model, sparsifier, 2)
    assert list(model.state_dict()) == keys
    other = small_model()
    other.load_state_dict(model.state_dict())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), other(x))
        assert torch.equal(twin(x), twin(x))
    assert not torch.equal(model(x), model(x))
    sparsifier.finalize()
    assert torch.equal(model(x), model(x))
    assert list(model.state_dict()) == keys
    assert not torch.equal(model(x), plain)


@every(STRATEGIES | ALSO)
def test_a_run_goes_on_bit_for_bit(make):
    ends = []
    for stop in (False, True):
        model = small_model()
        sparsifier = make(model, target=0.5, steps=12)
        optimizer = train(model, sparsifier, 6)
        if stop:
            states = copy.deepcopy((model.state_dict(), optimizer.state_dict(), sparsifier.state_dict()))
            model = small_model()
            sparsifier = make(model, target=0.5, steps=12)
            optimizer = torch.optim.Adam([*model.parameters(), *sparsifier.parameters()], lr=0.05)
            for part, state in zip((model, optimizer, sparsifier), states, strict=True):
                part.load_state_dict(state)
        train(model, sparsifier, 6, optimizer)
        ends.append([sparsifier.strength, *map(torch.clone, [*model.parameters(), *sparsifier.parameters()])])
    assert ends[0][0] == ends[1][0]
    assert all(torch.equal(a, b) for a, b in zip(ends[0][1:], ends[1][1:], strict=True))


@pytest.mark.parametrize("name", STRATEGIES | ALSO)
def test_a_target_is_met_with_exact_zeros_and_nothing_is_cut(name):
    model = small_model()
    sparsifier = (STRATEGIES | ALSO)[name](model, target=0.8, steps=200)
    learned = {"params": sparsifier.parameters(), "lr": 0.04}
    train(model, sparsifier, 200, torch.optim.Adam([{"params": model.parameters()}, learned], lr=0.01))
    assert sparsifier.sparsity() == pytest.approx(0.8, abs=0.5 / 164)
    assert_ends_well(model, sparsifier)


@pytest.mark.parametrize(
    ("name", "strength"), [("local", 0.03), ("joint", 0.01), ("alternating", 0.01), ("shrinking", 0.005)]
)
def test_a_strength_leads_to_exact_zeros_and_little_is_cut(name, strength):
    model = small_model()
    sparsifier = (STRATEGIES | ALSO)[name](model, strength=strength)
    learned = {"params": sparsifier.parameters(), "lr": 0.1}
    train(model, sparsifier, 200, torch.optim.Adam([{"params": model.parameters()}, learned], lr=0.02))
    assert 0.3 < sparsifier.sparsity() < 0.97
    assert_ends_well(model, sparsifier)


def assert_ends_well(model, sparsifier):
    torch.manual_seed(0)
    x = torch.randn(1000, 1, 4, 4)
    label = (x[:, 0, 0, 0] > 0).long()
    share = sparsifier.sparsity()

    def right():
        return (model.eval()(x).argmax(1) == label).float().mean().item()

    before = right()
    sparsifier.finalize()
    zeros = sum(int((model[part].weight == 0).sum()) for part in (0, 3))
    assert zeros / (36 + 128) == pytest.approx(share, abs=1e-6)
    assert right() > 0.9
    assert abs(right() - before) < 0.03


@every(STRATEGIES)
def test_fine_tuning_is_without_noise_after_a_resume_too(make):
    model = small_model()
    sparsifier = make(model, strength=1e-3, fine_tune=0.5, steps=4)
    optimizer = train(model, sparsifier, 3)
    x = torch.randn(2, 1, 4, 4)
    assert torch.equal(model(x), model(x))
    state = copy.deepcopy(sparsifier.state_dict())
    sparsifier.release()
    sparsifier = make(model, strength=1e-3, fine_tune=0.5, steps=4)
    sparsifier.load_state_dict(state)
    weights = [model[part].weight.detach().clone() for part in (0, 3)]
    assert torch.equal(model(x), model(x))
    assert optimizer is not None
    sparsifier.finalize()
    assert all(torch.equal(model[part].weight, before) for part, before in zip((0, 3), weights, strict=True))


@every(STRATEGIES | ALSO)
def test_at_strength_0_nothing_is_infinite(make):
    model = small_model()
    with torch.no_grad():
        model[0].weight[0] = 0
    sparsifier = make(model, strength=1e-3, schedule=WarmUp(0.5), steps=4)
    train(model, sparsifier, 4)
    assert all(parameter.isfinite().all() for parameter in [*model.parameters(), *sparsifier.parameters()])


@every(STRATEGIES | ALSO)
def test_groups_fall_together(make):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2))
    with torch.no_grad():
        model[0].weight[:8] *= 1e-4
    sparsifier = make(model, strength=1e-2, groups=Filters(), include="0")
    train(model, sparsifier, 2, rate=1e-6)
    with torch.no_grad():  # what was learned, of half of the filters
        for parameter in sparsifier.parameters():
            if not getattr(sparsifier, "additive", False):
                parameter[:8] = 9.0 if isinstance(sparsifier, VariationalNoise) else -9.0
    sparsifier.finalize()
    dead = (model[0].weight == 0).flatten(1)
    assert dead[:8].all()
    assert not dead[8:].any()


def test_bad_arguments():
    model = nn.Linear(3, 2)
    for make, message in (
        (lambda: AdaptiveDropout(model, L1(), 1.0, noise="uniform"), "noise must be 'bernoulli' or 'gaussian'"),
        (lambda: AdaptiveDropout(model, L0(), 1.0), "flat but for a jump"),
        (lambda: VariationalNoise(model, L1(), 1.0), "VariationalNoise: penalty must be VariationalDropoutFit"),
        (lambda: VariationalNoise(model, Weighted(VariationalDropout(), 2.0), 1.0), "penalty must be"),
        (lambda: VariationalNoise(model, strength=1.0, parametrisation="exact"), "parametrisation must be"),
        (lambda: VariationalNoise(model, strength=1.0, initial=math.inf), "initial must be a finite number"),
        (lambda: VariationalNoise(model), "give either strength or target"),
        (lambda: HardConcreteGates(model, L1(), 1.0), "HardConcreteGates: penalty must be HardConcrete"),
        (lambda: HardConcreteGates(model, HardConcrete(beta=torch.tensor(0.5)), 1.0), "must be no tensors"),
        (lambda: HardConcreteGates(model, strength=1.0, initial_keep=0), "initial_keep must be > 0 and < 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
