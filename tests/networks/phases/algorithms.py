"""Every phase of an algorithm with what it minimises, for the laws of phases: a class that is not named here fails."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from unrolled.networks import (
    AcceleratedProximalGradientPhase,
    ADMMPhase,
    AlgorithmPhase,
    DataConsistencyPhase,
    DualStep,
    ExtraProximalGradientPhase,
    GradientStep,
    HalfQuadraticPhase,
    PrimalDualPhase,
    Prior,
    ProximalGradientPhase,
    ProximalStep,
    RelaxedADMMPhase,
    VariationalPhase,
)
from unrolled.networks.presets.fista_net import FISTANetPhase, PhaseNumbers
from unrolled.operators import Dense


class Case(NamedTuple):
    """How a phase is made, and when it minimises ½‖Ax − y‖² + g(x).

    make : (prior, ranges) ↦ phase
    prior : phase ↦ c > 0, where the prior is to be the proximal map of c·g
    coupling : phase ↦ λ, of an algorithm that minimises ½‖Ax − y‖² + λ/2·‖x − z‖² + g(z) over x and z; None of others
    ends_with : which of x and z is the image
    tells : (phase, condition) ↦ what the prior is told
    """

    make: Callable[..., AlgorithmPhase]
    prior: Callable[[AlgorithmPhase], Tensor]
    coupling: Callable[[AlgorithmPhase], Tensor] | None = None
    ends_with: str = "x"
    tells: Callable[[AlgorithmPhase, Tensor], Tensor | None] = lambda phase, condition: condition


def weight(phase):
    return phase.data_step.weight()


def inverse(phase):
    return 1 / weight(phase)


CASES: dict[str, Case] = {
    "ADMMPhase": Case(lambda prior, ranges=(): ADMMPhase(prior, ProximalStep(0.4, ranges=ranges)), inverse),
    "AcceleratedProximalGradientPhase": Case(
        lambda prior, ranges=(): AcceleratedProximalGradientPhase(prior, GradientStep(0.8, ranges)), weight
    ),
    "DataConsistencyPhase": Case(
        lambda prior, ranges=(): DataConsistencyPhase(prior, ProximalStep(0.4, ranges=ranges)), inverse, weight
    ),
    "ExtraProximalGradientPhase": Case(
        lambda prior, ranges=(): ExtraProximalGradientPhase(prior, 0.8, 0.8, ranges),
        lambda phase: phase.steps(None)[0],
    ),
    "FISTANetPhase": Case(
        lambda prior, ranges=(): FISTANetPhase(prior, PhaseNumbers(0.9, 0.1, ranges), 3),
        lambda phase: phase.numbers.step(3),
        tells=lambda phase, condition: phase.numbers.step_and_threshold(3, condition, len(condition))[1],
    ),
    "HalfQuadraticPhase": Case(
        lambda prior, ranges=(): HalfQuadraticPhase(prior, ProximalStep(0.4, ranges=ranges)), inverse, weight, "z"
    ),
    "HalfQuadraticPhase, the data step last": Case(
        lambda prior, ranges=(): HalfQuadraticPhase(prior, ProximalStep(0.4, ranges=ranges), ends_with="data step"),
        inverse,
        weight,
    ),
    "PrimalDualPhase": Case(
        lambda prior, ranges=(): PrimalDualPhase(prior, DualStep(0.9, ranges), 0.9, ranges=ranges),
        lambda phase: phase.step(None, 1)[0, 0],
    ),
    "ProximalGradientPhase": Case(
        lambda prior, ranges=(): ProximalGradientPhase(prior, GradientStep(0.8, ranges)), weight
    ),
    "RelaxedADMMPhase": Case(
        lambda prior, ranges=(): RelaxedADMMPhase(prior, ProximalStep(0.4, ranges=ranges), relaxation=0.8), inverse
    ),
    "VariationalPhase": Case(  # whose regulariser is that of a proximal map: gradient descent on half-quadratics
        lambda prior, ranges=(): VariationalPhase(prior, GradientStep(0.8, ranges)), weight, inverse
    ),
}
"""By the name of the class, and what else tells cases apart."""


ELSEWHERE = {"SoftConsistencyPhase": "it minimises over k-space and not over images, see test_end_to_end_varnet.py"}
"""Phases that minimise something else, and where they are tested."""


class ProximalMap(Prior):
    """The exact proximal map of c·g, of the ridge g(x) = t/2·‖x‖² or of g(x) = t‖x‖₁."""

    reach = 0

    def __init__(self, of: str, t: float):
        super().__init__()
        self.of, self.t, self.c = of, t, 1.0

    def forward(self, z, condition=None):
        if self.of == "ridge":
            return z / (1 + self.c * self.t)
        return z.sign() * (z.abs() - self.c * self.t).clamp(min=0)


def problem() -> tuple[Tensor, Dense, Tensor]:
    """A matrix of full rank and of the norm 1, as an operator too, and measurements, (2, 1, 40)."""
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(40, 12, generator=random, dtype=torch.float64)
    matrix /= torch.linalg.matrix_norm(matrix, 2)
    operator = Dense(matrix, 3, 4).double()
    return operator.matrix, operator, torch.randn(2, 1, 40, generator=random, dtype=torch.float64)


def minimiser(matrix: Tensor, y: Tensor, g: ProximalMap, coupling: float | None, ends_with: str) -> Tensor:
    """What is to be found, (images, 12), by dense algebra: the ridge by least squares, ‖x‖₁ by proximal gradients."""
    n, right = matrix.shape[1], y.flatten(1)
    eye, zero = torch.eye(n, dtype=matrix.dtype), matrix.new_zeros
    if coupling is None:
        rows = [matrix]
        size = n
    else:  # over x and z together
        root = coupling**0.5
        rows = [torch.cat([matrix, zero(len(matrix), n)], 1), torch.cat([root * eye, -root * eye], 1)]
        size = 2 * n
    penalised = torch.cat([zero(n, size - n), eye], 1)
    smooth = torch.cat(rows)
    target = torch.cat([right, zero(len(right), len(smooth) - right.shape[1])], 1).T
    if g.of == "ridge":
        stacked = torch.cat([smooth, g.t**0.5 * penalised])
        found = torch.linalg.lstsq(stacked, torch.cat([target, zero(n, len(right))])).solution
    else:
        step = 1 / torch.linalg.matrix_norm(smooth, 2) ** 2
        found, places = zero(size, len(right)), penalised.any(0)
        for _ in range(2500):
            found = found - step * smooth.T @ (smooth @ found - target)
            shrunk = found.sign() * (found.abs() - step * g.t).clamp(min=0)
            found = torch.where(places[:, None], shrunk, found)
    return (found[:n] if ends_with == "x" else found[-n:]).T
