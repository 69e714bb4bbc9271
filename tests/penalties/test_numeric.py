"""Penalties made of a dropout rule or of a value, against closed forms."""

import pytest
import torch

from tests.penalties.cases import default
from unrolled.penalties import L1, MCP, HardConcrete, LogSum, Penalty, VariationalDropout

Z = torch.cat([torch.zeros(1), torch.logspace(-6, 2, 200)]).double()
STEPS = torch.tensor([0.01, 0.4, 1.0, 3.0, 9.0], dtype=torch.float64)[:, None]

KNOWN = {
    "l1": (L1(), lambda z: z / (z + 0.7)),
    "log-sum": (LogSum(0.5), lambda z: z * (z + 0.5) / (z * (z + 0.5) + 0.7)),
    "mcp": (MCP(1.3, 2.0), lambda z: torch.where(z < 2.6, z / (z + 0.7 * (1.3 - z / 2).clamp(min=0)), 1.0)),
}


def dropout(name):
    return Penalty.from_dropout(KNOWN[name][1], 0.7)


def value(name):
    return Penalty.from_value(KNOWN[name][0].value)


@pytest.mark.parametrize("made", [dropout, value])
@pytest.mark.parametrize("name", KNOWN)
def test_everything_is_that_of_the_known_penalty(made, name):
    known, penalty = KNOWN[name][0], made(name)
    close = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(penalty.value(Z), known.value(Z), **close)
    torch.testing.assert_close(penalty.derivative(Z), known.derivative(Z), **close)
    torch.testing.assert_close(1 / penalty.eta(Z[1:]), 1 / known.eta(Z[1:]), **close)
    torch.testing.assert_close(penalty.dual(Z[:150]), known.dual(Z[:150]), **close)
    torch.testing.assert_close(penalty.keep_probability(Z[1:], 0.7), KNOWN[name][1](Z[1:]), **close)
    torch.testing.assert_close(penalty.threshold(STEPS), known.threshold(STEPS), **close)
    torch.testing.assert_close(penalty.prox(Z + 1e-4, STEPS), known.prox(Z + 1e-4, STEPS), **close)
    assert penalty.exact_zeros


@pytest.mark.parametrize("name", ["rule with two steps", "rule with a jump", "value of Cauchy", "HardConcrete"])
def test_steps_that_differ_lead_to_the_same_as_one_step(name):
    penalty = default(name)
    v = torch.linspace(0.01, 8, 100, dtype=torch.float64)
    for step in (0.7, 5.0):
        steps = step * (1 + 1e-13 * torch.arange(100, dtype=torch.float64))
        torch.testing.assert_close(penalty.threshold(steps), penalty.threshold(step).expand(100), rtol=1e-9, atol=1e-15)
        torch.testing.assert_close(penalty.prox(v, steps), penalty.prox(v, step), rtol=1e-9, atol=0)


def test_a_constant_rule_is_ridge():
    penalty = Penalty.from_dropout(lambda z: torch.full_like(z, 0.4), 0.5)
    curvature = 0.6 / (0.4 * 0.5)
    torch.testing.assert_close(penalty.value(Z), curvature * Z.square() / 2)
    torch.testing.assert_close(penalty.prox(Z, STEPS), Z / (1 + STEPS * curvature))
    assert (penalty.threshold(STEPS) == 0).all()
    assert not penalty.exact_zeros


@pytest.mark.parametrize("place", [0.3, 1.0, 1.3, 1.99])
def test_a_rule_with_a_jump_is_a_truncated_square(place):
    penalty = Penalty.from_dropout(lambda z: torch.where(z < place, 0.4 + 0 * z, 1.0))
    curvature = 0.6 / 0.4
    top = curvature * place**2 / 2
    torch.testing.assert_close(penalty.value(Z), (curvature * Z.square() / 2).clamp(max=top), rtol=0, atol=1e-12)
    near = Z / (1 + STEPS * curvature)
    stays = (near - Z).square() / 2 + STEPS * (curvature * near.square() / 2).clamp(max=top) < STEPS * top
    torch.testing.assert_close(penalty.prox(Z, STEPS), torch.where(stays, near, Z), rtol=0, atol=1e-12)


def test_a_power_has_an_infinite_slope_at_zero():
    penalty = Penalty.from_dropout(lambda z: z**1.5 / (z**1.5 + 0.5))
    torch.testing.assert_close(penalty.value(Z), Z.sqrt(), rtol=1e-9, atol=0)
    torch.testing.assert_close(penalty.threshold(STEPS), 1.5 * STEPS ** (2 / 3), rtol=1e-9, atol=0)


def test_gradients_reach_the_tensors_of_a_rule():
    v = torch.tensor([1.7, 3.0], dtype=torch.float64)

    def everything(epsilon):
        penalty = Penalty.from_dropout(lambda z: z * (z + epsilon) / (z * (z + epsilon) + 1))
        return torch.stack([penalty.prox(v, 0.3), penalty.value(v), penalty.derivative(v), penalty.eta(v)])

    epsilon = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(everything, epsilon)


def test_what_is_given_does_not_record_gradients():
    penalty = dropout("log-sum")
    for result in (penalty.value(Z), penalty.prox(Z, 0.3), penalty.derivative(Z), value("log-sum").prox(Z, 0.3)):
        assert not result.requires_grad


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda z: 0.9 - 0.5 * torch.exp(-(z - 2).square()), r"falls from \|w\| = .* to \|w\| = (1.9|2).*\(α = 0.4"),
        (lambda z: 1 + 0 * z, "1 everywhere"),
        (lambda z: 1.5 * z / (1 + z), r"in \[0, 1\], got α = 1.0.* at \|w\| = (2|2.0\d*)$"),
        (lambda z: z / 0 * 0, r"got α = nan at \|w\|"),
        (lambda z: (z > 1).to(z), r"it is 0 up to \|w\| = 1\. .*TopK"),
        (lambda z: z**3 / (1 + z**3), r"infinite; near 0 it falls like \|w\|\^3"),
        (lambda z: 0.5, "must map a tensor of .* got float"),
        (lambda z: z[:3], "must map a tensor of"),
    ],
)
def test_a_rule_without_penalty_is_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        Penalty.from_dropout(rule)


@pytest.mark.parametrize("strength", [0.0, -1.0, float("nan"), float("inf"), "1", True])
def test_a_bad_strength_is_refused(strength):
    with pytest.raises(ValueError, match="from_dropout: strength must be a finite number > 0"):
        Penalty.from_dropout(KNOWN["l1"][1], strength)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda z: z + 1, "must be 0 at 0, got 1; subtract that"),
        (lambda z: -z, r"finite and ≥ 0, got ρ = -"),
        (lambda z: z * torch.exp(-z), r"must not fall as \|w\| grows; it falls from \|w\| = (1|1.0\d*) \(ρ = 0.36"),
        (lambda z: z**3, r"concave in w².*falls from \|w\|"),
        (lambda z: (z > 0).to(z), "without jumps"),
        (lambda z: z / (z - 1), "finite and ≥ 0"),
    ],
)
def test_a_value_without_dropout_is_refused(fn, message):
    with pytest.raises(ValueError, match=message):
        Penalty.from_value(fn)


def test_of_no_numbers_nothing_is_found():
    empty = torch.ones(0, 3, dtype=torch.float64)
    for penalty in (VariationalDropout(), HardConcrete()):
        assert penalty.prox(empty, 0.3).shape == penalty.value(empty).shape == empty.shape
