"""The laws of a penalty, each a function that raises an AssertionError where a penalty breaks it.

They know a penalty only from outside, and compare it with searches and differences rather than with other formulas.
"""

from dataclasses import fields, replace

import torch
from torch import Tensor

from unrolled.penalties import Penalty

DOUBLE = torch.float64


def minimum(function, low: Tensor, high: Tensor, points: int = 600) -> Tensor:
    """The least value that a dense search finds of an elementwise function of (rows, points) over [low, high] > 0.

    The grid is linear and logarithmic, both ends belong to it; the surroundings of the best points are searched again.
    """
    low, high = low[:, None], high[:, None]
    part = torch.linspace(0, 1, points, dtype=DOUBLE)
    grid = torch.cat([low + (high - low) * part, low * (high / low) ** part, high.expand(-1, 1)], 1).sort(1).values
    values = function(grid)
    best = values.min(1).values
    for _ in range(4):
        at = values.argmin(1, keepdim=True)
        left, right = grid.gather(1, (at - 1).clamp(min=0)), grid.gather(1, (at + 1).clamp(max=grid.shape[1] - 1))
        grid = left + (right - left) * torch.linspace(0, 1, 41, dtype=DOUBLE)
        values = function(grid)
        best = torch.minimum(best, values.min(1).values)
    return best


def numbers(penalty: Penalty) -> dict[str, Tensor]:
    """The parameters of a penalty, as tensors."""
    return {f.name: torch.as_tensor(getattr(penalty, f.name), dtype=DOUBLE) for f in fields(penalty)
            if "above" in f.metadata}  # fmt: skip


def _with(penalty: Penalty, parameters: dict[str, Tensor]) -> Penalty:
    return replace(penalty, **parameters) if parameters else penalty


def magnitudes(penalty: Penalty, step: float, count: int = 30) -> Tensor:
    """Magnitudes all over the place, and close to the threshold and to the furthest jump."""
    t = float(penalty.threshold(step))
    fine = torch.linspace(0, 15, 1000, dtype=DOUBLE)
    jump = fine[penalty.prox(fine, step).diff().argmax()]
    near = t * torch.tensor([0.5, 0.9, 1 - 1e-6, 1 + 1e-9, 1 + 1e-6, 1.001, 1.01, 1.1, 1.3, 2.0], dtype=DOUBLE)
    far = jump * torch.linspace(0.95, 1.05, 21, dtype=DOUBLE)
    return torch.cat([torch.linspace(0.01, 15, count, dtype=DOUBLE), near[near > 0], far[far > 0]])


def objective(penalty: Penalty, z: Tensor, v: Tensor, step: float) -> Tensor:
    return 0.5 * (z - v) ** 2 + step * penalty.value(z)


def prox_is_the_global_minimiser(penalty: Penalty, step: float) -> None:
    v = magnitudes(penalty, step)
    reached = objective(penalty, penalty.prox(v, step), v, step)
    elsewhere = minimum(lambda z: objective(penalty, z, v[:, None], step), 1e-9 * v, v)
    for candidate in (elsewhere, *(objective(penalty, z, v, step) for z in (0 * v, v, 1.1 * v, -0.1 * v))):
        # The search can only come as close as its grid, from above: the prox must be at least as good.
        assert (reached <= candidate + 1e-13 * (1 + v**2)).all()


def threshold_is_where_the_prox_leaves_zero(penalty: Penalty, step: float) -> None:
    t = penalty.threshold(step)
    assert penalty.prox(t, step) == 0
    if penalty.exact_zeros:
        assert t > 0
        assert penalty.prox(t * (1 - 1e-9), step) == 0
        assert penalty.prox(t * (1 + 1e-9), step) != 0
    else:
        assert t == 0
        small = torch.logspace(-300, 0, 50, dtype=DOUBLE)
        assert (penalty.prox(small, step) > 0).all()

    def as_good_as_0(z: torch.Tensor) -> torch.Tensor:
        """The magnitude at which z is; the least of all is where 0 is beaten."""
        return z / 2 + step * penalty.value(z) / z

    first = minimum(as_good_as_0, torch.tensor([1e-9]).double(), 3 * t[None] + 20)
    first = torch.minimum(first, as_good_as_0(torch.tensor([1e-15]).double()))
    torch.testing.assert_close(t, first[0], rtol=1e-8, atol=1e-7 if penalty.exact_zeros else 1e-6)


def prox_is_odd_monotone_and_shrinks(penalty: Penalty, step: float) -> None:
    v = magnitudes(penalty, step, 500).sort().values
    z = penalty.prox(v, step)
    assert torch.equal(z, -penalty.prox(-v, step))
    assert (z.diff() >= -1e-13 * v[1:]).all()
    assert ((z >= 0) & (z <= v)).all()


def prox_of_complex_numbers_keeps_the_phase(penalty: Penalty, step: float) -> None:
    v = magnitudes(penalty, step)
    phase = torch.polar(torch.ones_like(v), torch.linspace(0, 40, len(v), dtype=DOUBLE))
    away = (v / penalty.threshold(step) - 1).abs() > 1e-5  # there a rounding of the magnitude decides
    torch.testing.assert_close(penalty.prox(v * phase, step)[away], (penalty.prox(v, step) * phase)[away])
    assert penalty.prox(torch.zeros(1, dtype=torch.complex128), step) == 0


def derivative_is_that_of_the_value(penalty: Penalty) -> None:
    zero = torch.zeros(1, dtype=DOUBLE)
    assert penalty.value(zero) == 0
    w = torch.cat([torch.linspace(0.003, 20, 500), torch.logspace(-6, 4, 100)]).double().requires_grad_()
    value = penalty.value(w)
    assert torch.equal(value, penalty.value(-w))
    slope = torch.autograd.grad(value.sum(), w)[0] if value.requires_grad else torch.zeros_like(w)
    torch.testing.assert_close(penalty.derivative(w.detach()), slope)
    assert (slope >= 0).all()
    right = penalty.derivative(zero)
    close = penalty.derivative(zero + 1e-15)
    assert (right == close / 0 if close > 1e3 else (right - close).abs() <= 1e-9 * (1 + right)) or right.isinf()


def eta_is_the_quotient(penalty: Penalty) -> None:
    w = torch.cat([torch.linspace(-5, 20, 500), torch.logspace(-6, 4, 100)]).double()
    w = w[w != 0]
    slope, eta = penalty.derivative(w), penalty.eta(w)
    flat = slope < 1e-300  # as good as 0: the quotient may overflow
    assert (eta[flat] > 1e290).all()
    assert eta[slope == 0].isinf().all()
    torch.testing.assert_close((eta * slope)[~flat], w.abs()[~flat])
    at_zero, close = penalty.eta(torch.zeros(2, dtype=DOUBLE)), penalty.eta(torch.full((2,), 1e-12, dtype=DOUBLE))
    assert close.isinf().all() or torch.allclose(at_zero, close, rtol=1e-9, atol=1e-3)
    assert at_zero.isfinite().all()


def dual_is_the_supremum_of_its_definition(penalty: Penalty) -> None:
    eta = torch.cat([torch.logspace(-2, 1.7, 25), torch.tensor([0.999, 1.001])]).double()
    dual = penalty.dual(eta)
    furthest = torch.full_like(eta, 1e4)
    least = minimum(lambda w: w**2 / eta[:, None] - 2 * penalty.value(w), 0 * eta + 1e-12, furthest)
    supremum = (-least).clamp(min=0)
    finite = dual.isfinite()
    assert not dual.isnan().any()
    torch.testing.assert_close(dual[finite], supremum[finite], rtol=1e-6, atol=1e-8)
    assert (supremum[~finite] > 1e3).all()
    torch.testing.assert_close(penalty.dual(torch.zeros(1, dtype=DOUBLE)), torch.zeros(1, dtype=DOUBLE))


def value_is_the_minimum_over_eta_reached_at_eta(penalty: Penalty) -> None:
    w = torch.logspace(-2, 1.3, 20, dtype=DOUBLE)
    least = minimum(lambda eta: 0.5 * (w[:, None] ** 2 / eta + penalty.dual(eta)), 0 * w + 1e-7, 0 * w + 1e12)
    torch.testing.assert_close(penalty.value(w), least, rtol=1e-6, atol=1e-8)
    eta = penalty.eta(w)
    torch.testing.assert_close(penalty.value(w), 0.5 * (w**2 / eta + penalty.dual(eta)))


def dropout_is_the_reweighted_penalty(penalty: Penalty, strength: float) -> None:
    # Masks of mean α scaled by 1/α add ½ w² Var/E² per unit column: its gradient at frozen α is strength·ρ'(w).
    w = torch.linspace(0.01, 20, 400, dtype=DOUBLE)
    alpha = penalty.keep_probability(w, strength)
    assert ((alpha >= 0) & (alpha <= 1)).all()
    torch.testing.assert_close(w * (1 - alpha) / alpha, strength * penalty.derivative(w), rtol=1e-9, atol=1e-9)


def dropout_is_monotone(penalty: Penalty) -> bool:
    """Whether larger numbers are kept more often."""
    alpha = penalty.keep_probability(torch.logspace(-3, 2, 1000, dtype=DOUBLE), 0.7)
    return bool((alpha.diff() >= -1e-12).all())


def value_is_concave_in_the_square(penalty: Penalty) -> bool:
    square = torch.logspace(-6, 4, 1000, dtype=DOUBLE)
    value = penalty.value(square.sqrt())
    chord, rounding = value.diff() / square.diff(), 1e-14 * value[1:] / square.diff()
    return bool((chord.diff() <= 1e-9 * chord[1:] + rounding[:-1]).all())


def keeping_more_of_the_larger_is_concavity_in_the_square(penalty: Penalty) -> None:
    assert dropout_is_monotone(penalty)
    assert value_is_concave_in_the_square(penalty)


def masks_add_the_predicted_penalty(penalty: Penalty, draws: int = 60_000) -> None:
    """Bernoulli masks scaled by 1/α and Gaussian noise of variance (1 − α)/α, on a least-squares problem."""
    strength, generator = 0.3, torch.Generator().manual_seed(0)
    w = torch.tensor([0.05, 0.4, 1.3, 3.0], dtype=DOUBLE)
    columns = torch.linalg.qr(torch.randn(6, 4, generator=generator, dtype=DOUBLE))[0]
    y = torch.randn(6, generator=generator, dtype=DOUBLE)
    alpha = penalty.keep_probability(w, strength)
    bernoulli = (torch.rand(draws, 4, generator=generator, dtype=DOUBLE) < alpha) / alpha
    gaussian = 1 + ((1 - alpha) / alpha).sqrt() * torch.randn(draws, 4, generator=generator, dtype=DOUBLE)
    # At frozen noise the penalty is strength·w²/η: by the quotient and not by `eta`, so that both are under test.
    predicted = (columns @ w - y).square().sum() + strength * (w * penalty.derivative(w)).sum()
    for masks in (bernoulli, gaussian):
        losses = ((masks * w) @ columns.T - y).square().sum(1)
        assert abs(losses.mean() - predicted) <= 4 * losses.std() / draws**0.5 + 1e-12


def gradients_of_prox_are_its_differences(penalty: Penalty, step: float, every: int = 1) -> None:
    """In v, the step and every parameter, away from kinks and jumps; at every so many magnitudes only."""
    v = magnitudes(penalty, step, 40)[::every]
    v = torch.cat([v, -v[::2]])
    inputs = {"v": v, "step": torch.full_like(v, step)}
    inputs |= {name: number.expand_as(v) for name, number in numbers(penalty).items()}

    def prox(v, step, **parameters):
        return _with(penalty, parameters).prox(v, step)

    leaves = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    z = prox(**leaves)
    gradients = dict(zip(leaves, torch.autograd.grad(z.sum(), list(leaves.values()), allow_unused=True), strict=True))
    for name, gradient in gradients.items():
        if name == "step" and not penalty.prox_has_step_gradient:
            assert gradient is None or not gradient.any()
        _compare(prox, inputs, name, gradient, z.detach())


def gradients_of_threshold_are_its_differences(penalty: Penalty, step: float) -> None:
    inputs = {"step": torch.tensor([0.8 * step, step, 1.2 * step], dtype=DOUBLE)}
    inputs |= {name: number.expand(3) for name, number in numbers(penalty).items()}

    def threshold(step, **parameters):
        return _with(penalty, parameters).threshold(step)

    leaves = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    t = threshold(**leaves)
    for name, gradient in zip(
        leaves, torch.autograd.grad(t.sum(), list(leaves.values()), allow_unused=True), strict=True
    ):
        _compare(threshold, inputs, name, gradient, t.detach())


def gradients_of_the_other_face_are_its_differences(penalty: Penalty, every: int = 1) -> None:
    """Of value, slope, η̂ and f, in their argument and every parameter; at every so many magnitudes only."""
    w = torch.linspace(0.05, 6, 40, dtype=DOUBLE)[::every]
    for method in ("value", "derivative", "eta", "dual"):
        inputs = {"w": w} | {name: number.expand_as(w) for name, number in numbers(penalty).items()}

        def face(w, method=method, **parameters):
            result = getattr(_with(penalty, parameters), method)(w)
            return torch.where(result.isinf(), 0.0, result)

        leaves = {name: value.clone().requires_grad_() for name, value in inputs.items()}
        result = face(**leaves)
        gradients = [None] * len(leaves)
        if result.requires_grad:
            gradients = torch.autograd.grad(result.sum(), list(leaves.values()), allow_unused=True)
        for name, gradient in zip(leaves, gradients, strict=True):
            _compare(face, inputs, name, gradient, result.detach())


def _compare(function, inputs: dict[str, Tensor], name: str, gradient: Tensor | None, here: Tensor) -> None:
    """A gradient of an elementwise function, of value `here`, against differences that agree from both sides."""
    gradient = torch.zeros_like(inputs[name]) if gradient is None else gradient
    h = 1e-5 * inputs[name].abs().clamp(max=1)
    after = (function(**{**inputs, name: inputs[name] + h}) - here) / h
    before = (here - function(**{**inputs, name: inputs[name] - h})) / h
    smooth = (after - before).abs() < 1e-5 + 1e-3 * after.abs()
    assert smooth.float().mean() > 0.6 or len(smooth) < 10, name
    torch.testing.assert_close(gradient[smooth], ((after + before) / 2)[smooth], rtol=1e-3, atol=1e-5, msg=name)


def gradients_are_finite_everywhere(penalty: Penalty, step: float, dtype: torch.dtype) -> None:
    t = float(penalty.threshold(step))
    small = torch.finfo(dtype).tiny / 8
    v = torch.tensor([0.0, -0.0, small, 1e-12, t * (1 - 1e-6), t, t * (1 + 1e-6), 1.0, 7.0, 1e4, 1e30, torch.inf])
    v = torch.cat([v, -v]).to(dtype)
    for numbers_of_a_kind in (v, torch.complex(v, 0 * v.nan_to_num(posinf=0, neginf=0))):
        leaves = [numbers_of_a_kind.clone().requires_grad_(), torch.tensor(step, dtype=dtype, requires_grad=True)]
        parameters = {name: number.to(dtype).requires_grad_() for name, number in numbers(penalty).items()}
        z = _with(penalty, parameters).prox(*leaves)
        loss = torch.view_as_real(z).sum() if z.is_complex() else z.sum()
        for gradient in torch.autograd.grad(loss, [*leaves, *parameters.values()], allow_unused=True):
            assert gradient is None or torch.isfinite(gradient.abs()).all()


def extremes_are_right(penalty: Penalty, step: float, dtype: torch.dtype) -> None:
    """Huge, denormal, infinite numbers and NaN, and tiny steps."""
    tiny = torch.finfo(dtype).tiny
    v = torch.tensor([1e30, torch.inf], dtype=dtype)
    slope = penalty.derivative(v[:1].double()) if penalty.derivative(v[:1].double()).isfinite() else 0.0
    grows = slope > 1e10  # of a square only the limit of the quotient can be compared
    z = penalty.prox(v, step)
    assert z[1] == torch.inf
    assert torch.equal(penalty.prox(-v, step), -z)
    if not grows:
        torch.testing.assert_close(z[:1], v[:1])
    assert penalty.prox(v[:1] * torch.nan, step).isnan()
    assert penalty.prox(torch.complex(v, 0 * v), step)[1].real == torch.inf
    denormal = torch.tensor([tiny / 8, tiny / 64], dtype=dtype)
    w = torch.linspace(0.1, 5, 20, dtype=dtype)
    torch.testing.assert_close(penalty.prox(w, tiny / 8), w)  # nothing is shrunk by so small a step
    shrunk = penalty.prox(denormal, step)
    if penalty.exact_zeros:
        assert not shrunk.any()
    else:
        factor = step * penalty.derivative(torch.full((1,), 1e-9, dtype=DOUBLE)) / 1e-9
        torch.testing.assert_close(shrunk.double(), denormal.double() / (1 + factor), rtol=1e-2, atol=2e-45)
    assert (penalty.prox(denormal, tiny / 64) <= denormal).all()


def digits_are_kept(penalty: Penalty, step: float) -> None:
    """In 32 and 16 bits the objective is as low as the type of the result allows."""
    for dtype, digits in ((torch.float32, 1e-6), (torch.bfloat16, 2e-2)):
        v = magnitudes(penalty, step).to(dtype)
        z = penalty.prox(v, step)
        assert z.dtype == dtype
        v = v.double()
        gap = objective(penalty, z.double(), v, step) - objective(penalty, penalty.prox(v, step), v, step)
        # At a jump two points are as good: what the step and v lose by rounding moves the objective to first order.
        assert (gap <= digits * (v**2 / 2 + step * penalty.value(v))).all()
        # Away from jumps the point itself is right.
        nearby = penalty.prox(v * (1 + 1e-3), step) - penalty.prox(v * (1 - 1e-3), step)
        smooth = nearby <= 0.02 * v
        assert ((z.double() - penalty.prox(v, step)).abs()[smooth] <= 10 * digits * v[smooth]).all()
