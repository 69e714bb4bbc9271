"""Penalties by reweighting: quadratics whose widths follow the weights, or are learned."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.penalties import Grouped, Penalty
from unrolled.sparsify.machinery.arguments import between, number
from unrolled.sparsify.machinery.dropout_rule import KeepProbability
from unrolled.sparsify.machinery.learned_parameters import learned
from unrolled.sparsify.selection import Weight
from unrolled.sparsify.sparsifier import Sparsifier
from unrolled.system.scalars import whole_number

_FURTHEST = 60.0  # of log η: beyond, single precision ends


class ReweightedTikhonov(Sparsifier):
    """The η-trick: strength·ρ(w) as the quadratic (strength/2)·Σ (w²/η + f(η)), with an η for each weight or group.

    Since ρ(w) = ½ min_η [w²/η + f(η)], this is the penalty itself when η is best, and never less. η follows w in one of
    two ways (LeJeune, Javadi, Baraniuk, "The Flip Side of the Reweighted Coin", NeurIPS 2021, whose runs have
    `LogSum(2)`, strength 1e-3 and Adam):

    - "alternating": η = η̂(w), frozen for some steps; iteratively reweighted least squares. Right after it is frozen,
      its gradient is that of the penalty. With (1 − α)/α = strength/η this is their AdaTikhonov.
    - "joint": log η is learned by the optimiser, along with w; needs the penalty's dual f, with a gradient.

    A weight counts as zero where α = η/(η + strength) < cutoff; with a target, the weights of lowest η are taken out on
    the way, so many as it asks for. Optimisers of Adam's family move such a weight to and fro by a part of their
    learning rate: by the rule, most zeros are counted when that has become small, so let it decay.

    Parameters
    ----------
    model, penalty, strength, target, groups, include, exclude, schedule, fine_tune, steps
        as for every `Sparsifier`.
    update : "alternating" or "joint"
    every : int ≥ 1
        steps for which η is frozen, if alternating.
    floor : float in [0, 1)
        η is at least what belongs to this keep probability, so that the quadratic of a weight near 0 has a finite
        curvature, strength·(1 − floor)/floor; if alternating.
    initial_keep : float in (0, 1)
        keep probability to which the learned η are set at first, if joint: by default log(η/strength) is 5.
    log_eta_weight : float ≥ 0
        c of a term c·log η that is added to f(η), if joint. This is another penalty then, by about (c/2)·log |w|
        larger where |w| is small: it forgets small weights faster. The paper's runs have 1e-3.
    cutoff : float in (0, 1)

    Examples
    --------
    >>> from unrolled.penalties import LogSum
    >>> layer = nn.Linear(3, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[3.0, 1.0, 0.0]]))
    >>> sparsifier = ReweightedTikhonov(layer, LogSum(1), strength=0.1)
    >>> round(sparsifier.loss().item(), 4)  # 0.05 (9/12 + 1/2)
    0.0625
    """

    needs_zeros = False
    captures = True

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty,
        strength: float | None = None,
        *,
        update: Literal["alternating", "joint"] = "alternating",
        every: int = 1,
        floor: float = 1e-3,
        initial_keep: float = 0.9933,
        log_eta_weight: float = 0.0,
        cutoff: float = 0.05,
        **options: Any,
    ):
        super().__init__(model, penalty, strength, **options)
        if update not in ("alternating", "joint"):
            raise ValueError(f"ReweightedTikhonov: update must be 'alternating' or 'joint', got {update!r}")
        name = "ReweightedTikhonov"
        self.joint, self.every = update == "joint", whole_number(f"{name}: every", every)
        self.log_eta_weight = number(
            name, "log_eta_weight", log_eta_weight, "a number >= 0", lambda c: 0 <= c < math.inf
        )
        self.floor = number(name, "floor", floor, ">= 0 and < 1", lambda keep: 0 <= keep < 1)
        self.initial_keep = between("ReweightedTikhonov", "initial_keep", initial_keep)
        self.rule = KeepProbability("ReweightedTikhonov", cutoff)

    def check_penalty(self, penalty: Penalty) -> None:
        super().check_penalty(penalty)
        self.rule.check(penalty, self.weights, None if self.course.target is not None else self.base_strength)
        for weight in self.weights if self.joint else []:
            eta = torch.ones_like(weight.eta).requires_grad_()
            f = dual(weight, eta)
            if not (f.requires_grad and f.isfinite().all()):
                raise ValueError(f"ReweightedTikhonov: the dual of {weight.penalty!r} has no gradient to learn η by")

    def initial_strength(self) -> float:
        return 1e-4

    def attach(self) -> None:
        if self.joint:
            start = math.log(self.base_strength) + math.log(self.initial_keep / (1 - self.initial_keep))
            for weight in self.weights:
                shaped = weight.eta
                dtype = torch.promote_types(shaped.dtype, torch.float32)
                self.learned[weight.name] = learned(torch.full_like(shaped, start, dtype=dtype))

    def loss_now(self) -> Tensor:
        total = super().loss_now()
        if self.strength == 0:
            return total
        for weight in self.weights:
            total = total + (self._joint_terms(weight) if self.joint else self._frozen_terms(weight))
        return self.strength / 2 * total

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        super().act(optimizer, options)
        if (self.step_count + 1) % self.every == 0:
            for weight in self.weights:
                weight.extra.pop("eta", None)  # found anew when it is needed

    def ranking(self, weight: Weight) -> Tensor:
        return self.learned[weight.name] if self.joint else weight.eta

    def zeroed(self, weight: Weight) -> Tensor:
        eta = self._learned_eta(weight).detach() if self.joint else weight.eta
        return self.rule.cut(weight, eta, self.strength)

    def _learned_eta(self, weight: Weight) -> Tensor:
        return self.learned[weight.name].clamp(-_FURTHEST, _FURTHEST).exp()

    def _joint_terms(self, weight: Weight) -> Tensor:
        eta = self._learned_eta(weight)
        own = dual(weight, eta)
        if self.log_eta_weight:
            own = own + self.log_eta_weight * eta.log()
        if "kept" in weight.extra:
            own = own * weight.extra["kept"]
        return (squares(weight.parameter) / weight.spread(eta)).sum() + own.sum()

    def _frozen_terms(self, weight: Weight) -> Tensor:
        if "eta" not in weight.extra:
            weight.extra["eta"] = weight.spread(weight.eta)
        least = self.strength * self.floor / (1 - self.floor)
        eta = weight.extra["eta"].clamp(min=max(least, torch.finfo(weight.extra["eta"].dtype).tiny))
        return (squares(weight.parameter) / eta).sum()


def dual(weight: Weight, eta: Tensor) -> Tensor:
    """f(η) of its penalty."""
    assert weight.penalty is not None
    if isinstance(weight.penalty, Grouped):
        return weight.penalty.dual(eta, weight.parameter.shape)
    return weight.penalty.dual(eta)


def squares(w: Tensor) -> Tensor:
    """|w|²."""
    return (w * w.conj()).real if w.is_complex() else w.square()
