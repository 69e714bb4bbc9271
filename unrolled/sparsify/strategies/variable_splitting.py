"""Relaxed variable splitting: dense weights that are trained, and sparse ones that draw them near."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.penalties import L1, Grouped, L1MinusL2, Penalty
from unrolled.sparsify.groups import Groups, PricedGroups, is_uniform, penalty_of
from unrolled.sparsify.machinery.arguments import number
from unrolled.sparsify.machinery.optimizer_metric import is_adaptive
from unrolled.sparsify.machinery.proximal_updates import check_top_k
from unrolled.sparsify.schedules import Constant, Growth, Schedule
from unrolled.sparsify.selection import Weight, count_zeros
from unrolled.sparsify.sparsifier import Sparsifier
from unrolled.system.scalars import whole_number

SOLVE_EVERY = 10
"""How many steps lie between two strengths that meet the target."""

FAST, SLOW = Growth(rate=1.2, every=0.02), Growth(rate=1.1, every=0.02)
"""How β grows: with a target, and with a strength, whose threshold becomes smaller when β grows."""


class VariableSplitting(Sparsifier):
    """RVSM: dense weights w are trained, drawn towards sparse ones u, and at the end u takes their place.

    It descends the augmented Lagrangian

        L_β(w, u) = f(w) + strength · Σ ρ(u) + β/2 ‖w − u‖²

    in turn: w by the optimiser, for β/2 ‖w − u‖² is in `loss()`, so that momentum, Adam's metric, clipping and loss
    scaling treat it as they treat f; and u exactly, after the step: the prox of (strength/β)·ρ at w (Dinh, Xin,
    "Convergence of a relaxed variable splitting method for learning sparse neural networks via ℓ1, ℓ0, and
    transformed-ℓ1 penalties", 2018). For gradient descent with steps η < 2/(β + L), L the Lipschitz constant of ∇f, L_β
    falls from step to step. β grows during the run, so that w ends where u is: then little changes when u takes its
    place.

    With `Grouped(L0(), …)`, or L0 and `groups`, and `group_lasso` it is RGSM, which kills groups by the prox and
    shrinks them by the gradient.

    With a target the strength is solved for every ten steps, so that u has the wanted share of zeros all the time.

    To keep weights at norm 1, as the theory does, normalise them between `optimizer.step()` and `step(optimizer)`.

    Parameters
    ----------
    model : Module
    penalty : Penalty
        with exact zeros. `TopK` says itself how many numbers stay, in each weight; it goes with a strength, whose value
        does not matter.
    strength : float > 0
        of Σ ρ(u); give either this or target. At first it acts by the prox for strength/β, which should not kill
        everything: numbers up to strength/β become 0 with L1, and those up to √(2·strength/β) with L0.
    target : float in [0, 1)
    beta : float > 0
        β at the start, in units of the loss per squared weight.
    beta_schedule : Schedule, optional
        the factor on β. By default β grows fifty times if the length of the run is known, with a target by 1.2, in all
        9,100 times, with a strength by 1.1, in all 117 times; but for optimisers without Adam's metric no further than
        to 1/(2·lr), where a gradient step is still stable.
    every : int ≥ 1
        steps of the optimiser between two of u.
    group_lasso : float ≥ 0
        λ₂ of a group lasso λ₂ Σ √|g| ‖w_g‖ of the dense weights in the loss.
    lasso_groups : Grouping or function
        its groups, as for `groups`, which they are by default; single numbers for which a function says None are
        left out.
    fine_tune : float in [0, 1), optional
        the last part of the run, in which u has taken the place of w and its zeros stay: with a target by default .3,
        so that what was trained beside w, such as the statistics of norms, gets used to u.
    groups, include, exclude, schedule, steps
        as for every `Sparsifier`.
    """

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty,
        strength: float | None = None,
        *,
        target: float | None = None,
        beta: float = 1e-2,
        beta_schedule: Schedule | None = None,
        every: int = 1,
        group_lasso: float = 0.0,
        lasso_groups: Groups | None = None,
        fine_tune: float | None = None,
        **options: Any,
    ):
        tuning = (0.0 if target is None else 0.3) if fine_tune is None else fine_tune
        super().__init__(model, penalty, strength, target=target, fine_tune=tuning, **options)
        name = type(self).__name__
        self.base_beta = float(number(name, "beta", beta, "a finite number > 0", lambda b: 0 < b < math.inf))
        if beta_schedule is not None and not isinstance(beta_schedule, Schedule):
            raise ValueError(f"{name}: beta_schedule must be a Schedule, got {beta_schedule!r}")
        self.every = whole_number(f"{name}: every", every)
        allowed = "a finite number >= 0"
        self.group_lasso = float(number(name, "group_lasso", group_lasso, allowed, lambda g: 0 <= g < math.inf))
        self.beta_schedule, self.beta_limit = beta_schedule, math.inf
        self.prox_step = 0.0  # strength/β that met the target when it was last solved for
        self._lasso_groups = lasso_groups

    def check_penalty(self, penalty: Penalty) -> None:
        super().check_penalty(penalty)
        check_top_k(type(self).__name__, penalty, self.weights, self.course.target)

    def initial_strength(self) -> float:
        return 0.0  # until it is solved for, in `act`

    def make_control(self) -> None:
        return None  # the strength is solved for

    def attach(self) -> None:
        self._lasso = self._group_lassos() if self.group_lasso else []
        self._together = all(weight.penalty is self.penalty and is_uniform(self.penalty) for weight in self.weights)
        self._inverses: dict[Penalty, _Inverse] = {}

    def detach(self) -> None:
        for weight in self.weights:
            weight.extra.pop("u", None)

    def _group_lassos(self) -> list[Grouped | None]:
        if isinstance(self._lasso_groups, PricedGroups):
            self._lasso_groups.check([weight.name for weight in self.weights])
        found = [self._lasso_of(weight) for weight in self.weights]
        if not any(found):
            raise ValueError(f"{type(self).__name__}: group_lasso needs groups: give groups or lasso_groups")
        return found

    def _lasso_of(self, weight: Weight) -> Grouped | None:
        if self._lasso_groups is not None:
            penalty = penalty_of(weight, L1(), self._lasso_groups)
            return penalty if isinstance(penalty, Grouped) else None
        grouping = weight.grouping
        return None if grouping is None else Grouped(L1(), grouping)

    @property
    def beta(self) -> float:
        """β at this step."""
        if self.beta_schedule is not None:
            return self.base_beta * self.beta_schedule.factor(self.course.progress)
        growth = SLOW if self.course.target is None else FAST
        return max(self.base_beta, min(self.base_beta * growth.factor(self.course.progress), self.beta_limit))

    def _needs_length(self) -> bool:
        return super()._needs_length() or not isinstance(self.beta_schedule, Constant | None)

    # In turn

    def loss_now(self) -> Tensor:
        return self.beta / 2 * self._squared_gap() + self._lasso_value()

    def _squared_gap(self) -> Tensor:
        """‖w − u‖²; 0 before the first step, at which u is w."""
        pairs = [(weight.parameter, weight.extra["u"]) for weight in self.weights if "u" in weight.extra]
        if not pairs:
            return self.weights[0].parameter.new_zeros(()).real
        differences = torch._foreach_sub(*map(list, zip(*pairs, strict=True)))
        return _stacked(torch._foreach_norm(differences)).square().sum()

    def _lasso_value(self) -> Tensor | float:
        values = [
            penalty.value(weight.parameter).sum()
            for penalty, weight in zip(self._lasso, self.weights, strict=False)
            if penalty is not None
        ]
        return self.group_lasso * _stacked(values).sum() if values else 0.0

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        rates = [options[id(w.parameter)]["lr"] for w in self.weights if not is_adaptive(optimizer, w.parameter)]
        self.beta_limit = 0.5 / max(float(rate) for rate in rates) if rates and max(rates) > 0 else math.inf
        last = self.course.is_last
        if self.step_count % self.every and not last:
            return
        if self.course.wanted is not None and (self.step_count % SOLVE_EVERY < self.every or last):
            self.prox_step = self._step_for(self.course.wanted)
        if self.course.target is not None:
            self.base_strength = self.beta * self.prox_step
        step = self.strength / self.beta
        for weight, values in zip(self.weights, self._shrunk(step), strict=True):
            weight.extra["u"] = values

    def _shrunk(self, step: float) -> Sequence[Tensor]:
        """The proximal map at every weight; all of them at once where numbers are treated alike."""
        parameters = [weight.parameter.detach() for weight in self.weights]
        if step <= 0:
            return [parameter.clone() for parameter in parameters]
        if self._together and len({(parameter.device, parameter.dtype) for parameter in parameters}) == 1:
            flat = self.penalty.prox(torch.cat([parameter.flatten() for parameter in parameters]), step)
            parts = flat.split([parameter.numel() for parameter in parameters])
            return [part.reshape(p.shape) for part, p in zip(parts, parameters, strict=True)]
        return [weight.penalty.prox(p, step) for weight, p in zip(self.weights, parameters, strict=True)]

    def sparse(self, weight: Weight) -> Tensor:
        dense = weight.parameter.detach()
        if self.strength == 0 and "u" not in weight.extra:
            return dense
        return weight.extra["u"] if "u" in weight.extra else weight.penalty.prox(dense, self.strength / self.beta)

    # The strength that meets a target

    def _step_for(self, share: float) -> float:
        """The smallest step of the proximal map that makes this share of the numbers 0."""
        count = round(share * sum(weight.parameter.numel() for weight in self.weights))
        if count == 0:
            return 0.0
        if self._together:
            device = self.weights[0].parameter.device
            values = torch.cat([_magnitude(weight.parameter).flatten().to(device) for weight in self.weights])
            return float(self._inverse(self.penalty)(values.kthvalue(count).values))
        if not all(_has_threshold(weight.penalty) for weight in self.weights):
            return self._searched(count)
        steps, numbers = zip(*map(self._critical, self.weights), strict=True)
        order = torch.cat(steps).sort()
        zeros = torch.cat(numbers)[order.indices].cumsum(0)
        return float(order.values[(zeros - count).abs().argmin()])

    def _searched(self, count: int) -> float:
        """The step by bisection of its logarithm, starting from the one that there was."""
        middle, factor = max(self.prox_step, 1e-9), 4.0
        direction = 0
        while factor > 1.001 and 1e-18 < middle < 1e12:
            zeros = count_zeros(self._shrunk(middle))
            if zeros == count:
                break
            turned = direction and (zeros < count) != (direction > 0)
            direction = 1 if zeros < count else -1
            factor = factor**0.5 if turned or factor < 4 else factor
            middle *= factor**direction
        return middle

    def _critical(self, weight: Weight) -> tuple[Tensor, Tensor]:
        """The steps at which the numbers or groups of a weight become 0, and how many numbers each has."""
        penalty, values = weight.penalty, _magnitude(weight.parameter)
        if not isinstance(penalty, Grouped):
            return self._inverse(penalty)(values).flatten(), torch.ones(values.numel())
        norms = penalty.grouping.norm(values)
        factors = penalty._weights(values.shape, norms).expand(norms.shape).double().cpu()
        sizes = torch.as_tensor(penalty.grouping.size(values.shape)).expand(norms.shape)
        return (self._inverse(penalty.penalty)(norms) / factors).flatten(), sizes.flatten()

    def _inverse(self, penalty: Penalty) -> "_Inverse":
        key = L1() if isinstance(penalty, L1MinusL2) else penalty  # which too sends to 0 what is not above the step
        if key not in self._inverses:
            self._inverses[key] = _Inverse(key)
        return self._inverses[key]

    # What can be said of it

    @torch.no_grad()
    def lagrangian(self, task_loss: float = 0.0) -> float:
        """L_β(w, u), with the group lasso if there is one.

        Parameters
        ----------
        task_loss : float
            f(w), which is not known here.
        """
        return float(task_loss) + sum(self._terms().values())

    def _terms(self) -> dict[str, float]:
        pairs = [(weight.penalty, self.sparse(weight)) for weight in self.weights]
        value = sum(float(penalty.value(sparse).sum()) for penalty, sparse in pairs)
        terms = {"penalty": self.strength * value, "coupling": self.beta / 2 * float(self._squared_gap())}
        return terms | ({"group_lasso": 0.0 if self.masks else float(self._lasso_value())} if self._lasso else {})

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """Besides sparsity and strength: β, and the terms of the Lagrangian that are known without the task's loss."""
        return super().figures() | {"beta": self.beta} | self._terms()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"beta_limit": self.beta_limit, "prox_step": self.prox_step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.beta_limit, self.prox_step = state["beta_limit"], state["prox_step"]


class _Inverse:
    """The inverse of a penalty's threshold, to three digits at kinks and to five elsewhere: read from a table.

    Between its entries it is a power law, which is exact for l1 and l0.
    """

    def __init__(self, penalty: Penalty):
        steps = torch.logspace(-18, 12, 3001, dtype=torch.float64)
        self.steps, self.thresholds = steps.log().numpy(), penalty.threshold(steps).log().numpy()

    def __call__(self, magnitudes: Tensor) -> Tensor:
        logs = np.log(np.maximum(magnitudes.double().cpu().numpy(), 1e-30))
        # a little more, for the threshold itself becomes 0, and rounding must not prevent that
        return torch.from_numpy(np.asarray(np.exp(np.interp(logs, self.thresholds, self.steps)) * (1 + 1e-6)))


def _magnitude(parameter: Tensor) -> Tensor:
    magnitude = parameter.detach().abs()
    return magnitude.float() if magnitude.dtype in (torch.bfloat16, torch.float16) else magnitude


def _stacked(numbers: Sequence[Tensor]) -> Tensor:
    """Scalars, of several devices if need be, as one tensor."""
    return torch.stack([number.to(numbers[0]) for number in numbers])


def _has_threshold(penalty: Penalty) -> bool:
    """Whether one step decides which numbers or groups become 0, by their magnitude alone."""
    if isinstance(penalty, Grouped):
        return is_uniform(penalty.penalty)
    return is_uniform(penalty) or (isinstance(penalty, L1MinusL2) and not isinstance(penalty.alpha, Tensor))
