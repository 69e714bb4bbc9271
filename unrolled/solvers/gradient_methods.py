"""Proximal gradient methods: the algorithms that the networks unroll."""

from collections.abc import Iterator
from typing import Literal

from torch import Tensor

from unrolled.operators import LinearOperator
from unrolled.solvers.given import real_number
from unrolled.solvers.priors import Prior
from unrolled.solvers.solution import Problem, Solution, solve
from unrolled.system.scalars import as_number


def proximal_gradient(
    y: Tensor,
    operator: LinearOperator,
    prior: Prior,
    start: Tensor | None = None,
    iterations: int = 200,
    tolerance: float = 0.0,
    *,
    step: float | None = None,
    truth: Tensor | None = None,
    record: bool = True,
    progress: bool = False,
) -> Solution:
    """argmin_x ½‖Ax − y‖² + g(x) by x ← prox(x − α∇f(x)) (ISTA).

    The objective never rises for α <= 1/‖A‖², also if g is not convex.

    Parameters
    ----------
    y : Tensor or array of any type, measurements of a batch of images, in the operator's shape
        real or complex as the operator measures; calculated with in the operator's precision.
    operator : LinearOperator
        A.
    prior : Prior
        g.
    start : Tensor, (batch, channel, height, width), optional
        by default `operator.estimate(y)`.
    iterations : int
        at most so many.
    tolerance : float
        ends the iteration when the image changes by less, relatively; 0: never.
    step : float > 0, optional
        α; by default 1/‖A‖².
    truth : Tensor, (batch, channel, height, width), optional
        for the PSNR in the history.
    record : bool
        keep a history.
    progress : bool
        show a bar.

    Returns
    -------
    Solution

    Raises
    ------
    ValueError
        for a wrong argument, measurements that are not finite, or if the iteration diverges.
    """
    problem = Problem(y, operator, prior, start)
    alpha = _step("proximal_gradient", "step", step, problem)

    def iterates() -> Iterator[Tensor]:
        x = problem.first
        while True:
            x = problem.prox(x - alpha * problem.gradient(x), alpha)
            yield x

    return solve("proximal_gradient", iterates(), problem, iterations, tolerance, truth, record, progress)


def fista(
    y: Tensor,
    operator: LinearOperator,
    prior: Prior,
    start: Tensor | None = None,
    iterations: int = 200,
    tolerance: float = 0.0,
    *,
    step: float | None = None,
    restart: bool = True,
    truth: Tensor | None = None,
    record: bool = True,
    progress: bool = False,
) -> Solution:
    """Proximal gradient with Nesterov's momentum (Beck, Teboulle, SIAM J. Imaging Sci. 2, 2009).

    Parameters
    ----------
    restart : bool
        forget the momentum where it points uphill (O'Donoghue, Candès, Found. Comput. Math. 15, 2015, the gradient
        scheme). For a batch this is decided together.

    Others as in `proximal_gradient`.
    """
    problem = Problem(y, operator, prior, start)
    alpha = _step("fista", "step", step, problem)

    def iterates() -> Iterator[Tensor]:
        x = point = problem.first
        t = 1.0
        while True:
            previous, x = x, problem.prox(point - alpha * problem.gradient(point), alpha)
            t = 1.0 if restart and _uphill(point, x, previous) else t
            t_next = next_momentum(t)
            point, t = x + (t - 1) / t_next * (x - previous), t_next
            yield x

    return solve("fista", iterates(), problem, iterations, tolerance, truth, record, progress)


def extra_proximal_gradient(
    y: Tensor,
    operator: LinearOperator,
    prior: Prior,
    start: Tensor | None = None,
    iterations: int = 100,
    tolerance: float = 0.0,
    *,
    variant: Literal["plain", "accelerated"] = "accelerated",
    alpha: float | None = None,
    beta: float | None = None,
    momentum: float | None = None,
    truth: Tensor | None = None,
    record: bool = True,
    progress: bool = False,
) -> Solution:
    """The algorithm that EPGN imitates (Zhang, Ye, Chen, 2022): two proximal gradient steps an iteration.

    Plain, the extragradient method: x½ = prox(x − α∇f(x)); x⁺ = prox(x − β∇f(x½)). It converges on convex problems for
    equal steps below 1/‖A‖² (Korpelevich, 1976), and is no faster than one proximal gradient step for the price of two.

    Accelerated: t = x + γ(x − x½⁻), x½ = prox(t − α∇f(t)); s = x½ + γ(x½ − x), x⁺ = prox(s − β∇f(s)). These are two
    steps of proximal gradient with momentum: of equal size, and with Nesterov's momentum instead of a fixed γ, two
    steps of FISTA; at γ = 0 two of plain proximal gradient.

    Parameters
    ----------
    variant : "plain" or "accelerated"
    alpha, beta : float > 0, optional
        step sizes; by default 1/‖A‖² accelerated, and half of it plain: there a part of the image that A sees with ‖A‖
        is not moved by steps of 1/‖A‖², for the gradient at x½ is 0.
    momentum : float in [0, 1), optional
        γ of the accelerated variant; by default Nesterov's sequence with restarts. A fixed one is known to converge on
        convex problems below 1/3, and on strongly convex ones below 1.

    Others as in `proximal_gradient`; an iteration takes two applications of A and of Aᴴ.
    """
    if variant not in ("plain", "accelerated"):
        raise ValueError(f"extra_proximal_gradient: variant must be 'plain' or 'accelerated', got {variant!r}")
    fixed = None if momentum is None else as_number(momentum)
    if momentum is not None and (fixed is None or not 0 <= fixed < 1):
        raise ValueError(f"extra_proximal_gradient: momentum must be in [0, 1), got {momentum!r}")
    if fixed is not None and variant == "plain":
        raise ValueError(f"extra_proximal_gradient: momentum belongs to the accelerated variant, got {momentum!r}")
    problem = Problem(y, operator, prior, start)
    shrink = 0.5 if variant == "plain" else 1.0
    a = _step("extra_proximal_gradient", "alpha", alpha, problem, shrink)
    b = _step("extra_proximal_gradient", "beta", beta, problem, shrink)

    def plain() -> Iterator[Tensor]:
        x = problem.first
        while True:
            half = problem.prox(x - a * problem.gradient(x), a)
            x = problem.prox(x - b * problem.gradient(half), b)
            yield x

    def accelerated() -> Iterator[Tensor]:
        x = half = problem.first
        t, gamma = 1.0, 0.0 if fixed is None else float(fixed)
        while True:
            for size in (a, b):  # x and x½ take turns
                point = x + gamma * (x - half)
                half, x = x, problem.prox(point - size * problem.gradient(point), size)
                if fixed is None:
                    t = 1.0 if _uphill(point, x, half) else t
                    t_next = next_momentum(t)
                    gamma, t = (t - 1) / t_next, t_next
            yield x

    iterates = plain() if variant == "plain" else accelerated()
    return solve("extra_proximal_gradient", iterates, problem, iterations, tolerance, truth, record, progress)


def _step(solver: str, name: str, given: float | None, problem: Problem, shrink: float = 1.0) -> float:
    if given is None:
        return shrink * problem.step()
    return real_number(f"{solver}: {name}", given, above=True)


def _uphill(point: Tensor, x: Tensor, previous: Tensor) -> bool:
    """Whether the last move has a part against the proximal gradient: ⟨point − x, x − previous⟩ > 0."""
    return bool(((point - x).conj() * (x - previous)).real.sum() > 0)


def next_momentum(t: float) -> float:
    """Nesterov's sequence: t = 1 to begin with; the momentum of a step is (t − 1)/next_momentum(t)."""
    return (1 + (1 + 4 * t * t) ** 0.5) / 2
