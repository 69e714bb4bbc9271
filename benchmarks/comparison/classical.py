"""Classical methods, with their strengths tuned on held-out training images."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.compared import TITLES, tuned
from benchmarks.comparison.cases import Case
from benchmarks.comparison.problems import Problem
from unrolled.solvers.methods import STRENGTHS, classical

START = "estimate"
METHODS = (START, "wavelet-l1", "tv")
TUNED_ON = 3
"""Held-out images."""


def methods_of(problem: Problem, method: str, iterations: int) -> tuple[Callable[[Case], Tensor], float | None]:
    """A classical method by its name, and its strength, if it has one."""

    def by_strength(strength: float | None) -> Callable[[Case], Tensor]:
        return lambda case: classical(method, case.y, case.operator, strength, iterations, scale=1.0)

    if method not in STRENGTHS:
        return by_strength(None), None
    held_out = problem.held_out()[:TUNED_ON]

    @torch.no_grad()
    def score(strength: float) -> float:
        reconstruct = by_strength(strength)
        return sum(case.figures(reconstruct(case))["psnr"] for case in held_out) / len(held_out)

    strength = tuned(score, STRENGTHS[method])
    return by_strength(strength), strength


def called(method: str) -> str:
    """How a page calls it."""
    return TITLES[method]
