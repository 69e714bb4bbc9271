"""Self-supervision by splitting: one part of the measurements is reconstructed from, the other is to be predicted."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unrolled.networks import UnrolledNetwork
from unrolled.operators import Inpainting, LinearOperator, Scaled
from unrolled.operators.frequencies import near_zero, places_of_frequencies
from unrolled.operators.masked_samples import MaskedSamples
from unrolled.operators.measurement_parts import at_negative, is_centered, tells_negative
from unrolled.training.losses.loss import Loss, reconstruction, with_own


@dataclass(frozen=True)
class SSDU(Loss):
    """Self-supervision via data undersampling (Yaman and others, MRM 2020).

    The samples Ω of every image are split anew in every step: Λ is drawn, Θ is the rest. The network is given those in
    Θ, and is to predict those in Λ: ‖u − v‖₂/‖u‖₂ + ‖u − v‖₁/‖u‖₁, equation 9, with u the measured and v the predicted
    samples in Λ, of each image for itself. It has no units.

    For `MaskedFourier`, `MultiCoilFourier` and `Inpainting` whose mask is less than everything, and multiples of these.
    Where real images tell a frequency's value by that of its negative, both are in the same part.

    Parameters
    ----------
    part : float in (0, 1)
        of the samples that may be drawn, so many are in Λ.
    selection : "uniform" or "gaussian"
        samples in Λ are equally likely, or by a Gaussian density around the zero frequency.
    spread : float > 0
        standard deviation of that density, in parts of the sides.
    center : int >= 0
        frequencies at most so far from zero in both directions are always in Θ; -1: none. Of no meaning for pixels.
    splits : int >= 1
        the mean is taken over so many splits (multi-mask SSDU, Yaman and others, NMR in Biomedicine 2022); the network
        runs once for each.
    """

    part: float = 0.4
    selection: Literal["uniform", "gaussian"] = "uniform"
    spread: float = 0.25
    center: int = 2
    splits: int = 1

    needs_truth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.part < 1:
            raise ValueError(f"SSDU: part must be in (0, 1), got {self.part!r}")
        if self.selection not in ("uniform", "gaussian"):
            raise ValueError(f"SSDU: selection must be 'uniform' or 'gaussian', got {self.selection!r}")
        if not 0 < self.spread < math.inf:
            raise ValueError(f"SSDU: spread must be a finite number > 0, got {self.spread!r}")
        if self.center < -1:
            raise ValueError(f"SSDU: center must be >= -1, got {self.center!r}")
        if self.splits < 1:
            raise ValueError(f"SSDU: splits must be >= 1, got {self.splits!r}")

    def check(self, operator: LinearOperator, noise: float | Tensor | None) -> None:
        samples = self._samples(operator)
        if not bool(self._free(samples).flatten(1).any(1).all()):
            raise ValueError(
                f"SSDU: nothing can be drawn, for all samples of {type(samples).__name__} are in the center; got "
                f"center={self.center!r}"
            )

    def __call__(
        self,
        network: UnrolledNetwork,
        y: Tensor,
        operator: LinearOperator,
        truth: Tensor | None = None,
        *,
        noise: float | Tensor | None = None,
    ) -> Tensor:
        y = network.taken(y)
        losses = []
        for _ in range(self.splits):
            shown, kept = self.split(operator, len(y))
            given = _with_mask(operator, shown)
            image, own = reconstruction(network, given.sampled(y), given, noise)
            # With what the network estimates of the operator from what it was given.
            hidden = _with_mask(network.operator_of(given.sampled(y), given), kept)
            u = hidden.sampled(y)
            losses.append(with_own(_relative_error(hidden(image), u).mean(), own))
        return torch.stack(losses).mean()

    def split(self, operator: LinearOperator, batch: int) -> tuple[Tensor, Tensor]:
        """Masks of Θ and of Λ, drawn with torch's random numbers.

        Parameters
        ----------
        operator : LinearOperator
        batch : int
            images.

        Returns
        -------
        given, hidden : Tensor, (batch, 1, height, width), of 0 and 1
            whose sum is the operator's mask.

        Raises
        ------
        ValueError
            for operators whose measurements are no samples, or of another number of images.
        """
        samples = self._samples(operator)
        if operator.batch not in (None, batch):
            raise ValueError(f"SSDU: the operator measures batches of {operator.batch} images, got {batch}")
        mask = samples.mask
        free = self._free(samples).expand(batch, *mask.shape[-2:])
        # The largest of log p + Gumbel noise are a draw without replacement in proportion to p.
        score = -(-torch.rand(free.shape, dtype=mask.dtype, device=mask.device).log()).log()
        if self.selection == "gaussian":
            places = places_of_frequencies(mask.shape[-2:], is_centered(samples), mask.device)
            score = score - sum((k / self.spread).square() / 2 for k in places)
        if tells_negative(samples):
            score = torch.maximum(score, at_negative(score, samples))
        score = torch.where(free, score, -math.inf)
        count = (self.part * free.flatten(1).sum(1)).round().long().clamp(min=1)
        least = score.flatten(1).sort(descending=True).values.gather(1, count[:, None] - 1)
        hidden = (free & (score >= least.unsqueeze(2))).to(mask.dtype).unsqueeze(1)
        return mask - hidden, hidden

    def _samples(self, operator: LinearOperator) -> MaskedSamples:
        """The operator without factors."""
        if isinstance(operator, Scaled):
            return self._samples(operator.operator)
        if not isinstance(operator, MaskedSamples):
            raise ValueError(
                f"SSDU: needs an operator whose measurements are samples, MaskedFourier, MultiCoilFourier or "
                f"Inpainting, got {type(operator).__name__}"
            )
        if self.selection == "gaussian" and isinstance(operator, Inpainting):
            raise ValueError("SSDU: selection must be 'uniform' for Inpainting, whose samples are no frequencies")
        return operator

    def _free(self, samples: MaskedSamples) -> Tensor:
        """Which samples may be drawn, (1 or batch, height, width)."""
        sampled = samples.mask.reshape(-1, *samples.mask.shape[-2:]) > 0
        if isinstance(samples, Inpainting):
            return sampled
        return sampled & ~near_zero(sampled.shape[-2:], self.center, is_centered(samples), sampled.device)


def _with_mask(operator: LinearOperator, mask: Tensor) -> LinearOperator:
    if isinstance(operator, Scaled):
        return Scaled(_with_mask(operator.operator, mask), operator.factor)
    assert isinstance(operator, MaskedSamples)
    return operator.with_mask(mask)


def _relative_error(v: Tensor, u: Tensor) -> Tensor:
    """‖u − v‖₂/‖u‖₂ + ‖u − v‖₁/‖u‖₁ of every image of a batch."""
    error, size = (u - v).flatten(1), u.flatten(1)
    least = torch.finfo(size.real.dtype).tiny
    norms = (torch.linalg.vector_norm(part, order, 1) for order in (2, 1) for part in (error, size))
    two, of_two, one, of_one = norms
    return two / of_two.clamp(min=least) + one / of_one.clamp(min=least)
