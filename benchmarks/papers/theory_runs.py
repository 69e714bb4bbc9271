"""What is measured of the theory of variable splitting: `descend`, and a function for each claim."""

import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.papers import one_layer
from benchmarks.papers.one_layer import GRADIENTS, LOSSES, angle, unit
from unrolled.penalties import L0, L1, SeparablePenalty, TransformedL1, Weighted
from unrolled.sparsify import Constant, VariableSplitting

D, K, NONZEROS, BETA, STRENGTH = 50, 20, 10, 4e-3, 1e-4
PENALTIES: dict[str, SeparablePenalty] = {"l1": L1(), "TL1": TransformedL1(), "l0": L0()}
STRENGTHS = [3e-6, 1e-5, 3e-5, 1e-4, 2e-4]
THRESHOLDS = [0.025, 0.05, 0.1, 0.2]
MULTIPLES = [0.5, 0.9, 0.99, 1.01, 1.03, 1.1]
"""Step sizes η, in parts of 2/(β + L)."""
BATCHES = [16, 64, 256]
SAMPLES = [10, 30, 100, 300, 1000, 3000]

Gradient = Callable[[Tensor], Tensor]


class Run(NamedTuple):
    """Where variable splitting ended, and what was seen on the way.

    u is the sparse copy also where it is all zero, of which the sparsifier would keep a number.
    """

    w: Tensor
    u: Tensor
    seen: list[Any]


def descend(
    start: Tensor,
    gradient: Gradient,
    penalty: SeparablePenalty,
    eta: float | Callable[[int], float],
    steps: int,
    *,
    normed: bool = True,
    watch: Callable[[Tensor, Tensor], Any] | None = None,
    when: Collection[int] | None = None,
) -> Run:
    """Variable splitting from a start, many cases at once.

    Parameters
    ----------
    start : Tensor, (…, cases, d)
    gradient : function
        of w, in its shape.
    penalty : SeparablePenalty
        with its strength in it, by `Weighted`.
    eta : float or function
        the step size, or that of a step.
    normed : bool
        whether w is brought back to norm 1 after each step.
    watch : function, optional
        of (w, u); what it returns is kept.
    when : collection of int, optional
        after how many steps it is called; by default after each. Before the first there is no u yet.
    """
    model = nn.ParameterDict({"w": nn.Parameter(start.clone())})
    sparsifier = VariableSplitting(model, penalty, 1.0, beta=BETA, beta_schedule=Constant())
    rate = eta if callable(eta) else lambda step: eta
    optimizer = torch.optim.SGD(model.parameters(), lr=rate(0))
    w, seen = model["w"], []
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.zero_grad()
        ((gradient(w.detach()) * w).sum() + sparsifier.loss()).backward()
        optimizer.step()
        if normed:
            with torch.no_grad():
                w.copy_(unit(w))
        sparsifier.step(optimizer)
        if watch is not None and (when is None or step in when):
            seen.append(watch(w.detach(), penalty.prox(w.detach(), 1 / BETA)))
    return Run(w.detach().clone(), penalty.prox(w.detach(), 1 / BETA), seen)


def starts(v: Tensor, seed: int = 1) -> Tensor:
    """Random w of norm 1, one for each w*."""
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(v.shape, generator=generator, dtype=v.dtype))


def for_all(start: Tensor) -> Tensor:
    """The same start for every gradient, (gradients, …, d)."""
    return start.expand(len(GRADIENTS), *start.shape)


def population(v: Tensor) -> Gradient:
    """All gradients at once, of w (gradients, …, d)."""
    return lambda w: torch.stack([field(part, v, K) for part, field in zip(w, GRADIENTS.values(), strict=True)])


def spread(last: int, count: int = 50) -> list[int]:
    """Steps up to the last, closer at first."""
    return sorted({max(1, round(last * (part / count) ** 2)) for part in range(1, count + 1)})


def rounded(values: Tensor, digits: int = 4) -> list[float]:
    """To a few digits, for there are many."""
    return [float(f"{value:.{digits}g}") for value in values.tolist()]


# Fixed points, the support, and what w* follows from them


def fixed_points(label: str, teachers: int, steps: int, eta: float = 0.5) -> list[dict[str, Any]]:
    """Where a penalty ends with every gradient, and how it gets there."""
    v = one_layer.teachers(teachers, D, NONZEROS, seed=0)

    def watch(w: Tensor, u: Tensor) -> Tensor:
        """(quantity, gradient)"""
        found = zip(GRADIENTS, w, u, strict=True)
        residual = [
            one_layer.fixed_point_residual(name, part, v, sparse, BETA, K).max() for name, part, sparse in found
        ]
        outside = ((u != 0) & (v == 0)).sum(-1).double()
        inside = (u != 0).sum(-1) - outside
        return torch.stack([torch.stack(residual), inside.mean(-1), outside.mean(-1)])

    when = spread(steps)
    w, u, seen = descend(
        for_all(starts(v)), population(v), Weighted(PENALTIES[label], STRENGTH), eta, steps, watch=watch, when=when
    )
    curves = torch.stack(seen, -1)
    return [
        {
            "gradient": name,
            "penalty": label,
            **limit(name, w[index], u[index], v),
            "curves": {
                "step": when,
                **{key: rounded(curves[row, index]) for row, key in enumerate(("residual", "inside", "outside"))},
            },
        }
        for index, name in enumerate(GRADIENTS)
    ]


def limit(name: str, w: Tensor, u: Tensor, v: Tensor) -> dict[str, Any]:
    """What can be said of limits w and u, (cases, d)."""
    theta = angle(w, v)
    ratio = BETA / one_layer.pull(name, theta, K)
    return {
        "residual": float(one_layer.fixed_point_residual(name, w, v, u, BETA, K).max()),
        "teacher_error": float((one_layer.teacher_of(w, u, ratio) - v).norm(dim=-1).max()),
        "angles": rounded(theta, 12),
        "nonzeros": (u != 0).sum(-1).tolist(),
        "outside": int(((u != 0) & (v == 0)).sum()),
        "largest_outside": float(w[v == 0].abs().max()),
    }


def operation(label: str, teachers: int, shown: int = 8) -> list[dict[str, Any]]:
    """What is taken from A w to get w*, (A w − w*)c/β, for some w*; and the range of angles and counts of many."""
    v = one_layer.teachers(teachers, D, NONZEROS, seed=0)
    penalty = Weighted(PENALTIES[label], STRENGTH)
    run = descend(for_all(starts(v)), population(v), penalty, 5.0, 1000)
    line = torch.linspace(0, 0.8, 161, dtype=v.dtype)
    rows = []
    for name, w, u in zip(GRADIENTS, run.w, run.u, strict=True):
        theta, count = angle(w, v), (u != 0).sum(-1)
        ratio = BETA / one_layer.pull(name, theta, K)
        a = one_layer.enlargement(w, u, ratio)
        taken = (a[:, None] * w - v) / ratio[:, None]
        support = v[:shown] != 0
        rows.append(
            {
                "gradient": name,
                "penalty": label,
                "angles": [float(theta.min()), float(theta.max())],
                "nonzeros": [int(count.min()), int(count.max())],
                "w": rounded(w[:shown][support]),
                "taken": rounded(taken[:shown][support]),
                "line": rounded(line),
                "shrunk": rounded(penalty.prox(line, 1 / BETA)),
            }
        )
    return rows


# Angles


def angles(label: str, teachers: int, steps: int = 1500) -> dict[str, Any]:
    """θ(w) of a penalty over strengths, and over thresholds of its proximal map: [gradient][strength][w*]."""
    v = one_layer.teachers(teachers, D, NONZEROS, seed=0)
    matched = [BETA * step_of(PENALTIES[label], threshold) for threshold in THRESHOLDS]
    strength = torch.tensor([*STRENGTHS, *matched], dtype=v.dtype)
    penalty = Weighted(PENALTIES[label], strength[:, None, None])
    run = descend(for_all(starts(v).expand(len(strength), *v.shape)), population(v), penalty, 5.0, steps)
    found: dict[str, Any] = {"by_strength": {}, "by_threshold": {}}
    residuals = []
    for name, w, u in zip(GRADIENTS, run.w, run.u, strict=True):
        residuals.append(one_layer.fixed_point_residual(name, w, v, u, BETA, K).max())
        rows = [rounded(row) for row in angle(w, v)]
        found["by_strength"][name], found["by_threshold"][name] = rows[: len(STRENGTHS)], rows[len(STRENGTHS) :]
    return {**found, "residual": float(max(residuals)), "outside": int(((run.u != 0) & (v == 0)).sum())}


def step_of(penalty: SeparablePenalty, threshold: float) -> float:
    """The step of the proximal map that has this threshold, by bisection."""
    low, high = 0.0, 10.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if float(penalty.threshold(middle)) < threshold else (low, middle)
    return high


# Descent


def descent(label: str, penalty: SeparablePenalty, multiple: float, teachers: int, steps: int) -> dict[str, Any]:
    """L_β of the ReLU in steps of `multiple`·2/(β + L); w is not normed."""
    v = one_layer.teachers(teachers, D, NONZEROS, seed=0)
    eta = multiple * 2 / (BETA + one_layer.relu_smoothness(K))

    def watch(w: Tensor, u: Tensor) -> Tensor:
        return one_layer.lagrangian(one_layer.relu_loss(w, v, K), penalty, w, u, BETA)

    run = descend(starts(v), lambda w: one_layer.relu_gradient(w, v, K), penalty, eta, steps, normed=False, watch=watch)
    values = torch.stack(run.seen)
    rises = (~(values.diff(dim=0) <= 1e-13 * values[0])).any(1)  # so that what is no number any more counts too
    return {
        "penalty": label,
        "multiple": multiple,
        "eta": eta,
        "first_rise": int(rises.nonzero()[0]) + 1 if rises.any() else None,
        "curve": [value if math.isfinite(value) and value < 1e6 else None for value in rounded(values[:, 0], 7)],
    }


def largest_curvature(teachers: int, points: int = 40) -> float:
    """Of the ReLU's loss: the largest eigenvalue of its Hessian, between random w and near w*."""
    v = one_layer.teachers(teachers, D, NONZEROS, seed=0)
    hessian = torch.func.vmap(torch.func.jacrev(lambda w, v: one_layer.relu_gradient(w, v, K)))
    parts = torch.linspace(1e-6, 1, points, dtype=v.dtype)
    return max(float(torch.linalg.eigvalsh(hessian(v + part * (2 * starts(v) - v), v)).max()) for part in parts)


def coarse_descent(label: str, teachers: int, steps: int, eta: float = 0.5) -> list[dict[str, Any]]:
    """L_β of the step function: with its own loss, and with (c/2)‖w − w*‖² in its place.

    On the sphere that is what a coarse gradient c(w − w*) is the gradient of.
    """
    v = one_layer.teachers(teachers, D, NONZEROS, seed=0)
    penalty = Weighted(PENALTIES[label], STRENGTH)
    names = [name for name in GRADIENTS if name != "ReLU"]

    def gradient(w: Tensor) -> Tensor:
        return torch.stack([GRADIENTS[name](part, v, K) for name, part in zip(names, w, strict=True)])

    def watch(w: Tensor, u: Tensor) -> Tensor:
        """(gradient, loss, case)"""
        found = []
        for name, part, sparse in zip(names, w, u, strict=True):
            chord = one_layer.pull(name, v.new_zeros(()), K) / 2 * (part - v).square().sum(-1)
            losses = torch.stack([LOSSES[name](part, v, K), chord])
            found.append(one_layer.lagrangian(losses, penalty, part, sparse, BETA))
        return torch.stack(found)

    start = starts(v).expand(len(names), *v.shape)
    values = torch.stack(descend(start, gradient, penalty, eta, steps, watch=watch).seen)
    change = values.diff(dim=0)
    rising = (change > 1e-13 * values[0]).any(0).sum(-1)
    fall = (values[0] - values[-1]).amin(-1)
    return [
        {
            "gradient": name,
            "penalty": label,
            "cases": teachers,
            **{
                kind: {
                    "rising": int(rising[index, loss]),
                    "largest_rise": float(change[:, index, loss].max()),
                    "fall": float(fall[index, loss]),
                }
                for loss, kind in enumerate(("own", "chord"))
            },
        }
        for index, name in enumerate(names)
    ]


# Samples


def sampled(v: Tensor, batch: int, seed: int) -> Gradient:
    """All gradients at once on batches of samples, new ones in each call."""
    generator = torch.Generator().manual_seed(seed)

    def gradient(w: Tensor) -> Tensor:
        return one_layer.sampled_gradients(w, v, torch.randn(batch, K, D, generator=generator)).to(w)

    return gradient


def sampling_error(repeats: int = 20) -> dict[str, Any]:
    """The distance of a gradient on n samples from the population's, in parts of its norm; the root mean square."""
    v = one_layer.teachers(1, D, NONZEROS, seed=0)
    w = for_all(unit(v + 0.7 * starts(v)))
    wanted = population(v)(w)
    found = []
    for size in SAMPLES:
        gradient = sampled(v, size, seed=2)
        error = torch.stack([gradient(w) - wanted for _ in range(repeats)]).square().sum(-1).mean((0, 2)).sqrt()
        found.append(error / wanted.norm(dim=-1)[:, 0])
    columns = torch.stack(found, 1)
    return {"samples": SAMPLES, "error": {name: rounded(row) for name, row in zip(GRADIENTS, columns, strict=True)}}


def sampled_runs(label: str, teachers: int, steps: int, eta: float = 2.0) -> list[dict[str, Any]]:
    """How near sampled gradients come to the limit of the population's: ‖w − limit‖, the median over w*.

    With constant steps for every size of batches, and at last with the middle one and steps that become smaller.
    """
    v = one_layer.teachers(teachers, D, NONZEROS, seed=0)
    penalty = Weighted(PENALTIES[label], STRENGTH)
    wanted = descend(for_all(starts(v)), population(v), penalty, eta, 2 * steps)
    when = spread(steps)
    rows = []
    for batch, falling in [*((batch, False) for batch in BATCHES), (BATCHES[1], True)]:
        rate = (lambda step: eta * (1 - (step - 1) / steps)) if falling else eta
        run = descend(
            for_all(starts(v)),
            sampled(v, batch, seed=3),
            penalty,
            rate,
            steps,
            watch=lambda w, u: (w - wanted.w).norm(dim=-1).median(-1).values,
            when=when,
        )
        distance = torch.stack(run.seen, -1)
        for index, name in enumerate(GRADIENTS):
            rows.append(
                {
                    "gradient": name,
                    "penalty": label,
                    "batch": batch,
                    "falling": falling,
                    "outside": int(((run.u[index] != 0) & (v == 0)).sum()),
                    "same_support": int(((run.u[index] != 0) == (wanted.u[index] != 0)).all(-1).sum()),
                    "cases": teachers,
                    "step": when,
                    "distance": rounded(distance[index]),
                }
            )
    return rows
