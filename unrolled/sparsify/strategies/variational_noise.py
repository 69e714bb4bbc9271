"""Variational dropout: noise on weights whose variance is learned."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from unrolled.penalties import Penalty, VariationalDropout, VariationalDropoutFit
from unrolled.sparsify.groups import ungrouped
from unrolled.sparsify.machinery.arguments import between, number
from unrolled.sparsify.machinery.capture import kept_entries
from unrolled.sparsify.machinery.dropout_rule import cut
from unrolled.sparsify.machinery.hooks import WeightHooks
from unrolled.sparsify.machinery.learned_parameters import learned, per_group
from unrolled.sparsify.selection import Weight
from unrolled.sparsify.sparsifier import Sparsifier
from unrolled.system.devices import full_precision

_FIT = VariationalDropoutFit()
_LARGEST = 8.0  # of |log α|, as Molchanov et al. clip it


class VariationalNoise(Sparsifier):
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
    acts_in_forward = True
    captures = True

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty = _FIT,
        strength: float | None = None,
        *,
        parametrisation: Literal["additive", "local", "plain"] = "additive",
        initial: float = -5.0,
        cutoff: float = 0.05,
        **options: Any,
    ):
        super().__init__(model, penalty, strength, **options)
        if parametrisation not in ("additive", "local", "plain"):
            raise ValueError(
                f"VariationalNoise: parametrisation must be 'additive', 'local' or 'plain', got {parametrisation!r}"
            )
        self.additive, self.local = parametrisation == "additive", parametrisation != "plain"
        self.initial = number("VariationalNoise", "initial", initial, "a finite number", math.isfinite)
        self.cutoff = between("VariationalNoise", "cutoff", cutoff)

    def check_penalty(self, penalty: Penalty) -> None:
        super().check_penalty(penalty)
        if not isinstance(ungrouped(penalty), (VariationalDropout, VariationalDropoutFit)):
            raise ValueError(
                "VariationalNoise: penalty must be VariationalDropoutFit() or VariationalDropout(), whose dual is the "
                f"divergence, got {penalty!r}; AdaptiveDropout takes others"
            )

    def initial_strength(self) -> float:
        return 1e-5

    def attach(self) -> None:
        self.learned = {weight.name: learned(per_group(weight, self.initial)) for weight in self.weights}
        local = {weight.module: weight for weight in self.weights if self.local and _has_local_noise(weight)}
        others = [weight for weight in self.weights if local.get(weight.module) is not weight]
        self.hooks = WeightHooks(self.model, others, self.replaced, self.disturbed, local)

    def variance(self, weight: Weight, values: Tensor) -> Tensor:
        """Of the noise, for each number of a weight."""
        log = weight.spread(self.learned[weight.name], outside=-math.inf)
        if self.additive:
            left = kept_entries(weight)
            return (2 * log).exp() if left is None else (2 * log).exp() * left
        return log.clamp(max=_LARGEST).exp() * (values * values.conj()).real

    def eta(self, weight: Weight) -> Tensor:
        """w² / the variance of the noise, for each number of a weight."""
        log = weight.spread(self.learned[weight.name], outside=-math.inf)
        if self.additive:
            ratio = weight.parameter * (-log).exp()
            return (ratio * ratio.conj()).real.clamp(math.exp(-_LARGEST), math.exp(_LARGEST))
        return (-log).clamp(-_LARGEST, _LARGEST).exp()

    def loss_now(self) -> Tensor:
        total = super().loss_now()
        for weight in self.weights:
            total = total + _Divergence.apply(self.eta(weight), ungrouped(self.penalty), kept_entries(weight))
        return self.strength * total

    def ranking(self, weight: Weight) -> Tensor:
        with torch.no_grad():
            eta, grouping = self.eta(weight), weight.grouping
            return eta if grouping is None else (grouping.sum(eta) / grouping.size(eta.shape)).to(eta)

    def zeroed(self, weight: Weight) -> Tensor:
        eta = weight.spread(self.ranking(weight))
        return cut(weight.parameter.detach(), eta / (eta + 1), self.cutoff)

    def replaced(self, weight: Weight, values: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """The values of a weight with noise; nothing else in evaluation mode, without a generator."""
        if generator is None:
            return None
        noise = torch.randn(values.shape, generator=generator, dtype=values.dtype, device=values.device)
        log = weight.spread(self.learned[weight.name], outside=-math.inf)
        if self.additive:
            left = kept_entries(weight)
            return values + (log.exp() if left is None else log.exp() * left).to(noise) * noise
        return values * (1 + (log.clamp(max=_LARGEST) / 2).exp().to(noise) * noise)

    def disturbed(self, weight: Weight, module: nn.Module, input: Tensor, output: Tensor) -> Tensor:
        """The output with the noise that noise on the weight would give it: of equal mean and variance."""
        # Squares leave the range of half precision
        with full_precision(output):
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


def _has_local_noise(weight: Weight) -> bool:
    """Whether the noise of a weight can be drawn on the output of its layer. Heirs of layers may do something else."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return len(weight.owners) == 1 and type(weight.module) in layers and weight.owners[0][1] == "weight"
