"""Sparse regression, argmin_w ½‖Xw − y‖² + strength·Σρ(w), by three algorithms with one signature.

Iteratively reweighted least squares and adaptive dropout are two readings of the η-trick (LeJeune, Javadi, Baraniuk,
"The Flip Side of the Reweighted Coin", NeurIPS 2021); proximal gradient descent is the other face of the same penalty.
All of them start at the ridge solution unless told otherwise, and come to the minimum for a convex penalty, to a
stationary point for another.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.penalties import Grouped, Penalty
from unrolled.solvers.given import check_finite, real_number
from unrolled.solvers.gradient_methods import next_momentum
from unrolled.system.arraylike import as_numbers, as_tensor, is_floating
from unrolled.system.scalars import whole_number

_FIRST_STAGE = 100


@dataclass(frozen=True)
class Regression:
    """What a solver of sparse regression found.

    Attributes
    ----------
    w : Tensor, (features,) or (features, targets)
        the weights; of adaptive dropout their mean over the last stage.
    objective : float
        ½‖Xw − y‖² + strength·Σρ(w).
    iterations : int
        that were made.
    converged : bool
        whether the tolerance was reached.
    variance : Tensor, the shape of w, optional
        of adaptive dropout: E|w − E w|² over the iterates whose mean is `w`.
    iterates : Tensor, (iterations + 1, *the shape of w), optional
        the start and every iterate, if `history` was asked for.
    objectives : Tensor, (iterations + 1,), optional
        those of the iterates.
    """

    w: Tensor
    objective: float
    iterations: int
    converged: bool
    variance: Tensor | None = None
    iterates: Tensor | None = None
    objectives: Tensor | None = None


@torch.no_grad()
def irls(
    X: Tensor,
    y: Tensor,
    penalty: Penalty,
    strength: float,
    start: Tensor | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-7,
    history: bool = False,
    smoothing: float = 1e-8,
) -> Regression:
    """Sparse regression by iteratively reweighted least squares, the η-trick.

    Each iteration solves the ridge problem ½‖Xw − y‖² + (strength/2)·Σ|w|²/η exactly, with η = η̂ of the weights before.
    At 0 most penalties have η̂ = 0, where a weight would stay for ever. So η̂ is taken at √(|w|² + smoothing²): what
    falls in every iteration is the objective with ρ(√(|w|² + smoothing²)), and weights that are 0 at the minimum end at
    about the size of `smoothing`, not at 0. l0 has η̂ = ∞ wherever it is not 0, and so leaves every weight unpenalised.
    An iteration costs features³ operations for each target.

    Parameters
    ----------
    X : Tensor or array of any type, (samples, features), real or complex
        half precision is calculated with in single precision, whole numbers in that of y or in PyTorch's default.
    y : Tensor or array, (samples,) or (samples, targets), on the device of X, real if X is
    penalty : Penalty
        ρ, of tensors of the shape of w.
    strength : float > 0
    start : Tensor, (features,) or (features, targets), optional
        by default the ridge solution (XᴴX + strength)⁻¹Xᴴy.
    iterations : int ≥ 1
        at most.
    tolerance : float ≥ 0
        stop when no weight changes by more than this, relative to the largest weight; changes of rounding stop always.
    history : bool
        return all iterates and their objectives.
    smoothing : float ≥ 0
        in the units of w. With 0, a weight that is 0 stays 0.

    Returns
    -------
    Regression

    Raises
    ------
    ValueError
        if shapes or devices do not fit, y is complex and X is not, X, y or the start are not finite, or a number is out
        of its range.
    """
    problem = _Problem.of("irls", X, y, penalty, strength, start, iterations, tolerance)
    X, y, penalty, strength, iterations, tolerance = problem.given
    smoothing = real_number("irls: smoothing", smoothing)

    def iterates() -> Iterator[Tensor]:
        gram, correlation, w = X.mH @ X, X.mH @ y, problem.start
        while True:
            w = _ridge(gram, correlation, _keep_probability(penalty, w, strength, smoothing), w)
            yield w

    return _run(problem, iterates(), iterations, tolerance, history)


@torch.no_grad()
def proximal_gradient_regression(
    X: Tensor,
    y: Tensor,
    penalty: Penalty,
    strength: float,
    start: Tensor | None = None,
    iterations: int = 10_000,
    tolerance: float = 1e-7,
    history: bool = False,
    accelerated: bool = True,
) -> Regression:
    """Sparse regression by proximal gradient descent with the step 1/‖X‖², accelerated and monotone.

    w ← prox(w − Xᴴ(Xw − y)/‖X‖², strength/‖X‖²), from a point with Nesterov's momentum (FISTA; Beck, Teboulle, 2009).
    Where momentum would raise the objective it starts anew from a plain step (O'Donoghue, Candès, 2015), and only a
    plain step ends the iteration. So the objective never rises, for a nonconvex penalty neither.

    Parameters
    ----------
    X, y, penalty, strength, start, iterations, tolerance, history
        as in `irls`.
    accelerated : bool
        without, every step is plain.

    Returns
    -------
    Regression

    Raises
    ------
    ValueError
        as in `irls`.
    """
    problem = _Problem.of("proximal_gradient_regression", X, y, penalty, strength, start, iterations, tolerance)
    _, _, _, strength, iterations, tolerance = problem.given
    step = 1 / problem.curvature

    def stepped(point: Tensor) -> Tensor:
        return penalty.prox(point - step * problem.gradient(point), step * strength)

    def iterates() -> Iterator[Tensor]:
        previous, w, t = problem.start, problem.start, 1.0
        cost = problem.objective(w)
        while True:
            t_next = next_momentum(t) if accelerated else 1.0
            candidate = stepped(w + (t - 1) / t_next * (w - previous))
            reached = problem.objective(candidate)
            if t > 1 and (reached > cost or _settled(candidate, w, tolerance)):
                candidate, t_next = stepped(w), 1.0
                reached = problem.objective(candidate)
            previous, w, t, cost = w, candidate, t_next, reached
            yield w

    return _run(problem, iterates(), iterations, tolerance, history)


@torch.no_grad()
def adaptive_dropout_descent(
    X: Tensor,
    y: Tensor,
    penalty: Penalty,
    strength: float,
    start: Tensor | None = None,
    iterations: int = 20_000,
    tolerance: float = 1e-3,
    history: bool = False,
    smoothing: float = 1e-8,
    generator: torch.Generator | None = None,
) -> Regression:
    """Sparse regression by gradient descent under adaptive dropout: noise in place of a penalty.

    Each step keeps feature j with probability α_j, scales what is kept by 1/α_j, and descends on the least squares
    problem that is left. With α_j = η̂/(η̂ + strength/‖X_j‖²) the mean of ½‖X(s∘w) − y‖² over the masks s is
    ½‖Xw − y‖² + (strength/2)·Σ|w|²/η̂, whose gradient is that of the penalised problem, for columns of any norm. The
    steps of feature j are α_j times as long, so that a kept feature moves as in plain least squares.

    The iterations are made in stages. Each is twice as long as the one before, with a step smaller by √2, from
    1/(2‖X‖²) on; the result is the mean over the last one, with the variance of its iterates.

    Parameters
    ----------
    X, y, penalty, strength, start, iterations, history, smoothing
        as in `irls`.
    tolerance : float ≥ 0
        stop when the means of two stages in a row differ by no more than this, relative to the largest weight, and all
        weights that are larger than that were drawn. Where strength·ρ' is many times |w|, hardly any is: that takes as
        many more iterations.
    generator : torch.Generator, optional
        of the masks, on the device of X; by default that of torch.

    Returns
    -------
    Regression, with `variance`

    Raises
    ------
    ValueError
        as in `irls`.
    """
    name = "adaptive_dropout_descent"
    problem = _Problem.of(name, X, y, penalty, strength, start, iterations, tolerance)
    X, y, penalty, strength, iterations, tolerance = problem.given
    smoothing = real_number(f"{name}: smoothing", smoothing)
    norms = X.abs().square().sum(0).view(-1, *[1] * (y.ndim - 1))
    w = torch.where(norms == 0, 0, problem.start)  # features without data are only penalised
    strengths = strength / torch.where(norms == 0, 1, norms)
    step = 0.5 / problem.curvature

    trace, mean, made, converged = [w], w, 0, False
    for length in _stages(iterations):
        origin, before = w, mean
        total, squares = torch.zeros_like(w), torch.zeros_like(w.real)
        drawn = w == 0
        for _ in range(length):
            alpha = _keep_probability(penalty, w, strengths, smoothing)
            kept = torch.rand(w.shape, generator=generator, dtype=alpha.dtype, device=w.device) < alpha
            w = w - step * torch.where(kept, problem.gradient(torch.where(kept, w / alpha, 0)), 0)
            drawn |= kept
            total += w - origin
            squares += (w - origin).abs().square()
            if history:
                trace.append(w)
        mean = origin + total / length
        variance = (squares / length - (total / length).abs().square()).clamp(min=0)
        made, step = made + length, step / 2**0.5
        # A weight that was never drawn has not moved, which says nothing, unless it hardly matters.
        converged = _settled(mean, before, tolerance) and _settled(torch.where(drawn, mean, 0), mean, tolerance)
        if converged:
            break
    return problem.result(mean, made, converged, trace if history else None, variance)


@dataclass(frozen=True)
class _Problem:
    X: Tensor
    y: Tensor
    penalty: Penalty
    strength: float
    start: Tensor
    iterations: int
    tolerance: float

    @staticmethod
    def of(
        name: str,
        X: Tensor,
        y: Tensor,
        penalty: Penalty,
        strength: float,
        start: Tensor | None,
        iterations: int,
        tolerance: float,
    ) -> "_Problem":
        """The problem, if what the user gave makes one."""
        X, y = as_tensor(f"{name}: X", X), as_tensor(f"{name}: y", y)
        kind = _precision(X, y)
        X, y = _numbers(f"{name}: X", X, X, kind), _numbers(f"{name}: y", y, X, kind)
        if X.ndim != 2 or 0 in X.shape:
            raise ValueError(f"{name}: X must be (samples, features), at least one of each, got {tuple(X.shape)}")
        if y.ndim not in (1, 2) or len(y) != len(X) or y.numel() == 0:
            raise ValueError(
                f"{name}: y must be ({len(X)},) or ({len(X)}, targets) for X of {tuple(X.shape)}, got {tuple(y.shape)}"
            )
        shape = (X.shape[1], *y.shape[1:])
        start = None if start is None else _numbers(f"{name}: start", start, X, kind)
        if start is not None and start.shape != shape:
            raise ValueError(f"{name}: start must be of shape {shape}, got {tuple(start.shape)}")
        for label, tensor in (("X", X), ("y", y), ("start", start)):
            if tensor is not None:
                check_finite(f"{name}: {label}", tensor)
        strength = real_number(f"{name}: strength", strength, above=True)
        iterations = whole_number(f"{name}: iterations", iterations)
        tolerance = real_number(f"{name}: tolerance", tolerance)
        start = _ridge_solution(X, y, strength) if start is None else start
        return _Problem(X, y, penalty, strength, start, iterations, tolerance)

    @property
    def given(self) -> tuple[Tensor, Tensor, Penalty, float, int, float]:
        """X, y, the penalty, its strength, the iterations and the tolerance, as they are calculated with."""
        return self.X, self.y, self.penalty, self.strength, self.iterations, self.tolerance

    @property
    def curvature(self) -> float:
        """‖X‖², the Lipschitz constant of the gradient; of a matrix of zeros any number is right."""
        norm = float(torch.linalg.matrix_norm(self.X, 2))
        if not 0 <= norm < math.sqrt(torch.finfo(torch.float64).max):
            raise ValueError(f"X: has the norm {norm:.3g}, whose square is no number; give smaller units")
        return norm**2 or 1.0

    def gradient(self, w: Tensor) -> Tensor:
        return self.X.mH @ (self.X @ w - self.y)

    def objective(self, w: Tensor) -> Tensor:
        return (self.X @ w - self.y).abs().square().sum() / 2 + self.strength * self.penalty.value(w).sum()

    def result(
        self, w: Tensor, iterations: int, converged: bool, trace: list[Tensor] | None, variance: Tensor | None = None
    ) -> Regression:
        iterates = None if trace is None else torch.stack(trace)
        objectives = None if trace is None else torch.stack([self.objective(each) for each in trace])
        return Regression(w, float(self.objective(w)), iterations, converged, variance, iterates, objectives)


def _run(problem: _Problem, iterates: Iterable[Tensor], iterations: int, tolerance: float, history: bool) -> Regression:
    """Iterate until nothing changes any more."""
    w, made, converged = problem.start, 0, False
    trace = [w]
    for made, new in zip(range(1, iterations + 1), iterates, strict=False):  # noqa: B007
        converged, w = _settled(new, w, tolerance), new
        if history:
            trace.append(w)
        if converged:
            break
    return problem.result(w, made, converged, trace if history else None)


def _ridge_solution(X: Tensor, y: Tensor, strength: float) -> Tensor:
    """(XᴴX + strength)⁻¹Xᴴy, with a strength that is not lost in rounding; the smaller of two systems is solved."""
    wide = X.shape[1] > len(X)
    system = X @ X.mH if wide else X.mH @ X
    diagonal = system.diagonal()
    diagonal += max(strength, float(diagonal.real.max()) * torch.finfo(X.dtype).eps ** 0.5)
    return X.mH @ torch.linalg.solve(system, y) if wide else torch.linalg.solve(system, X.mH @ y)


def _ridge(gram: Tensor, correlation: Tensor, alpha: Tensor, before: Tensor) -> Tensor:
    """Solve (gram + strength/η)w = correlation for α = η/(η + strength), one system for each target.

    In u = w/√α the system is √α·gram·√α + (1 − α), which bears η = 0 and η = ∞. Where it is singular (features that are
    neither penalised nor determined) a slight pull towards the weights before makes it regular, and does not move its
    fixed points.
    """
    shape = before.shape
    root = alpha.reshape(len(gram), -1).mT.sqrt()  # the targets are a batch
    correlation, before = (tensor.reshape(len(gram), -1).mT for tensor in (correlation, before))
    system = root[:, :, None] * gram * root[:, None, :] + torch.diag_embed(1 - root.square())
    pull = torch.finfo(gram.dtype).eps ** 0.5 * system.diagonal(dim1=1, dim2=2).real.amax(1, keepdim=True)
    right = root * correlation + pull * torch.where(root == 0, 0, before / root)
    factor = torch.linalg.cholesky(system + torch.diag_embed(pull.expand_as(root)))
    return (root * torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]).mT.reshape(shape)


def _stages(iterations: int) -> list[int]:
    """Lengths that double and sum to the iterations."""
    stages = []
    while iterations > _FIRST_STAGE:
        stages.append((iterations + 1) // 2)
        iterations //= 2
    return [iterations, *reversed(stages)]


def _keep_probability(penalty: Penalty, w: Tensor, strength: float | Tensor, smoothing: float) -> Tensor:
    """α of each weight at √(|w|² + smoothing²); that of a group is the same for all of its weights."""
    smoothed = torch.hypot(w.abs(), torch.full_like(w.real, smoothing))
    if isinstance(penalty, Grouped):
        eta = penalty.grouping.spread(penalty.eta(smoothed), w.shape, outside=math.inf)
        return 1 / (1 + strength / eta)
    return penalty.keep_probability(smoothed, strength).expand_as(w)


def _settled(new: Tensor, old: Tensor, tolerance: float) -> bool:
    tolerance = max(tolerance, 4 * torch.finfo(new.dtype).eps)
    return bool((new - old).abs().max() <= tolerance * new.abs().max())


def _precision(X: Tensor, y: Tensor) -> torch.dtype:
    """That of X, or of y if X holds whole numbers, at least single."""
    like = next((tensor for tensor in (X, y) if is_floating(tensor)), torch.empty(0))
    return torch.promote_types(like.real.dtype, torch.float32)


def _numbers(name: str, value: Any, X: Tensor, kind: torch.dtype) -> Tensor:
    """An array in the precision of the problem, complex if X is."""
    tensor = as_tensor(name, value)
    if tensor.device != X.device:
        raise ValueError(f"{name} must be on {X.device} as X, got {tensor.device}")
    if tensor.is_complex() and not X.is_complex():
        raise ValueError(f"{name} must be real as X, got {tensor.dtype}")
    tensor = as_numbers(name, tensor, kind)
    return tensor.to(kind.to_complex()) if X.is_complex() else tensor
