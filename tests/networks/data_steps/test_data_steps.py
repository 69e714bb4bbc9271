"""Data steps: their equations against dense algebra, and their conditions."""

import pytest
import torch
from torch import nn

from tests.helpers import concrete_subclasses
from unrolled.networks import DataStep, DualStep, GradientStep, ProximalStep
from unrolled.operators import CartesianMask, Dense, Identity, MaskedFourier
from unrolled.system.recipes import build, describe

STEPS = {GradientStep: {"step": 0.7}, ProximalStep: {"ridge": 0.7}}


def problem():
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(9, 20, generator=random, dtype=torch.float64) / 5
    z, y = (torch.randn(*shape, generator=random, dtype=torch.float64) for shape in ((2, 1, 4, 5), (2, 1, 9)))
    return matrix, Dense(matrix, 4, 5).double(), z, y


def closed_form(cls, matrix, z, y, weight):
    columns, measured = z.flatten(1).T, y.flatten(1).T
    if cls is GradientStep:
        return (columns - weight * matrix.T @ (matrix @ columns - measured)).T.view(z.shape)
    # As least squares: the rows of A, and below them those of √λ.
    root = weight.sqrt()
    stacked = torch.cat([matrix, root * torch.eye(20, dtype=torch.float64)])
    return torch.linalg.lstsq(stacked, torch.cat([measured, root * columns])).solution.T.reshape(z.shape)


def test_every_data_step_is_here():
    assert set(STEPS) == set(concrete_subclasses(DataStep))


@pytest.mark.parametrize("cls", STEPS)
def test_it_is_its_equation_and_its_gradient(cls):
    matrix, operator, z, y = problem()
    step = cls(**STEPS[cls]).double()
    expected = closed_form(cls, matrix, z, y, torch.tensor(0.7, dtype=torch.float64))
    torch.testing.assert_close(step(z, y, operator), expected, rtol=1e-6, atol=1e-6)
    z, y = z.requires_grad_(), y.requires_grad_()
    assert torch.autograd.gradcheck(lambda z, y, *_: step(z, y, operator), (z, y, *step.parameters()), fast_mode=True)


@pytest.mark.parametrize("cls", STEPS)
def test_its_weight_follows_the_condition(cls):
    matrix, operator, z, y = problem()
    step = cls(**STEPS[cls], ranges=[(0.01, 0.2)]).double()
    condition = torch.tensor([[0.02], [0.2]], dtype=torch.float64)
    torch.testing.assert_close(step(z, y, operator, condition), cls(**STEPS[cls]).double()(z, y, operator))
    nn.init.normal_(step.factors.last.weight)
    weights = 0.7 * step.factors(condition)[:, 0]
    for image, weight in enumerate(weights.detach()):
        expected = closed_form(cls, matrix, z, y, weight)[image]
        torch.testing.assert_close(step(z, y, operator, condition)[image], expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match=rf"{cls.__name__}: condition must be given"):
        step(z, y, operator)


@pytest.mark.parametrize("cls", STEPS)
def test_it_works_on_complex_images_and_is_described(cls):
    operator = MaskedFourier(CartesianMask(2), 8, 8, complex_images=True)
    z = torch.randn(2, 1, 8, 8, dtype=torch.complex64)
    step = cls(**STEPS[cls])
    found = step(z, operator(z + 1), operator)
    assert found.dtype == z.dtype
    assert (operator(found) - operator(z + 1)).norm() < (operator(z) - operator(z + 1)).norm()
    assert describe(build(describe(step), DataStep)) == describe(step)


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("cls", STEPS)
def test_weights_are_positive(cls, value):
    (name,) = STEPS[cls]
    with pytest.raises(ValueError, match=f"{cls.__name__}: {name} must be a finite number > 0, got"):
        cls(value)


def test_a_proximal_step_may_end_early():
    _, operator, z, y = problem()

    class Slow(Dense):
        def solve_exactly(self, b, ridge):
            return None

    slow = Slow(operator.matrix, 4, 5).double()
    exact = ProximalStep(0.05).double()(z, y, slow)
    errors = [(ProximalStep(0.05, iterations=n).double()(z, y, slow) - exact).norm() for n in (1, 3, 30)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5
    with pytest.raises(ValueError, match="ProximalStep: iterations must be >= 1 or None, got 0"):
        ProximalStep(iterations=0)


def dual_problem():
    matrix, operator, x, y = problem()
    random = torch.Generator().manual_seed(1)
    return matrix, operator, torch.randn(y.shape, generator=random, dtype=torch.float64), x, y


def test_the_dual_step_is_the_proximal_map_of_the_convex_conjugate():
    # F*(h) = sup ⟨h, v⟩ − ½‖v − y‖². Here the supremum is found by bisection on its derivative, and so is the
    # proximal map argmin ½(h − v)² + σF*(h): neither knows the closed forms.
    _, operator, h, x, y = dual_problem()
    step = DualStep(0.7).double()
    sigma = step.weight().detach()
    v = h + sigma * operator(x)

    def root(increasing):
        low, high = torch.full_like(y, -1e3), torch.full_like(y, 1e3)
        for _ in range(60):
            middle = (low + high) / 2
            below = increasing(middle) < 0
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def slope_of_the_conjugate(h):  # the v that attains the supremum
        return root(lambda v: (v - y) - h)

    expected = root(lambda h: h - v + sigma * slope_of_the_conjugate(h))
    torch.testing.assert_close(step(h, x, y, operator), expected, rtol=0, atol=1e-9)


def test_the_dual_step_obeys_moreau():
    # prox of σF* at v is v − σ·prox of F/σ at v/σ, and the latter is that of the identity's proximal data step.
    _, operator, h, x, y = dual_problem()
    step, data = DualStep(0.7).double(), ProximalStep(0.7).double()
    sigma = step.weight()
    v = h + sigma * operator(x)
    z = data((v / sigma)[..., None], y[..., None], Identity())[..., 0]
    torch.testing.assert_close(step(h, x, y, operator), v - sigma * z)


def test_the_dual_step_follows_the_condition_has_gradients_and_is_described():
    _, operator, h, x, y = dual_problem()
    step = DualStep(0.7, [(0.01, 0.2)]).double()
    nn.init.normal_(step.factors.last.weight)
    condition = torch.tensor([[0.02], [0.2]], dtype=torch.float64)
    found = step(h, x, y, operator, condition)
    sigma = 0.7 * step.factors(condition)[:, :, None]
    torch.testing.assert_close(found, (h + sigma * (operator(x) - y)) / (1 + sigma), rtol=1e-6, atol=1e-6)
    inputs = [part.requires_grad_() for part in (h, x, y)]
    how = {"fast_mode": True}
    assert torch.autograd.gradcheck(
        lambda h, x, y, *_: step(h, x, y, operator, condition), (*inputs, *step.parameters()), **how
    )
    assert describe(build(describe(step), DualStep)) == describe(step)
    with pytest.raises(ValueError, match="DualStep: condition must be given"):
        step(h, x, y, operator)
    with pytest.raises(ValueError, match="DualStep: step must be a finite number > 0, got"):
        DualStep(0.0)


def test_the_dual_step_works_on_complex_measurements():
    operator = MaskedFourier(CartesianMask(2), 8, 8, complex_images=True)
    x = torch.randn(2, 1, 8, 8, dtype=torch.complex64)
    y = operator(x + 1)
    torch.testing.assert_close(DualStep(1.0)(torch.zeros_like(y), x, y, operator), (operator(x) - y) / 2)
