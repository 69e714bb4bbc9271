"""Iterations that find sparse codes of measurements in a dictionary: learned ISTA, and that with analytic weights."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.code_shrinkage import CodeShrinkage
from unrolled.networks.conditioning import Factors, Interval, check_told
from unrolled.networks.phases.phase import Phase, State
from unrolled.networks.positive_numbers import positive
from unrolled.operators import LinearOperator
from unrolled.system.devices import full_precision


class LISTAPhase(Phase):
    """z⁺ = S(W₁y + W₂z), with learned matrices W₁ and W₂ and a learned shrinkage S.

    Parameters
    ----------
    rows, columns : int
        of the dictionary.
    shrink : CodeShrinkage
    complex_codes : bool
    ranges : sequence of (low, high), 0 <= low < high
        of the numbers of the condition, which scale the thresholds.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        shrink: CodeShrinkage,
        complex_codes: bool = False,
        ranges: Sequence[Interval] = (),
    ):
        super().__init__()
        kinds = (2,) if complex_codes else ()
        self.of_measurements = nn.Parameter(torch.zeros(columns, rows, *kinds))
        self.of_code = nn.Parameter(torch.zeros(columns, columns, *kinds))
        self.shrink = shrink
        self.factors = Factors(ranges, 1) if ranges else None

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        (z,) = state
        v = multiplied(self.of_measurements, y) + multiplied(self.of_code, z.flatten(2))
        threshold = None
        if self.factors is not None:
            check_told("LISTA", condition, len(self.factors.ranges))
            threshold = self.factors(condition)[:, 0]
        return (self.shrink(v, threshold).view_as(z),)

    @torch.no_grad()
    def take(self, dictionary: Tensor) -> None:
        """Become a step of ISTA: W₁ = Dᴴ/L and W₂ = 1 − DᴴD/L with L = ‖D‖²."""
        step = torch.linalg.matrix_norm(dictionary, 2) ** -2
        one = torch.eye(dictionary.shape[1], dtype=dictionary.dtype, device=dictionary.device)
        for weight, values in (
            (self.of_measurements, step * dictionary.mH),
            (self.of_code, one - step * dictionary.mH @ dictionary),
        ):
            weight.copy_(as_real(values))


class AnalyticMatrix(nn.Module):
    """A matrix W, the same in all phases, that is not learned.

    Parameters
    ----------
    rows, columns : int
    complex_codes : bool
    """

    matrix: Tensor

    def __init__(self, rows: int, columns: int, complex_codes: bool = False):
        super().__init__()
        self.register_buffer("matrix", torch.zeros(rows, columns, *((2,) if complex_codes else ())))

    def adjoint(self, r: Tensor) -> Tensor:
        """Wᴴr, (batch, channel, columns), of r, (batch, channel, rows): in full precision, as operators are."""
        with full_precision(r):
            return r @ (self.matrix if self.matrix.ndim == 2 else torch.view_as_complex(self.matrix).conj())


class ALISTAPhase(Phase):
    """z⁺ = S(z − γWᴴ(Dz − y)), with a learned step γ and a learned shrinkage S.

    Parameters
    ----------
    weights : AnalyticMatrix
        W, which belongs to the network.
    shrink : CodeShrinkage
    ranges : sequence of (low, high), 0 <= low < high
        of the numbers of the condition, which scale step and thresholds.
    """

    def __init__(self, weights: AnalyticMatrix, shrink: CodeShrinkage, ranges: Sequence[Interval] = ()):
        super().__init__()
        self.weights = (weights,)  # no submodule: it is one for all phases, saved once
        self.raw_step = positive(1.0)
        self.shrink = shrink
        self.factors = Factors(ranges, 2) if ranges else None

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        (z,) = state
        step, threshold = F.softplus(self.raw_step), None
        if self.factors is not None:
            check_told("ALISTA", condition, len(self.factors.ranges))
            of_step, threshold = self.factors(condition).unbind(1)
            step = step * of_step.view(-1, 1, 1)
        return (self.shrink(z.flatten(2) - step * self.weights[0].adjoint(operator(z) - y), threshold).view_as(z),)


def multiplied(weight: Tensor, v: Tensor) -> Tensor:
    """A learned matrix times vectors, in the type of these.

    Parameters
    ----------
    weight : Tensor, (rows, columns), or (rows, columns, 2) of complex numbers
    v : Tensor, (…, columns), complex in the second case

    Returns
    -------
    Tensor, (…, rows)
    """
    if weight.ndim == 2:
        return F.linear(v, weight).to(v.dtype)
    real, imaginary = weight.unbind(-1)
    both = torch.cat([torch.cat([real, -imaginary], 1), torch.cat([imaginary, real], 1)])
    found = F.linear(torch.cat([v.real, v.imag], -1), both).to(v.real.dtype)
    return torch.complex(*found.chunk(2, -1))


def as_real(matrix: Tensor) -> Tensor:
    """A complex matrix as pairs of real numbers, as learned matrices are kept; a real one as it is."""
    return torch.view_as_real(matrix.resolve_conj()) if matrix.is_complex() else matrix
