"""How every solver of images runs: one loop that records, stops and shows progress around an algorithm's iterates."""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from unrolled.operators import LinearOperator
from unrolled.operators.units import largest, ones_for_zeros, over
from unrolled.solvers.dual import gap_message
from unrolled.solvers.given import image_like, measured, real_number
from unrolled.solvers.priors import FEW, Prior
from unrolled.system.scalars import whole_number

ENOUGH = 1e-3
"""Of the last inner problem of a run: the duality gap, relative to its objective, or the residual, relative to the
right side, up to which it counts as solved."""


@dataclass
class Solution:
    """What a solver found.

    Attributes
    ----------
    image : Tensor, (batch, channel, height, width)
    iterations : int
    converged : bool
        whether the image stopped changing, by the tolerance, before the iterations ran out, and what was solved by
        inner iterations was solved; a warning tells if it was not.
    history : list of dict
        for every iteration, means over the batch: "objective" ½‖Ax − y‖² + g(x) (if there is a prior), "residual"
        ‖Ax − y‖, "change" ‖x − x⁻‖/‖x‖, and "psnr" in dB, of a peak of 1, if the truth is known.
    """

    image: Tensor
    iterations: int = 0
    converged: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Problem:
    """½‖Ax − y‖² + g(x), checked, with a start.

    Parameters
    ----------
    y : Tensor or array, measurements of a batch of images
        taken in the operator's precision.
    operator : LinearOperator
        A.
    prior : Prior or None
        g; None: 0.
    start : Tensor or array, (batch, channel, height, width), or None
        where to start; None: at `operator.estimate(y)`.
    from_zero : bool
        without a start, begin at 0 instead.

    Attributes
    ----------
    unsolved : callable or None
        () ↦ why the inner problem of the last iteration counts as not solved, and what helps, or None; set by
        algorithms that have inner iterations.
    """

    y: Tensor
    operator: LinearOperator
    prior: Prior | None
    start: Tensor | None
    from_zero: bool = False
    unsolved: Callable[[], str | None] | None = None
    _dual: Tensor | None = None
    _gap: float = 0.0

    def __post_init__(self) -> None:
        self.y = measured(self.y, self.operator)
        try:
            image = self.operator.adjoint(self.y)  # refuses measurements of a wrong shape
            shape = self.operator.measurement_shape(image.shape[1:])
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, IndexError, TypeError) as error:
            name = type(self.operator).__name__
            raise ValueError(f"y: {name} measures nothing of the shape {tuple(self.y.shape)}: {error}") from error
        if tuple(self.y.shape[1:]) != tuple(shape):
            raise ValueError(f"y: must be (batch, {', '.join(map(str, shape))}), got {tuple(self.y.shape)}")
        if self.start is not None:
            self.start = image_like("start:", self.start, image)
        else:
            self.start = torch.zeros_like(image) if self.from_zero else self.operator.estimate(self.y)

    @property
    def first(self) -> Tensor:
        """Where to start."""
        assert self.start is not None
        return self.start

    def step(self) -> float:
        """1/‖A‖², the classical step: ∇f is Lipschitz with the constant ‖A‖²."""
        norm = float(self.operator.norm())
        if not (math.isfinite(norm) and norm > 0):
            raise ValueError(f"operator: must have a finite norm > 0, got {norm!r}")
        return 1 / norm**2

    def gradient(self, x: Tensor) -> Tensor:
        """∇f(x) = Aᴴ(Ax − y)."""
        return self.operator.adjoint(self.operator(x) - self.y)

    def prox(self, v: Tensor, step: float) -> Tensor:
        """argmin_z ½‖z − v‖² + step·g(z)."""
        if self.prior is None:
            return v
        found = self.prior.approximate_prox(v, step, self._dual)
        self._dual, self._gap = found.dual, found.gap
        return found.image

    def shortfall(self) -> str | None:
        """Why what was found is not to be trusted: an inner problem of the last iteration was not solved."""
        if self.prior is not None and self._gap > max(self.prior.tolerance, ENOUGH):
            return gap_message(self._gap, min(self.prior.iterations, FEW), max(self.prior.tolerance, ENOUGH))
        return None if self.unsolved is None else self.unsolved()

    def figures(self, x: Tensor, truth: Tensor | None) -> dict[str, float]:
        """Objective, residual and PSNR of an image, means over the batch."""
        residual = (self.operator(x) - self.y).flatten(1).norm(dim=1)
        found = {"residual": float(residual.mean())}
        if self.prior is not None:
            found = {"objective": float((residual.square() / 2 + self.prior.value(x)).mean()), **found}
        if truth is not None:
            error = (x - truth).abs().square().flatten(1).mean(1)
            found["psnr"] = float((-10 * error.log10()).mean())
        return found


def solve(
    name: str,
    iterates: Iterator[Tensor],
    problem: Problem,
    iterations: int,
    tolerance: float,
    truth: Tensor | None = None,
    record: bool = True,
    progress: bool = False,
) -> Solution:
    """Run an algorithm to its end.

    Parameters
    ----------
    name : str
        of the algorithm, for messages.
    iterates : iterator of Tensor
        the images, one an iteration.
    problem : Problem
    iterations : int >= 1
        at most so many.
    tolerance : float >= 0
        the end is where ‖x − x⁻‖ <= tolerance·‖x‖ in two iterations running, for every image of the batch; 0: never.
    truth : Tensor, optional
        of the same shape as the image, for the PSNR of the history.
    record : bool
        keep the history, which applies A and g once more in every iteration.
    progress : bool
        show a bar.

    Raises
    ------
    ValueError
        for a wrong argument, or if the iteration diverges.
    """
    iterations, tolerance = (
        whole_number(f"{name}: iterations", iterations),
        real_number(f"{name}: tolerance", tolerance),
    )
    truth = None if truth is None else image_like(f"{name}: truth", truth, problem.first)
    solution, still = Solution(problem.first), False
    with tqdm(total=iterations, disable=not progress, desc=name, leave=False) as bar:
        for x in iterates:
            change = _change(x, solution.image)
            if not bool(torch.isfinite(x).all()):
                raise ValueError(f"{name}: diverged in iteration {solution.iterations + 1}; smaller steps may help")
            solution.image, solution.iterations = x, solution.iterations + 1
            if record:
                figures: dict[str, Any] = problem.figures(x, truth)
                solution.history.append({**figures, "change": float(change.mean())})
                bar.set_postfix({key: f"{value:.4g}" for key, value in solution.history[-1].items()}, refresh=False)
            bar.update()
            # Once is not enough: the image of a primal-dual method may wait for its dual to begin with.
            before, still = still, tolerance > 0 and bool((change <= tolerance).all())
            solution.converged = before and still
            if solution.converged or solution.iterations == iterations:
                break
    shortfall = problem.shortfall()
    if shortfall is not None:
        solution.converged = False
        warnings.warn(f"{name}: {shortfall}", stacklevel=3)
    return solution


def _change(x: Tensor, before: Tensor) -> Tensor:
    """‖x − x⁻‖/‖x‖ of every image, also of images whose squares are no numbers."""
    unit = over(ones_for_zeros(torch.maximum(largest(x), largest(before))), x)
    moved, size = (x / unit - before / unit).flatten(1).norm(dim=1), (x / unit).flatten(1).norm(dim=1)
    return moved / size.clamp(min=1e-30)
