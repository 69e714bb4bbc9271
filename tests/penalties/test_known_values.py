"""Numbers and relations between penalties that are known from elsewhere."""

import pytest
import torch
from scipy.special import lambertw

from unrolled.penalties import (
    L0,
    L1,
    MCP,
    SCAD,
    Arctan,
    CappedL1,
    Cauchy,
    ElasticNet,
    Exponential,
    Geman,
    LogSum,
    Lp,
    ScaledArctan,
    TransformedL1,
)

V = torch.linspace(-9, 9, 721, dtype=torch.float64)
W = torch.linspace(0, 12, 241, dtype=torch.float64)
STEPS = [0.01, 0.3, 1.0, 3.0, 10.0]

every_step = pytest.mark.parametrize("step", STEPS)


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def off_jump(penalty, step, width=1e-3):
    """V without the surroundings of the threshold."""
    return V[(V.abs() - penalty.threshold(step)).abs() > width]


@every_step
@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.5])
def test_geman_is_transformed_l1_divided(gamma, step):
    same(Geman(gamma).value(W), TransformedL1(gamma).value(W) / (gamma + 1))
    same(Geman(gamma).prox(V, step * (gamma + 1)), TransformedL1(gamma).prox(V, step))
    same(Geman(gamma).threshold(step * (gamma + 1)), TransformedL1(gamma).threshold(step))


LIMITS = [
    (MCP(1.0, 1e9), L1(), 1.0, 1e-7),
    (SCAD(1.0, 1e9), L1(), 1.0, 1e-7),
    (TransformedL1(1e9), L1(), 1.0, 1e-7),
    (LogSum(1e8), L1(), 1e8, 1e-5),
    (Exponential(1e8), L1(), 1e8, 1e-5),
    (Geman(1e9), L1(), 1e9, 1e-6),
    (Arctan(1e-9), L1(), 1.0, 1e-7),
    (CappedL1(1e9), L1(), 1.0, 1e-12),
    (ElasticNet(1 - 1e-9), L1(), 1.0, 1e-6),
    (Lp(1 - 1e-9), L1(), 1.0, 1e-6),
    (Lp(1e-9), L0(), 1.0, 1e-6),
    (TransformedL1(1e-9), L0(), 1.0, 1e-6),
    (Geman(1e-9), L0(), 1.0, 1e-6),
    (Exponential(1e-3), L0(), 1.0, 1e-6),
    (ScaledArctan(1e-9), L0(), 1.0, 1e-6),
    (CappedL1(1e-9), L0(), 1e9, 1e-6),
    (MCP(1e6, 2e-12), L0(), 1.0, 1e-6),
]


@every_step
@pytest.mark.parametrize(("near", "limit", "scale", "tolerance"), LIMITS, ids=lambda x: str(x)[:30])
def test_parameters_at_their_ends_give_l1_or_counting(near, limit, scale, tolerance, step):
    v = off_jump(limit, step)
    same(near.prox(v, step * scale), limit.prox(v, step), 20 * tolerance)
    same(near.threshold(step * scale), limit.threshold(step), 20 * tolerance)


@pytest.mark.parametrize("step", [4.0, 9.0])
def test_large_steps_of_clipped_penalties_are_hard_thresholds(step):
    for penalty, top in ((MCP(0.7, 2.0), 0.7**2), (SCAD(0.7, 2.5), 0.7**2 * 3.5 / 2), (CappedL1(0.7), 0.7)):
        same(penalty.prox(V, step), L0().prox(V, step * top))
        same(penalty.threshold(step), L0().threshold(step * top))


def test_scaling_of_clipped_penalties():
    # ρ_γ(z) = γ²ρ₁(z/γ), so prox_γ(v, s) = γ·prox₁(v/γ, s).
    for make in (lambda gamma: MCP(gamma, 1.7), lambda gamma: SCAD(gamma, 3.1)):
        for gamma in (0.4, 2.0):
            same(make(gamma).value(W), gamma**2 * make(1.0).value(W / gamma))
            same(make(gamma).eta(W[1:]), make(1.0).eta(W[1:] / gamma))
            same(make(gamma).dual(W), gamma**2 * make(1.0).dual(W))
            for step in STEPS:
                same(make(gamma).prox(V, step), gamma * make(1.0).prox(V / gamma, step))


@pytest.mark.parametrize("p", [1 / 2, 2 / 3])
def test_special_powers_are_as_by_the_general_method(p):
    general = Lp(torch.tensor(p, dtype=torch.float64))  # of a tensor only the general method is used
    for step in STEPS:
        same(Lp(p).prox(V, step), general.prox(V, step))


@pytest.mark.parametrize("p", [0.001, 0.01, 0.1, 0.3, 0.6, 0.8, 0.9, 0.99, 0.999])
def test_powers_solve_their_equation(p):
    for dtype, digits in ((torch.float64, 2e-15), (torch.float32, 1e-6)):
        v = Lp(p).threshold(0.7) * (1 + torch.logspace(-9, 3, 400, dtype=torch.float64))
        z = Lp(p).prox(v.to(dtype), 0.7).double()
        v = v.to(dtype).double()[z > 0]
        z = z[z > 0]
        assert ((z + 0.7 * Lp(p).derivative(z) - v).abs() <= 4 * digits * v).all()


def test_half_and_two_thirds_by_their_polynomials():
    # With z = u²: u³ − vu + s/2 = 0; with z = u³: u⁴ − vu + 2s/3 = 0.
    for step in STEPS:
        for p, power, rest in ((0.5, 2, 0.5), (2 / 3, 3, 2 / 3)):
            z = Lp(p).prox(V.abs(), step)
            v, z = V.abs()[z > 0], z[z > 0]
            u = z ** (1 / power)
            assert (u ** (power + 1) - v * u + rest * step).abs().max() < 1e-12
    assert Lp(0.5).threshold(1.0) == 1.5
    same(Lp(2 / 3).threshold(1.0), torch.tensor(2 * (2 / 3) ** 0.75, dtype=torch.float64))


def test_exponential_by_lambert():
    for gamma, step in ((1.0, 0.4), (0.5, 0.2), (0.5, 3.0), (2.0, 4.0)):
        v = V[Exponential(gamma).threshold(step) * (1 + 1e-6) < V]
        w = lambertw((-step / gamma**2 * torch.exp(-v / gamma)).numpy()).real
        same(Exponential(gamma).prox(v, step), v + gamma * torch.as_tensor(w), 1e-9)


@pytest.mark.parametrize("k", [1 - 1e-9, 1.0, 1 + 1e-9, 1.001])
def test_steps_at_the_edge_of_convexity(k):
    # There the curvature of the objective vanishes at 0, and roots are double or triple. Equations hold nevertheless.
    for penalty, step in ((Exponential(0.5), 0.25 * k), (LogSum(0.5), 0.25 * k), (Arctan(2.0), 0.5 * k),
                          (Geman(0.5), 0.125 * k), (TransformedL1(0.5), k / 12)):  # fmt: skip
        v = penalty.threshold(step) * (1 + torch.logspace(-9, 0, 200, dtype=torch.float64))
        z = penalty.prox(v, step)
        assert (z + step * penalty.derivative(z) - v).abs().max() < 1e-14 * 10


def test_an_arctangent_first_leaves_zero_and_then_jumps():
    # 1.5396 < k = 2s/(πγ²) < 2.1: the threshold is the slope at 0, and the jump comes later.
    penalty, k = ScaledArctan(1.0), 1.8
    step = k * torch.pi / 2
    assert abs(penalty.threshold(step) - k) < 1e-12
    z = penalty.prox(torch.linspace(k, 2.2, 20_001, dtype=torch.float64), step)
    leap = z.diff().max()
    assert z[z.diff().argmax()] > 0.05
    assert leap > 0.3
    assert z[1] < 1e-4


def test_the_jump_of_cauchy_joins_equal_objectives():
    penalty, step = Cauchy(1.0), 10.0
    v = torch.linspace(2, 12, 700_001, dtype=torch.float64)
    z = penalty.prox(v, step)
    at = int(z.diff().argmax())
    sides = z[at : at + 2]
    assert sides.diff() > 1
    objectives = 0.5 * (sides - v[at]) ** 2 + step * penalty.value(sides)
    assert abs(objectives[0] - objectives[1]) < 1e-4
    assert Cauchy(1.0).prox(v, 3.9).diff().max() < 1e-3  # a step below 4γ² does not jump


@pytest.mark.parametrize("a", [1e-3, 1.0, 1e2, 1e3, 1e5])
def test_single_precision_of_transformed_l1(a):
    v = torch.linspace(0.6, 9, 2000)
    exact = TransformedL1(a).prox(v.double(), 0.5)
    assert ((TransformedL1(a).prox(v, 0.5) - exact).abs() / v).max() < 5e-7


def test_single_precision_of_smooth_penalties():
    v = torch.linspace(0.01, 12, 2000)
    for penalty in (LogSum(300.0), Geman(300.0), Exponential(300.0), Arctan(3e-3), ScaledArctan(300.0), Cauchy(300.0)):
        exact = penalty.prox(v.double(), 0.5)
        assert ((penalty.prox(v, 0.5) - exact).abs() / v).max() < 1e-6, penalty


DUALS = [
    # f and η̂ at chosen points, by hand
    (L1(), 0.7, 0.7),
    (L0(), 0.1, 2.0),
    (Lp(0.5), 2.0, 1.5),
    (ElasticNet(0.5), 1.0, 0.5),
    (ElasticNet(0.5), 2.0, torch.inf),
    (MCP(1.0, 2.0), 2.0, 1.0),
    (MCP(2.0, 1.0), torch.inf, 4.0),
    (SCAD(1.0, 3.0), 0.5, 0.5),
    (SCAD(1.0, 3.0), 2.0, 7 / 4),
    (SCAD(2.0, 3.0), torch.inf, 16.0),
    (CappedL1(1.0), 0.5, 0.5),
    (CappedL1(1.0), 2.0, 1.5),
    (Cauchy(1.0), 0.3, 0.0),
    (Cauchy(1.0), 1.0, 2 * torch.tensor(2.0).log().item() - 1),
    (LogSum(1.0), 2.0, 2 * torch.tensor(2.0).log().item() - 0.5),
    (Geman(1.0), 4.0, 0.75),
    (Exponential(1.0), torch.inf, 2.0),
    (ScaledArctan(1.0), torch.pi, 1 - 1 / torch.pi),
]


@pytest.mark.parametrize(("penalty", "eta", "dual"), DUALS, ids=str)
def test_duals_by_hand(penalty, eta, dual):
    assert abs(penalty.dual(torch.tensor(eta, dtype=torch.float64)).item() - dual) < 1e-6 or dual == torch.inf
    if dual == torch.inf:
        assert penalty.dual(torch.tensor(eta)) == torch.inf
