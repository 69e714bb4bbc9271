"""Every law of a penalty, over every penalty that exists."""

from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.penalties.cases import CLASSES, NAMES, default, drawn

STEPS = st.floats(1e-3, 10)  # beyond every weak-convexity bound

every_penalty = pytest.mark.parametrize("name", NAMES)
laws = settings(max_examples=30, deadline=None, derandomize=True)


def objective(penalty, z, v, step):
    return 0.5 * (z - v) ** 2 + step * penalty.value(z)


@every_penalty
@given(data=st.data(), step=STEPS, v=st.floats(-12, 12))
@laws
def test_prox_is_the_global_minimiser(name, data, step, v):
    penalty = drawn(name, data)
    v = torch.tensor(v, dtype=torch.float64)
    candidates = torch.cat([torch.linspace(-13, 13, 200_001, dtype=torch.float64), torch.stack([0 * v, v])])
    best = objective(penalty, candidates, v, step).min()
    # The search can only come as close as its grid, from above: the prox must be at least as good.
    assert objective(penalty, penalty.prox(v, step), v, step) <= best + 1e-12


@every_penalty
@given(data=st.data(), step=STEPS)
@laws
def test_threshold_is_where_the_prox_leaves_zero(name, data, step):
    penalty = drawn(name, data)
    t = penalty.threshold(step)
    assert penalty.prox(t * (1 - 1e-9), step) == 0
    assert penalty.prox(t, step) == 0
    assert penalty.prox(t * (1 + 1e-9), step) != 0


@every_penalty
@given(data=st.data(), step=STEPS)
@laws
def test_prox_is_odd_monotone_and_shrinks(name, data, step):
    penalty = drawn(name, data)
    v = torch.linspace(-15, 15, 3001, dtype=torch.float64)
    z = penalty.prox(v, step)
    assert torch.equal(z, -penalty.prox(-v, step))
    assert (z.diff() >= -1e-12).all()
    assert (z.abs() <= v.abs()).all()


@every_penalty
@given(data=st.data(), step=STEPS)
@laws
def test_prox_of_complex_numbers_keeps_the_phase(name, data, step):
    penalty = drawn(name, data)
    magnitude = torch.linspace(0, 12, 101, dtype=torch.float64)
    phase = torch.polar(torch.ones_like(magnitude), torch.linspace(0, 40, 101, dtype=torch.float64))
    torch.testing.assert_close(penalty.prox(magnitude * phase, step), penalty.prox(magnitude, step) * phase)


@every_penalty
@given(data=st.data())
@laws
def test_derivative_is_that_of_the_value(name, data):
    penalty = drawn(name, data)
    w = torch.linspace(0.003, 20, 500, dtype=torch.float64, requires_grad=True)
    value = penalty.value(w)
    slope = torch.autograd.grad(value.sum(), w)[0] if value.requires_grad else torch.zeros_like(w)
    torch.testing.assert_close(penalty.derivative(w.detach()), slope)


@every_penalty
@given(data=st.data(), eta=st.floats(1e-2, 50))
@laws
def test_dual_is_the_supremum_of_its_definition(name, data, eta):
    penalty = drawn(name, data)
    w = torch.cat([torch.zeros(1), torch.logspace(-9, 2.5, 400_000)]).double()
    supremum = (2 * penalty.value(w) - w**2 / eta).max()
    torch.testing.assert_close(penalty.dual(torch.tensor(eta, dtype=torch.float64)), supremum, rtol=1e-6, atol=1e-8)


@every_penalty
@given(data=st.data(), w=st.floats(1e-2, 20))
@laws
def test_value_is_the_minimum_over_eta_reached_at_eta(name, data, w):
    penalty = drawn(name, data)
    w = torch.tensor(w, dtype=torch.float64)
    grid = torch.logspace(-6, 9, 400_000, dtype=torch.float64)
    minimum = 0.5 * (w**2 / grid + penalty.dual(grid)).min()
    torch.testing.assert_close(penalty.value(w), minimum, rtol=1e-6, atol=1e-6)
    reached = 0.5 * (w**2 / penalty.eta(w) + penalty.dual(penalty.eta(w)))
    torch.testing.assert_close(penalty.value(w), reached)


@every_penalty
@given(data=st.data(), strength=st.floats(1e-3, 10))
@laws
def test_dropout_with_the_keep_probability_regularises_by_the_penalty(name, data, strength):
    # Masks of mean α scaled by 1/α add ½ w² Var/E² per unit column: its gradient at frozen α is strength·ρ'(w).
    penalty = drawn(name, data)
    w = torch.linspace(0.01, 20, 400, dtype=torch.float64)
    alpha = penalty.keep_probability(w, strength)
    assert ((alpha >= 0) & (alpha <= 1)).all()
    torch.testing.assert_close(w * (1 - alpha) / alpha, strength * penalty.derivative(w), rtol=1e-9, atol=1e-9)


@every_penalty
def test_sampled_masks_add_the_predicted_penalty(name):
    penalty, strength = default(name), 0.3
    generator = torch.Generator().manual_seed(0)
    w = torch.tensor([0.05, 0.4, 1.3, 3.0], dtype=torch.float64)
    columns = torch.linalg.qr(torch.randn(6, 4, generator=generator, dtype=torch.float64))[0]
    y = torch.randn(6, generator=generator, dtype=torch.float64)
    alpha = penalty.keep_probability(w, strength)
    masks = (torch.rand(200_000, 4, generator=generator, dtype=torch.float64) < alpha) / alpha
    losses = ((masks * w) @ columns.T - y).square().sum(1)
    predicted = (columns @ w - y).square().sum() + strength * (w**2 / penalty.eta(w)).sum()
    assert abs(losses.mean() - predicted) <= 4 * losses.std() / 200_000**0.5 + 1e-12


@every_penalty
@given(data=st.data(), step=st.floats(1e-2, 8))
@laws
def test_gradients_of_prox(name, data, step):
    penalty = drawn(name, data)
    v = torch.linspace(-9, 9, 37, dtype=torch.float64)
    step = torch.tensor(step, dtype=torch.float64)
    z, shifted = penalty.prox(v, step), penalty.prox(v + 1e-4, step)
    kinked = ((penalty.prox(v - 1e-4, step) + shifted) / 2 - z).abs() > 1e-9  # near a kink or a jump
    v = v[~kinked].requires_grad_()
    step.requires_grad_()
    torch.autograd.gradcheck(penalty.prox, (v, step), eps=1e-6, atol=1e-5)
    everywhere = torch.tensor(
        [0.0, float(penalty.threshold(step.detach())), 1e4], dtype=torch.float64, requires_grad=True
    )
    for gradient in torch.autograd.grad(penalty.prox(everywhere, step).sum(), (everywhere, step), allow_unused=True):
        assert gradient is None or torch.isfinite(gradient).all()


@every_penalty
def test_step_may_be_a_tensor_that_broadcasts(name):
    penalty = default(name)
    v = torch.linspace(-5, 5, 11, dtype=torch.float64)
    steps = torch.tensor([1e-3, 0.5, 1.9, 2.0, 2.1, 7.0], dtype=torch.float64)[:, None]
    together = penalty.prox(v, steps)
    for row, step in zip(together, steps.flatten().tolist(), strict=True):
        assert torch.equal(row, penalty.prox(v, step))


@every_penalty
def test_nan_passes_and_infinity_stays(name):
    penalty = default(name)
    v = torch.tensor([torch.nan, torch.inf, -torch.inf])
    z = penalty.prox(v, 0.5)
    assert z[0].isnan()
    assert z[1] == torch.inf
    assert z[2] == -torch.inf
    for method in (penalty.value, penalty.derivative, penalty.eta, penalty.dual):
        assert method(v[:1].abs()).isnan().all(), method.__name__


@every_penalty
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_types_are_kept(name, dtype):
    penalty = default(name)
    w = torch.linspace(-3, 3, 13, dtype=dtype)
    for result in (
        penalty.prox(w, 0.3),
        penalty.value(w),
        penalty.derivative(w),
        penalty.eta(w),
        penalty.dual(w.abs()),
    ):
        assert result.dtype == dtype
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 2e-2}[dtype]
    exact = penalty.prox(w.double(), 0.3)
    assert (penalty.prox(w, 0.3).double() - exact).abs().max() <= tolerance


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_bad_parameters_are_refused_by_name(cls):
    for field in fields(cls):
        above, below = field.metadata["above"], field.metadata["below"]
        for bad in (above, above - 1.0, below, below + 1.0, float("nan"), float("inf"), "1", True):
            with pytest.raises(ValueError, match=rf"{cls.__name__}: {field.name} must be a finite number > {above:g}"):
                cls(**{field.name: bad})


@every_penalty
def test_bad_arguments_are_refused_by_name(name):
    penalty = default(name)
    for bad in (0.0, -0.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="step must be a finite number > 0"):
            penalty.prox(torch.ones(2), bad)
        with pytest.raises(ValueError, match="strength must be a finite number > 0"):
            penalty.keep_probability(torch.ones(2), bad)
    for method in (penalty.value, penalty.derivative, penalty.eta, lambda v: penalty.prox(v, 1.0)):
        with pytest.raises(ValueError, match=r"floating point or complex tensors, got torch.int64"):
            method(torch.ones(2, dtype=torch.int64))
