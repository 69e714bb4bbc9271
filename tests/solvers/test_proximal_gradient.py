import itertools

import numpy as np
import pytest
import scipy.fft
import scipy.optimize
import torch

from unrolled.operators import Dense
from unrolled.penalties import L1, MCP
from unrolled.priors import SparsePrior
from unrolled.solvers import proximal_gradient
from unrolled.transforms import DCT


@pytest.mark.parametrize("size", [(8, 8), (5, 12), (1, 7)])
def test_dct_is_that_of_scipy_and_orthonormal(size):
    x = torch.randn(2, 1, *size, dtype=torch.float64)
    transform = DCT()
    expected = scipy.fft.dctn(x.numpy(), axes=(-2, -1), norm="ortho")
    np.testing.assert_allclose(transform(x).numpy(), expected, atol=1e-12)
    torch.testing.assert_close(transform.adjoint(transform(x)), x, atol=1e-12, rtol=0)


def objective(x, operator, y, prior):
    return 0.5 * (operator(x) - y).square().sum() + prior.value(x).sum()


@pytest.mark.parametrize("accelerated", [True, False])
def test_reaches_the_minimum_that_another_solver_finds(accelerated):
    torch.manual_seed(0)
    matrix = torch.randn(8, 12, dtype=torch.float64)
    operator, prior = Dense(matrix, 3, 4), SparsePrior(L1(), 0.5, DCT())
    y = torch.randn(1, 1, 8, dtype=torch.float64)
    x = proximal_gradient(y, operator, prior, iterations=3000, accelerated=accelerated)
    # The same problem as a smooth one with bounds: coefficients c = p − q, p, q ≥ 0, in the transform.
    basis = DCT().adjoint(torch.eye(12, dtype=torch.float64).view(12, 1, 3, 4)).reshape(12, 12).numpy()
    a, b = matrix.numpy() @ basis.T, y.numpy().ravel()

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
    assert objective(x, operator, y, prior).item() == pytest.approx(found.fun, abs=1e-8)


def test_a_nonconvex_penalty_descends():
    torch.manual_seed(0)
    operator, prior = Dense(torch.randn(8, 12, dtype=torch.float64), 3, 4), SparsePrior(MCP(), 0.3, DCT())
    y = torch.randn(1, 1, 8, dtype=torch.float64)
    values = [
        objective(proximal_gradient(y, operator, prior, iterations=n, accelerated=False), operator, y, prior).item()
        for n in range(1, 30)
    ]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(values))


def test_bad_arguments_are_refused_by_name():
    operator, prior = Dense(torch.ones(2, 4), 2, 2), SparsePrior(L1(), 0.1, DCT())
    with pytest.raises(ValueError, match="iterations must be"):
        proximal_gradient(torch.ones(1, 1, 2), operator, prior, iterations=0)
    with pytest.raises(ValueError, match="strength must be"):
        SparsePrior(L1(), -1.0, DCT())
