"""Noise on weights: the dropout that a penalty amounts to, and noise that is learned."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.optim import Optimizer

from unrolled.penalties import (
    Grouped,
    HardConcrete,
    Penalty,
    VariationalDropout,
    VariationalDropoutFit,
    adaptive_dropout_mask,
)
from unrolled.sparsify.groups import Groups, grouping_of
from unrolled.sparsify.hooks import WeightHooks
from unrolled.sparsify.learned import Learning, learned
from unrolled.sparsify.reweighted import ByKeepProbability, between, cut, entries
from unrolled.sparsify.schedules import Schedule
from unrolled.sparsify.selection import Weight
from unrolled.sparsify.sparsifier import Sparsifier

_FIT, _HARD_CONCRETE = VariationalDropoutFit(), HardConcrete()
_LARGEST = 8.0  # of |log α|, as Molchanov et al. clip it
_CRACK = 1e-3  # by which gates are open at least, with a target


class _WhileRunning(Sparsifier):
    """Strategies that replace weights while the model runs; see `WeightHooks`."""

    acts_in_forward = True

    @abstractmethod
    def replaced(self, weight: Weight, values: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """What is used instead of the values of a weight; without a generator, in evaluation mode."""

    def attach(self) -> None:
        super().attach()
        self.hooks = self.hooked()

    def hooked(self) -> WeightHooks:
        """The hooks that do it."""
        return WeightHooks(self.model, self.weights, self.replaced)

    def detach(self) -> None:
        self.hooks.remove()

    def loss_now(self) -> Tensor:
        self.hooks.clear()
        return super().loss_now()

    @contextmanager
    def _silent(self) -> Iterator[None]:
        enabled, self.hooks.enabled = self.hooks.enabled, False
        try:
            yield
        finally:
            self.hooks.enabled = enabled


class AdaptiveDropout(_WhileRunning, ByKeepProbability):
    """The dropout that a penalty amounts to: in training each weight is multiplied by noise of mean 1 and variance
    strength/η̂(w).

    On a least-squares problem with columns of unit norm, ½‖Xw − y‖² with such noise is in expectation that problem plus
    (strength/2)·Σ w²/η̂, whose gradient is that of strength·Σ ρ(w) (LeJeune, Javadi, Baraniuk, "The Flip Side of the
    Reweighted Coin", NeurIPS 2021). With any other loss it is weighted by the curvature of the loss: a strength that
    suits a penalty in a mean loss is too small here, for there the curvature is much below 1.

    In evaluation mode the weights are as they are: the mean of the noisy ones. A weight counts as zero where its keep
    probability α = η̂/(η̂ + strength) < cutoff; with a target, the weights of lowest η̂ are taken out on the way. With a
    penalty on groups, α belongs to the group; the noise of the weights in it is independent.

    Nothing is added to the loss. Masks come from torch's global generator (see `WeightHooks`).

    Parameters
    ----------
    model, penalty, strength, target, groups, include, exclude, schedule, fine_tune, steps
        as for every `Sparsifier`.
    noise : "bernoulli" or "gaussian"
        1/α with probability α, else 0; or normal.
    cutoff : float in (0, 1)
    """

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty,
        strength: float | None = None,
        *,
        noise: Literal["bernoulli", "gaussian"] = "bernoulli",
        cutoff: float = 0.05,
        target: float | None = None,
        groups: Groups | None = None,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        schedule: Schedule | None = None,
        fine_tune: float = 0.0,
        steps: int | None = None,
    ):
        if noise not in ("bernoulli", "gaussian"):
            raise ValueError(f"AdaptiveDropout: noise must be 'bernoulli' or 'gaussian', got {noise!r}")
        self.noise = noise
        super().__init__(
            model,
            penalty,
            strength,
            cutoff=cutoff,
            target=target,
            groups=groups,
            include=include,
            exclude=exclude,
            schedule=schedule,
            fine_tune=fine_tune,
            steps=steps,
        )

    def initial_strength(self) -> float:
        return 1e-2

    def replaced(self, weight: Weight, values: Tensor, generator: torch.Generator | None) -> Tensor | None:
        if generator is None or self.strength == 0:
            return None
        assert weight.penalty is not None
        return values * adaptive_dropout_mask(weight.penalty, values.detach(), self.strength, self.noise, generator)


class VariationalNoise(Learning, _WhileRunning):
    """Variational dropout: each weight has normal noise whose variance is learned, at the cost of its divergence from a
    log-uniform prior.

    The loss is (task loss with noise) + strength·Σ KL. With a task loss that is a mean over the batch, the variational
    bound belongs to strength 1/N, N the number of training samples. KL = f(η)/2 is read off the dual of the penalty,
    where 1/η is the variance of the noise relative to w²; it is 0 for infinite noise. It helps to let the strength
    begin at 0, with `schedule=WarmUp(…)`.

    A weight counts as zero where the noise is so large that the dropout of the same variance would hardly keep it:
    η/(η + 1) < cutoff, for .05 log(1/η) > 2.944; with a target, those of most noise are taken out on the way. In
    evaluation mode the weights are as they are: the mean of the noisy ones. Put the learned parameters into the
    optimiser without weight decay, and in runs of few steps with a larger learning rate: from its initial −5 log α has
    a long way to go.

    Parameters
    ----------
    model, strength, target, groups, include, exclude, schedule, fine_tune, steps
        as for every `Sparsifier`. The weights of a group share their noise's parameter, and fall together.
    penalty : VariationalDropoutFit or VariationalDropout
    parametrisation : "additive", "local" or "plain"
        - "plain": w(1 + √α ε), log α is learned for each weight (Kingma, Salimans, Welling, NeurIPS 2015).
        - "local": the same noise, drawn on the outputs of linear and convolutional layers, where it has less variance
          (local reparametrisation): one draw for each output and sample.
        - "additive": as local, but with w + σε, log σ is learned: no noise in the gradient of w (Molchanov, Ashukha,
          Vetrov, ICML 2017).
        Weights that are tied, or belong to other layers, get noise themselves in all three.
    initial : float
        log α, or log σ, at first.
    cutoff : float in (0, 1)

    Examples
    --------
    >>> layer = nn.Linear(20, 10)
    >>> sparsifier = VariationalNoise(layer, strength=1 / 60_000)
    >>> optimizer = torch.optim.Adam([*layer.parameters(), *sparsifier.parameters()])
    """

    needs_zeros = False

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty = _FIT,
        strength: float | None = None,
        *,
        parametrisation: Literal["additive", "local", "plain"] = "additive",
        initial: float = -5.0,
        cutoff: float = 0.05,
        target: float | None = None,
        groups: Groups | None = None,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        schedule: Schedule | None = None,
        fine_tune: float = 0.0,
        steps: int | None = None,
    ):
        if parametrisation not in ("additive", "local", "plain"):
            raise ValueError(
                f"VariationalNoise: parametrisation must be 'additive', 'local' or 'plain', got {parametrisation!r}"
            )
        if isinstance(initial, bool) or not isinstance(initial, (int, float)) or not math.isfinite(initial):
            raise ValueError(f"VariationalNoise: initial must be a finite number, got {initial!r}")
        self.additive, self.local, self.initial = parametrisation == "additive", parametrisation != "plain", initial
        self.cutoff = between("cutoff", self, cutoff)
        self.learned = {}
        super().__init__(
            model,
            penalty,
            strength,
            target=target,
            groups=groups,
            include=include,
            exclude=exclude,
            schedule=schedule,
            fine_tune=fine_tune,
            steps=steps,
        )

    def check_penalty(self, penalty: Penalty) -> None:
        super().check_penalty(penalty)
        if not isinstance(_alone(penalty), (VariationalDropout, VariationalDropoutFit)):
            raise ValueError(
                "VariationalNoise: penalty must be VariationalDropoutFit() or VariationalDropout(), whose dual is the "
                f"divergence, got {penalty!r}; AdaptiveDropout takes others"
            )

    def initial_strength(self) -> float:
        return 1e-5

    def attach(self) -> None:
        for weight in self.weights:
            self.learned[weight.name] = learned(_per_group(weight, self.initial))
        super().attach()

    def hooked(self) -> WeightHooks:
        local = {weight.module: weight for weight in self.weights if self.local and _has_local_noise(weight)}
        others = [weight for weight in self.weights if local.get(weight.module) is not weight]
        return WeightHooks(self.model, others, self.replaced, self.disturbed, local)

    def variance(self, weight: Weight, values: Tensor) -> Tensor:
        """Of the noise, for each number of a weight."""
        log = entries(weight, self.learned[weight.name], outside=-math.inf)
        if self.additive:
            left = self.left(weight)
            return (2 * log).exp() if left is None else (2 * log).exp() * left
        return log.clamp(max=_LARGEST).exp() * (values * values.conj()).real

    def eta(self, weight: Weight) -> Tensor:
        """w² / the variance of the noise, for each number of a weight."""
        log = entries(weight, self.learned[weight.name], outside=-math.inf)
        if self.additive:
            ratio = weight.parameter * (-log).exp()
            return (ratio * ratio.conj()).real.clamp(math.exp(-_LARGEST), math.exp(_LARGEST))
        return (-log).clamp(-_LARGEST, _LARGEST).exp()

    def loss_now(self) -> Tensor:
        total = super().loss_now()
        for weight in self.weights:
            total = total + _Divergence.apply(self.eta(weight), _alone(self.penalty), self.left(weight))
        return self.strength * total

    def ranking(self, weight: Weight) -> Tensor:
        with torch.no_grad():
            eta, grouping = self.eta(weight), grouping_of(weight.penalty)
            return eta if grouping is None else (grouping.sum(eta) / grouping.size(eta.shape)).to(eta)

    def zeroed(self, weight: Weight) -> Tensor:
        eta = entries(weight, self.ranking(weight))
        return cut(weight.parameter.detach(), eta / (eta + 1), self.cutoff)

    def replaced(self, weight: Weight, values: Tensor, generator: torch.Generator | None) -> Tensor | None:
        if generator is None:
            return None
        noise = torch.randn(values.shape, generator=generator, dtype=values.dtype, device=values.device)
        log = entries(weight, self.learned[weight.name], outside=-math.inf)
        if self.additive:
            left = self.left(weight)
            return values + (log.exp() if left is None else log.exp() * left).to(noise) * noise
        return values * (1 + (log.clamp(max=_LARGEST) / 2).exp().to(noise) * noise)

    def disturbed(self, weight: Weight, module: nn.Module, input: Tensor, output: Tensor) -> Tensor:
        """The output with the noise that noise on the weight would give it: of equal mean and variance."""
        # Squares leave the range of half precision
        with torch.autocast(output.device.type, enabled=False):
            variance = self.variance(weight, module.weight).float()  # type: ignore[arg-type]
            square = input.to(variance.dtype).square()
            if isinstance(module, nn.Linear):
                spread = F.linear(square, variance)
            else:
                spread = module._conv_forward(square, variance, None)  # type: ignore[operator]
            noise = torch.randn_like(spread) * (spread + 1e-8).sqrt()
        return output + noise.to(output.dtype)


class _Divergence(torch.autograd.Function):
    """Σ f(η)/2 of variational dropout, of those that are left.

    Its penalties know f' along with f: so nothing is recorded to be gone back.
    """

    @staticmethod
    def forward(
        ctx: Any, eta: Tensor, penalty: VariationalDropout | VariationalDropoutFit, left: Tensor | None
    ) -> Tensor:
        f, slope = penalty._dual(eta)  # η is within bounds: single precision is enough
        if left is not None:
            f, slope = f * left, slope * left
        ctx.save_for_backward(slope)
        return f.sum() / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return gradient / 2 * slope, None, None


class HardConcreteGates(Learning, _WhileRunning):
    """Random gates on weights or groups, 0 with a learned probability, at the cost of how many weights are expected to
    be other than 0 (Louizos, Welling, Kingma, "Learning sparse neural networks through L0 regularization", ICLR 2018).

    The loss is (task loss with random gates) + strength·Σ P(gate > 0), a group counting as many times as it has
    weights. Gates are hard concrete with the β, γ and ζ of the penalty, whose face they are; their location log a is
    learned, and kept in [log .01, log 100].

    In evaluation mode, and for good by `finalize`, weights are multiplied by min(1, max(0, σ(log a)(ζ − γ) + γ)), which
    is 0 where the gate is closed. With a target those whose gates are least open are taken out on the way, and gates
    that would close before stay open by a thousandth. Copies of the model, among them averaged ones, have no gates. Put
    the learned parameters into the optimiser without weight decay, in runs of few steps with a larger learning rate.

    Parameters
    ----------
    model, strength, target, groups, include, exclude, schedule, fine_tune, steps
        as for every `Sparsifier`. A group has one gate.
    penalty : HardConcrete
    initial_keep : float in (0, 1)
        σ(log a) at first. Take .9 or more for a model that was trained before: its weights are multiplied by the gates.

    Examples
    --------
    >>> from unrolled.penalties import Filters
    >>> model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(128, 10))
    >>> sparsifier = HardConcreteGates(model, strength=1e-6, groups=Filters(), include="0")
    >>> [tuple(parameter.shape) for parameter in sparsifier.parameters()]
    [(8, 1, 1, 1)]
    """

    needs_zeros = False

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty = _HARD_CONCRETE,
        strength: float | None = None,
        *,
        initial_keep: float = 0.5,
        target: float | None = None,
        groups: Groups | None = None,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        schedule: Schedule | None = None,
        fine_tune: float = 0.0,
        steps: int | None = None,
    ):
        self.initial_keep = between("initial_keep", self, initial_keep)
        self.learned = {}
        super().__init__(
            model,
            penalty,
            strength,
            target=target,
            groups=groups,
            include=include,
            exclude=exclude,
            schedule=schedule,
            fine_tune=fine_tune,
            steps=steps,
        )

    def check_penalty(self, penalty: Penalty) -> None:
        super().check_penalty(penalty)
        gate = _alone(penalty)
        if not isinstance(gate, HardConcrete):
            raise ValueError(f"HardConcreteGates: penalty must be HardConcrete(…), got {penalty!r}")
        if not all(isinstance(number, (int, float)) for number in (gate.beta, gate.gamma, gate.zeta)):
            raise ValueError(f"HardConcreteGates: the numbers of the penalty must be no tensors, got {penalty!r}")
        self._beta, self._gamma, self._zeta = float(gate.beta), float(gate.gamma), float(gate.zeta)

    def initial_strength(self) -> float:
        return 1e-6

    def attach(self) -> None:
        start = math.log(self.initial_keep / (1 - self.initial_keep))
        for weight in self.weights:
            self.learned[weight.name] = learned(_per_group(weight, start))
        super().attach()

    def open_probability(self, weight: Weight) -> Tensor:
        """P(gate > 0), of each gate of a weight."""
        return torch.sigmoid(self.learned[weight.name] - self._beta * math.log(-self._gamma / self._zeta))

    def loss_now(self) -> Tensor:
        total = super().loss_now()
        for weight in self.weights:
            grouping = grouping_of(weight.penalty)
            size = 1 if grouping is None else grouping.size(weight.parameter.shape)
            open_now = self.open_probability(weight)
            size = size.to(open_now) if isinstance(size, Tensor) else size
            if "kept" in weight.extra:
                size = size * weight.extra["kept"]
            total = total + (size * open_now).sum()
        return self.strength * total

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        super().act(optimizer, options)
        for location in self.parameters():
            location.clamp_(math.log(0.01), math.log(100))

    def ranking(self, weight: Weight) -> Tensor:
        return self.learned[weight.name].detach()

    def zeroed(self, weight: Weight) -> Tensor:
        with torch.no_grad():
            return self._gated(weight, weight.parameter, torch.sigmoid(self.learned[weight.name]))

    def sparse(self, weight: Weight) -> Tensor:
        with torch.no_grad():
            return self.replaced(weight, weight.parameter, None)

    def replaced(self, weight: Weight, values: Tensor, generator: torch.Generator | None) -> Tensor:
        location = self.learned[weight.name]
        if generator is None:
            # What is closed without being captured shall not be counted
            return self._gated(weight, values, torch.sigmoid(location), 0.0 if self.target is None else _CRACK)
        uniform = torch.rand(location.shape, generator=generator, dtype=location.dtype, device=location.device)
        return self._gated(weight, values, torch.sigmoid((torch.logit(uniform, eps=1e-6) + location) / self._beta))

    def _gated(self, weight: Weight, values: Tensor, concrete: Tensor, least: float = 0.0) -> Tensor:
        gate = (self._gamma + (self._zeta - self._gamma) * concrete).clamp(least, 1)
        return values * entries(weight, gate, outside=1.0).to(values.real.dtype if values.is_complex() else values)


def _alone(penalty: Penalty) -> Penalty:
    """The penalty of single numbers: a group only shares what is learned."""
    return penalty.penalty if isinstance(penalty, Grouped) else penalty


def _per_group(weight: Weight, number: float) -> Tensor:
    """The number once for each group of a weight, or for each of its entries; real, and not in half precision."""
    parameter = weight.parameter
    grouping = weight.penalty.grouping if isinstance(weight.penalty, Grouped) else None
    shape = parameter.shape if grouping is None else grouping.shape(parameter.shape)
    dtype = torch.promote_types(parameter.real.dtype if parameter.is_complex() else parameter.dtype, torch.float32)
    return torch.full(shape, number, dtype=dtype, device=parameter.device)


def _has_local_noise(weight: Weight) -> bool:
    """Whether the noise of a weight can be drawn on the output of its layer. Heirs of layers may do something else."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return len(weight.owners) == 1 and type(weight.module) in layers and weight.owners[0][1] == "weight"
