"""How every solver of images runs: one loop that records, stops and shows progress around an algorithm's iterates."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from unrolled.operators import LinearOperator
from unrolled.solvers.priors import Prior


@dataclass
class Solution:
    """What a solver found.

    Attributes
    ----------
    image : Tensor, (batch, channel, height, width)
    iterations : int
    converged : bool
        whether the image stopped changing, by the tolerance, before the iterations ran out.
    history : list of dict
        for every iteration, means over the batch: "objective" ½‖Ax − y‖² + g(x) (if there is a prior), "residual"
        ‖Ax − y‖, "change" ‖x − x⁻‖/‖x‖, and "psnr" in dB if the truth is known.
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
    y : Tensor, measurements of a batch of images
    operator : LinearOperator
        A.
    prior : Prior or None
        g; None: 0.
    start : Tensor, (batch, channel, height, width), or None
        where to start; None: at `operator.estimate(y)`.
    """

    y: Tensor
    operator: LinearOperator
    prior: Prior | None
    start: Tensor | None

    def __post_init__(self) -> None:
        y = self.y
        if y.ndim == 0 or not (y.is_floating_point() or y.is_complex()):
            raise ValueError(f"y: must be real or complex numbers of floating point, got {y.dtype}")
        if not bool(torch.isfinite(y).all()):
            raise ValueError("y: must be finite, but holds NaN or inf")
        image = self.operator.adjoint(y)  # refuses measurements of a wrong shape
        if self.start is None:
            self.start = self.operator.estimate(y)
        if self.start.shape != image.shape:
            raise ValueError(
                f"start: must be {tuple(image.shape)} for these measurements, got {tuple(self.start.shape)}"
            )
        if not bool(torch.isfinite(self.start).all()):
            raise ValueError("start: must be finite, but holds NaN or inf")

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
        return v if self.prior is None else self.prior.prox(v, step)

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
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"{name}: iterations must be a whole number >= 1, got {iterations!r}")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"{name}: tolerance must be a finite number >= 0, got {tolerance!r}")
    if truth is not None and truth.shape != problem.first.shape:
        raise ValueError(f"{name}: truth must be {tuple(problem.first.shape)}, got {tuple(truth.shape)}")
    solution, still = Solution(problem.first), False
    with tqdm(total=iterations, disable=not progress, desc=name, leave=False) as bar:
        for x in iterates:
            size = x.flatten(1).norm(dim=1)
            change = (x - solution.image).flatten(1).norm(dim=1) / size.clamp(min=1e-30)
            if not bool(torch.isfinite(size).all()):
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
    return solution
