"""Solvers of convex problems agree with each other and with a program that knows nothing of proximal maps."""

import functools
import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse.linalg
import torch

from tests.pairs import FULL, in_turn
from unrolled.operators import BlockCompressedSensing, Dense, Identity, MaskedFourier, UniformMask, conjugate_gradients
from unrolled.penalties import L1, MCP, Filters, Grouped, LogSum, Lp
from unrolled.solvers import (
    admm,
    conjugate_gradient,
    extra_proximal_gradient,
    fista,
    image_irls,
    primal_dual,
    proximal_gradient,
    reweighted_l1,
)
from unrolled.solvers.priors import SparsePrior, TotalVariation
from unrolled.solvers.transforms import DCT, FiniteDifferences, Wavelet

SOLVERS = {
    "proximal_gradient": (proximal_gradient, {"iterations": 6000}),
    "fista": (fista, {"iterations": 3000}),
    "fista, no restart": (fista, {"iterations": 6000, "restart": False}),
    "extra, plain": (extra_proximal_gradient, {"iterations": 6000, "variant": "plain"}),
    "extra, accelerated": (extra_proximal_gradient, {"iterations": 1500}),
    "extra, fixed momentum": (extra_proximal_gradient, {"iterations": 3000, "momentum": 0.3}),
    "admm": (admm, {"iterations": 1500}),
    "primal_dual": (primal_dual, {"iterations": 6000}),
}
every_solver = pytest.mark.parametrize("name", SOLVERS)


def matrix(rows, columns, seed=1):
    """Numbers that single precision holds exactly."""
    drawn = torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return drawn.float().double()


def problem(kind):
    """Operator, prior and measurements, strongly convex or with a minimum that is unique all the same."""
    torch.manual_seed(0)
    if kind == "dense, l1 in DCT":
        y = torch.randn(1, 1, 8, dtype=torch.float64)
        return Dense(matrix(8, 12, seed=2), 3, 4).double(), SparsePrior(L1(), 0.5, DCT()), y
    if kind == "blocks, l1 in wavelets":
        operator = BlockCompressedSensing(ratio=0.7, block=4).double()
        return operator, SparsePrior(L1(), 0.2, Wavelet(2, 1)), operator(torch.rand(2, 1, 8, 8, dtype=torch.float64))
    if kind == "Fourier, complex, l1 in wavelets":
        operator = MaskedFourier(UniformMask(0.9), 8, 8, complex_images=True).double()
        x = torch.randn(1, 1, 8, 8, dtype=torch.complex128)
        return operator, SparsePrior(L1(), 0.2, Wavelet(1, 2), spare_coarsest=True), operator(x)
    assert kind == "dense, total variation"
    x = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    operator = Dense(matrix(240, 16), 4, 4).double()
    return operator, TotalVariation(1.0, iterations=30), operator(x)


PROBLEMS = [
    "dense, l1 in DCT",
    "blocks, l1 in wavelets",
    "Fourier, complex, l1 in wavelets",
    "dense, total variation",
]


@functools.cache
def minimum(kind):
    """What all solvers are to find, once for all of them."""
    operator, prior, y = problem(kind)
    return fista(y, operator, prior, iterations=20_000, tolerance=1e-13, record=False).image


@pytest.mark.parametrize(("name", "kind"), in_turn(list(SOLVERS), PROBLEMS, 2, whole=FULL))
def test_solvers_agree(name, kind):
    solver, options = SOLVERS[name]
    operator, prior, y = problem(kind)
    found = solver(y, operator, prior, tolerance=1e-9, record=False, **options).image
    expected = minimum(kind)
    assert objective(found, operator, y, prior) <= objective(expected, operator, y, prior) + 1e-6
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def objective(x, operator, y, prior):
    return ((operator(x) - y).abs().square().sum() / 2 + prior.value(x).sum()).item()


@every_solver
def test_reaches_the_minimum_that_a_general_program_finds(name):
    operator, prior, y = problem("dense, l1 in DCT")
    solver, options = SOLVERS[name]
    x = solver(y, operator, prior, tolerance=1e-11, record=False, **options).image
    # The same problem as a smooth one with bounds: coefficients c = p − q, p, q ≥ 0, in the transform.
    basis = DCT().adjoint(torch.eye(12, dtype=torch.float64).view(12, 1, 3, 4)).reshape(12, 12).numpy()
    a, b = operator.matrix.numpy() @ basis.T, y.numpy().ravel()

    def smooth(pq):
        residual = a @ (pq[:12] - pq[12:]) - b
        gradient = a.T @ residual
        return 0.5 * residual @ residual + 0.5 * pq.sum(), np.concatenate([gradient, -gradient]) + 0.5

    found = scipy.optimize.minimize(
        smooth,
        np.zeros(24),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * 24,
        options={"ftol": 1e-15, "gtol": 1e-12},
    )
    assert objective(x, operator, y, prior) == pytest.approx(found.fun, abs=1e-8)


def test_conjugate_gradient_is_least_squares():
    operator, _, y = problem("dense, l1 in DCT")
    a = operator.matrix.numpy()
    least_norm = scipy.sparse.linalg.lsqr(a, y.numpy().ravel(), atol=1e-14, btol=1e-14)[0]
    found = conjugate_gradient(y, operator, iterations=30, tolerance=1e-14)
    np.testing.assert_allclose(found.image.numpy().ravel(), least_norm, atol=1e-9)
    ridge = np.linalg.solve(a.T @ a + 0.3 * np.eye(12), a.T @ y.numpy().ravel())
    found = conjugate_gradient(y, operator, 0.3, iterations=30)
    np.testing.assert_allclose(found.image.numpy().ravel(), ridge, atol=1e-8)
    assert found.converged
    assert found.iterations <= 14  # as many as there are pixels, and rounding


@pytest.mark.parametrize("exponent", [-30, -20, 20, 30])
def test_conjugate_gradients_have_no_units(exponent):
    # By powers of two nothing is rounded, so that the images of single precision are the same to the last bit.
    numbers, unit = matrix(8, 12).float(), 2.0**exponent
    plain, other = Dense(numbers, 3, 4), Dense(unit * numbers, 3, 4)
    y = torch.rand(2, 1, 8)
    y[1] *= 1e-3
    expected, found = conjugate_gradient(y, plain), conjugate_gradient(y, other)
    assert torch.equal(unit * found.image, expected.image)
    assert (found.iterations, found.converged) == (expected.iterations, expected.converged)
    right = plain.adjoint(y)
    image = conjugate_gradients(plain.gram, right, iterations=30, tolerance=1e-6)
    assert torch.equal(unit**2 * conjugate_gradients(other.gram, right, iterations=30, tolerance=1e-6), image)
    assert torch.equal(conjugate_gradients(plain.gram, unit**3 * right, iterations=30, tolerance=1e-6), unit**3 * image)


def test_images_of_a_batch_are_solved_each_for_itself():
    operator, prior, y = problem("blocks, l1 in wavelets")
    for solver in (proximal_gradient, admm, primal_dual):
        together = solver(y, operator, prior, iterations=5).image
        alone = [solver(each[None], operator, prior, iterations=5).image for each in y]
        torch.testing.assert_close(together, torch.cat(alone))
    torch.testing.assert_close(
        conjugate_gradient(y, operator, iterations=5, tolerance=0.0).image[1:],
        conjugate_gradient(y[1:], operator, iterations=5, tolerance=0.0).image,
    )


@pytest.mark.parametrize("kind", PROBLEMS[:3])
def test_the_accelerated_extra_proximal_gradient_is_two_steps_of_simpler_methods(kind):
    operator, prior, y = problem(kind)
    without = extra_proximal_gradient(y, operator, prior, iterations=7, momentum=0.0).image
    torch.testing.assert_close(without, proximal_gradient(y, operator, prior, iterations=14).image)
    nesterov = extra_proximal_gradient(y, operator, prior, iterations=7).image
    torch.testing.assert_close(nesterov, fista(y, operator, prior, iterations=14).image)


def test_the_plain_extra_proximal_gradient_by_hand():
    operator, prior, y = problem("dense, l1 in DCT")
    a = operator.matrix
    x = operator.adjoint(y)
    half = prior.prox(x - 0.01 * (a.T @ (a @ x.view(12) - y.view(8))).view(x.shape), 0.01)
    expected = prior.prox(x - 0.02 * (a.T @ (a @ half.view(12) - y.view(8))).view(x.shape), 0.02)
    found = extra_proximal_gradient(y, operator, prior, iterations=1, variant="plain", alpha=0.01, beta=0.02)
    torch.testing.assert_close(found.image, expected)


def test_a_nonconvex_penalty_descends():
    operator, _, y = problem("dense, l1 in DCT")
    history = proximal_gradient(y, operator, SparsePrior(MCP(), 0.3, DCT()), iterations=30).history
    values = [each["objective"] for each in history]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(values))
    assert values[-1] < values[0]


@pytest.mark.parametrize("penalty", [LogSum(0.1), MCP(1.0, 2.0)])
@pytest.mark.parametrize("solver", [reweighted_l1, image_irls])
def test_reweighting_never_raises_the_objective(solver, penalty):
    operator, _, y = problem("dense, l1 in DCT")
    prior = SparsePrior(penalty, 0.2, DCT())
    values = [each["objective"] for each in solver(y, operator, prior, iterations=12).history]
    slack = 1e-9 if solver is reweighted_l1 else 1e-3  # IRLS minimises the penalty rounded off at 1e-4
    assert all(later <= earlier + slack for earlier, later in itertools.pairwise(values))
    assert values[-1] < values[0] - 0.01


def test_reweighted_l1_of_l1_is_l1_and_its_limit_is_stationary():
    operator, prior, y = problem("dense, l1 in DCT")
    found = reweighted_l1(y, operator, prior, iterations=3, inner=300).image
    torch.testing.assert_close(found, fista(y, operator, prior, iterations=1000, record=False).image, atol=1e-8, rtol=0)
    concave = SparsePrior(LogSum(0.5), 0.3, DCT())
    found = reweighted_l1(y, operator, concave, iterations=12, inner=100).image
    step = 1 / float(operator.norm()) ** 2
    gradient = operator.adjoint(operator(found) - y)
    torch.testing.assert_close(concave.prox(found - step * gradient, step), found, atol=1e-6, rtol=0)


def test_image_irls_of_l1_comes_near_the_minimum():
    operator, prior, y = problem("dense, l1 in DCT")
    found = image_irls(y, operator, prior, iterations=80, smallest=1e-6, inner=30).image
    torch.testing.assert_close(found, fista(y, operator, prior, iterations=1000, record=False).image, atol=1e-4, rtol=0)


def test_history_and_stopping():
    operator, prior, y = problem("blocks, l1 in wavelets")
    truth = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    solution = fista(y, operator, prior, iterations=500, tolerance=1e-4, truth=truth)
    assert solution.converged
    assert solution.iterations == len(solution.history) < 500
    last = solution.history[-1]
    x = solution.image
    residual = (operator(x) - y).flatten(1).norm(dim=1)
    assert last["residual"] == pytest.approx(residual.mean().item())
    assert last["objective"] == pytest.approx((residual**2 / 2 + prior.value(x)).mean().item())
    assert last["psnr"] == pytest.approx((-10 * (x - truth).square().flatten(1).mean(1).log10()).mean().item())
    assert solution.history[-2]["change"] > 1e-5
    assert not fista(y, operator, prior, iterations=3).converged
    assert fista(y, operator, prior, iterations=3, record=False).history == []


def test_inner_problems_that_are_not_solved_are_told_once():
    torch.manual_seed(0)
    # A product, of which no solver knows a closed form.
    operator = Dense(matrix(40, 64) * torch.linspace(0, 1, 64, dtype=torch.float64), 8, 8).double() @ Identity()
    y = operator(torch.rand(1, 1, 8, 8, dtype=torch.float64))
    for solver, prior, options, message in [
        (fista, TotalVariation(100.0, iterations=1), {}, "fista: after 1 iterations the objective of the prox"),
        (admm, SparsePrior(L1(), 0.1, DCT()), {"inner": 1, "weight": 1e-3}, "admm: after inner=1 steps of conjugate"),
        (image_irls, SparsePrior(L1(), 0.1, DCT()), {"inner": 1}, "image_irls: after inner=1 steps of conjugate"),
    ]:
        with pytest.warns(UserWarning, match=message) as caught:
            found = solver(y, operator, prior, iterations=6, tolerance=1e9, **options)
        assert len(caught) == 1
        assert not found.converged


def test_reweighting_that_gains_nothing_has_not_converged():
    operator, _, y = problem("dense, total variation")
    frame = SparsePrior(LogSum(0.1), 0.3, FiniteDifferences())
    near = reweighted_l1(y, operator, frame, iterations=5, inner=100).image
    # From near the limit, where a dual of 0 leads away at first.
    with pytest.warns(UserWarning, match="reweighted_l1: inner=1 iterations of the last weighted problem ended"):
        found = reweighted_l1(y, operator, frame, near, 5, 1e-6, inner=1)
    assert not found.converged


def test_inner_iterations_go_on_where_they_ended():
    # Ten for each proximal map, and yet the minimum.
    operator, _, y = problem("dense, total variation")
    exact = minimum("dense, total variation")
    found = proximal_gradient(y, operator, TotalVariation(1.0, iterations=10), iterations=60, record=False).image
    torch.testing.assert_close(found, exact, atol=1e-7, rtol=0)


def test_change_is_that_of_images_of_any_size():
    operator, _, y = problem("dense, l1 in DCT")
    operator = operator.float()
    for scale in (1e-30, 1.0, 1e25):
        prior = SparsePrior(L1(), 0.5 * scale, DCT())
        found = fista(scale * y.float(), operator, prior, iterations=4, tolerance=1e-3, record=False)
        assert not found.converged  # it has hardly begun


def test_image_irls_has_no_units():
    operator, prior, y = problem("dense, l1 in DCT")
    found = image_irls(y, operator, prior, iterations=20).image
    small = SparsePrior(L1(), prior.strength * 1e-6, DCT())
    torch.testing.assert_close(
        image_irls(1e-6 * y, operator, small, iterations=20).image * 1e6, found, atol=1e-6, rtol=0
    )


@every_solver
def test_takes_arrays_as_users_have_them(name):
    solver, _ = SOLVERS[name]
    operator, prior, y = problem("blocks, l1 in wavelets")
    y, image = (10 * y).round(), torch.ones(2, 1, 8, 8, dtype=torch.float64)
    expected = solver(y, operator, prior, image, 3, truth=image)
    for of in (torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.float, torch.Tensor.half, torch.Tensor.long):
        found = solver(of(y), operator, prior, of(image), np.int64(3), np.float32(0), truth=of(image))
        torch.testing.assert_close(found.image, expected.image)
        assert found.history[-1]["psnr"] == pytest.approx(expected.history[-1]["psnr"])
    single = BlockCompressedSensing(ratio=0.7, block=4)
    assert solver(y.numpy(), single, prior, iterations=1).image.dtype == torch.float32


def test_a_bar_is_shown_on_request(capsys):
    operator, prior, y = problem("dense, l1 in DCT")
    fista(y, operator, prior, iterations=3)
    assert capsys.readouterr().err == ""
    fista(y, operator, prior, iterations=3, progress=True)
    assert "fista" in capsys.readouterr().err


def test_bad_arguments_are_refused_by_name():
    operator, prior, y = problem("dense, l1 in DCT")
    for solver in (proximal_gradient, fista, extra_proximal_gradient, admm, primal_dual, reweighted_l1, image_irls):
        if solver in (reweighted_l1, image_irls):
            for other in (TotalVariation(1.0), SparsePrior(Grouped(L1(), Filters()), 1.0, DCT())):
                with pytest.raises(ValueError, match=f"{solver.__name__}: prior must be a SparsePrior with a penalty"):
                    solver(y, operator, other)
        name = solver.__name__
        with pytest.raises(ValueError, match=f"{name}: iterations must be a whole number >= 1, got 0"):
            solver(y, operator, prior, iterations=0)
        with pytest.raises(ValueError, match=f"{name}: tolerance must be a finite number >= 0, got -1"):
            solver(y, operator, prior, tolerance=-1.0)
        with pytest.raises(ValueError, match="y: must be finite"):
            solver(y.clone().fill_(torch.nan), operator, prior)
        with pytest.raises(ValueError, match="y: must be real, for Dense measures real numbers"):
            solver(y + 0j, operator, prior)
        for bad, message in (([[["a"]]], "an array of numbers"), (y[:0], "of at least one image"), (None, "an array")):
            with pytest.raises(ValueError, match=f"y: must be .*{message}"):
                solver(bad, operator, prior)
        for bad in (True, "3", 2.5):
            with pytest.raises(ValueError, match=f"{name}: iterations must be a whole number >= 1"):
                solver(y, operator, prior, iterations=bad)
        with pytest.raises(ValueError, match=f"{name}: tolerance must be a finite number >= 0, got True"):
            solver(y, operator, prior, tolerance=True)
        with pytest.raises(ValueError, match="start: must be real as the operator's images, got"):
            solver(y, operator, prior, torch.zeros(1, 1, 3, 4, dtype=torch.complex128))
        with pytest.raises(ValueError, match="truth must be finite"):
            solver(y, operator, prior, truth=torch.full((1, 1, 3, 4), torch.nan))
        with pytest.raises(ValueError, match="Dense: measurements must be"):
            solver(y[..., :7], operator, prior)
        with pytest.raises(ValueError, match=r"start: must be \(1, 1, 3, 4\)"):
            solver(y, operator, prior, torch.zeros(1, 1, 4, 3))
        with pytest.raises(ValueError, match=r"truth must be \(1, 1, 3, 4\)"):
            solver(y, operator, prior, truth=torch.zeros(1, 1, 4, 3))
    with pytest.raises(ValueError, match="step must be a finite number > 0"):
        fista(y, operator, prior, step=0.0)
    with pytest.raises(ValueError, match="fista: diverged in iteration"):
        fista(y, operator, SparsePrior(L1(), 1e-9, DCT()), step=10.0, iterations=2000)
    with pytest.raises(ValueError, match="variant must be"):
        extra_proximal_gradient(y, operator, prior, variant="other")
    for momentum in (-0.1, 1.0, torch.nan, True, "0.3", [0.3]):
        with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\)"):
            extra_proximal_gradient(y, operator, prior, momentum=momentum)
    with pytest.raises(ValueError, match="momentum belongs to the accelerated variant"):
        extra_proximal_gradient(y, operator, prior, variant="plain", momentum=0.1)
    with pytest.raises(ValueError, match="admm: weight must be"):
        admm(y, operator, prior, weight=0.0)
    with pytest.raises(ValueError, match="primal_dual: sigma must be"):
        primal_dual(y, operator, prior, sigma=-1.0)
    with pytest.raises(ValueError, match="ridge must be a finite number >= 0, got -1"):
        conjugate_gradient(y, operator, -1.0)
    with pytest.raises(ValueError, match="smallest must be a finite number > 0, got 0"):
        image_irls(y, operator, prior, smallest=0.0)
    with pytest.raises(ValueError, match=r"the slope of Lp.* must be finite at 0"):
        reweighted_l1(y, operator, SparsePrior(Lp(0.5), 0.1, DCT()), torch.zeros(1, 1, 3, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"must have a finite norm > 0, got 0\.0"):
        fista(y, Dense(torch.zeros(8, 12, dtype=torch.float64), 3, 4), prior)


def test_a_start_that_is_no_image_is_refused():
    operator, prior, y = problem("dense, l1 in DCT")
    for start, message in (
        (torch.ones(1, 1, 4, 3), r"start: must be \(1, 1, 3, 4\) for these measurements, got \(1, 1, 4, 3\)"),
        (torch.full((1, 1, 3, 4), torch.nan, dtype=torch.float64), "start: must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            fista(y, operator, prior, start=start)


@pytest.mark.parametrize(("solver", "name"), [(admm, "weight"), (primal_dual, "sigma")])
def test_steps_that_are_none_are_refused(solver, name):
    operator, prior, y = problem("dense, l1 in DCT")
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"{solver.__name__}: {name} must be a finite number > 0, got {bad}"):
            solver(y, operator, prior, **{name: bad})
