"""Losses that compare reconstructions with the true images."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from unrolled.metrics import structural_similarity
from unrolled.networks import UnrolledNetwork, mean_square
from unrolled.operators import LinearOperator
from unrolled.system.scalars import plain_number
from unrolled.training.losses.loss import Loss, reconstruction, with_own

LEAST = 1e-12
"""Instead of 0, where something is divided by the largest magnitude of an image."""


@dataclass(frozen=True)
class ImageLoss(Loss):
    """A distance between images, the mean over pixels, channels and batch, in units in which white is 1.

    |x| is the magnitude of complex images.
    """

    needs_truth: ClassVar[bool] = True

    @abstractmethod
    def distance(self, image: Tensor, truth: Tensor) -> Tensor:
        """The distance of reconstructions to the true images, (batch, channel, height, width) both; a scalar."""

    def __call__(
        self,
        network: UnrolledNetwork,
        y: Tensor,
        operator: LinearOperator,
        truth: Tensor | None = None,
        *,
        noise: float | Tensor | None = None,
    ) -> Tensor:
        truth = self.given(truth)
        image, own = reconstruction(network, y, operator, noise)
        return with_own(self.between(*network.compared(image, truth, operator)), own)

    def given(self, truth: Tensor | None) -> Tensor:
        """The truth, which must be there."""
        if truth is None:
            raise ValueError(
                f"{type(self).__name__}: truth must be the true images, got None; losses that learn from measurements "
                "alone are SSDU, SURE, PURE, EquivariantImaging"
            )
        return truth

    def between(self, image: Tensor, truth: Tensor) -> Tensor:
        """The distance of images whose shapes are looked at, for those of two shapes might be broadcast."""
        if image.shape != truth.shape:
            raise ValueError(
                f"{type(self).__name__}: truth must be like the reconstruction, {tuple(image.shape)}, got "
                f"{tuple(truth.shape)}"
            )
        return self.distance(image, truth)


@dataclass(frozen=True)
class MSELoss(ImageLoss):
    """The mean of |x̂ − x|²: what networks are trained by if nothing is said."""

    def distance(self, image: Tensor, truth: Tensor) -> Tensor:
        return mean_square(image - truth)


@dataclass(frozen=True)
class L1Loss(ImageLoss):
    """The mean of |x̂ − x|."""

    def distance(self, image: Tensor, truth: Tensor) -> Tensor:
        return (image - truth).abs().mean()


@dataclass(frozen=True)
class HuberLoss(ImageLoss):
    """The mean of ½|d|² where |d| ≤ δ, and δ(|d| − ½δ) beyond, d = x̂ − x (Huber, 1964).

    Parameters
    ----------
    delta : float > 0
        δ, in the units of images.
    """

    delta: float = 0.1

    def __post_init__(self) -> None:
        _check_positive(self, "delta", self.delta)

    def distance(self, image: Tensor, truth: Tensor) -> Tensor:
        error = (image - truth).abs()
        return functional.huber_loss(error, torch.zeros_like(error), delta=self.delta)


@dataclass(frozen=True)
class CharbonnierLoss(ImageLoss):
    """The mean of √(|x̂ − x|² + ε²), smooth at 0 (Charbonnier and others, ICIP 1994).

    Parameters
    ----------
    epsilon : float > 0
        ε, in the units of images.
    """

    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        _check_positive(self, "epsilon", self.epsilon)

    def distance(self, image: Tensor, truth: Tensor) -> Tensor:
        return (_squares(image - truth) + self.epsilon**2).sqrt().mean()


@dataclass(frozen=True)
class LogMSELoss(ImageLoss):
    """The mean over the images of a batch of ln(mse + ε), mse the mean of |x̂ − x|² of an image.

    Without ε it is that of −PSNR, but for a factor and the peak: an image counts as much as another one whose error is
    a hundred times larger, as it does in a mean of PSNR (used so by Chen and others, "HINet", CVPR workshops 2021).

    Parameters
    ----------
    floor : float > 0
        ε, in squares of the units of images: better than it no image needs to be.
    """

    floor: float = 1e-6

    def __post_init__(self) -> None:
        _check_positive(self, "floor", self.floor)

    def distance(self, image: Tensor, truth: Tensor) -> Tensor:
        return (_squares(image - truth).mean((1, 2, 3)) + self.floor).log().mean()


@dataclass(frozen=True)
class SSIMLoss(ImageLoss):
    """1 − SSIM, the mean over the images of a batch (Wang and others, 2004), of magnitudes if they are complex.

    The structural similarity of `unrolled.metrics.ssim`, but nothing is clipped, so every pixel has a gradient.

    Parameters
    ----------
    window : int >= 2
        side of its uniform window in pixels.
    peak : float > 0, or "max"
        what is white; "max" is the largest magnitude of each true image.
    """

    window: int = 7
    peak: float | Literal["max"] = 1.0

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ValueError(f"SSIMLoss: window must be >= 2, got {self.window!r}")
        if isinstance(self.peak, str) and self.peak != "max":
            raise ValueError(f"SSIMLoss: peak must be a finite number > 0 or 'max', got {self.peak!r}")
        if not isinstance(self.peak, str):
            _check_positive(self, "peak", self.peak)

    def distance(self, image: Tensor, truth: Tensor) -> Tensor:
        if min(image.shape[-2:]) < self.window:
            raise ValueError(f"SSIMLoss: window must be within the images, {tuple(image.shape)}, got {self.window}")
        pair = [x.abs() if x.is_complex() else x for x in (image, truth)]
        white = pair[1].abs().amax((1, 2, 3), keepdim=True).clamp(min=LEAST) if self.peak == "max" else self.peak
        return 1 - structural_similarity(pair[0] / white, pair[1] / white, self.window).mean()


@dataclass(frozen=True)
class EdgeLoss(ImageLoss):
    """The mean of |∇x̂ − ∇x| over both directions, ∇ the difference of neighbouring pixels: edges must agree."""

    def distance(self, image: Tensor, truth: Tensor) -> Tensor:
        if min(image.shape[-2:]) < 2:
            raise ValueError(f"EdgeLoss: images must be at least 2 pixels wide and high, got {tuple(image.shape)}")
        error = image - truth
        return (error.diff(dim=-2).abs().mean() + error.diff(dim=-1).abs().mean()) / 2


@dataclass(frozen=True)
class WeightedSum(ImageLoss):
    """Σ wᵢ·lossᵢ of distances between the same images.

    Parameters
    ----------
    losses : list of ImageLoss
    weights : list of float >= 0
        one for each, not all of them 0.
    """

    losses: Sequence[ImageLoss]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        for loss in self.losses:
            if not isinstance(loss, ImageLoss):
                raise ValueError(
                    f"WeightedSum: losses must compare images, as MSELoss or SSIMLoss does, got {loss!r:.200}"
                )
        weights = [plain_number("WeightedSum: weights", weight, float) for weight in self.weights]
        if len(weights) != len(self.losses) or not any(weights):
            raise ValueError(
                f"WeightedSum: weights must be {len(self.losses)} numbers >= 0, one for each loss and not all 0, got "
                f"{weights}"
            )
        for weight in weights:
            if not 0 <= weight < math.inf:
                raise ValueError(f"WeightedSum: weights must be finite numbers >= 0, got {weight!r}")
        object.__setattr__(self, "losses", tuple(self.losses))
        object.__setattr__(self, "weights", tuple(weights))

    def distance(self, image: Tensor, truth: Tensor) -> Tensor:
        parts = [weight * loss.distance(image, truth) for loss, weight in zip(self.losses, self.weights, strict=True)]
        return torch.stack(parts).sum()


@dataclass(frozen=True)
class PhaseLoss(Loss):
    """A loss of the image after every phase k = 1 … K: Σ wₖ·loss(xₖ)/Σ wₖ with wₖ = decay^(K−k) (deep supervision).

    Earlier phases have a gradient of their own (Lee and others, "Deeply-supervised nets", AISTATS 2015), and the last
    one counts most.

    Parameters
    ----------
    loss : ImageLoss
    decay : float in (0, 1]
        how much a phase counts, against the one after it.
    """

    loss: ImageLoss
    decay: float = 0.5

    needs_truth: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.loss, ImageLoss):
            raise ValueError(
                f"PhaseLoss: loss must compare images, as MSELoss or SSIMLoss does, got {self.loss!r:.200}"
            )
        if not 0 < self.decay <= 1:
            raise ValueError(f"PhaseLoss: decay must be in (0, 1], got {self.decay!r}")

    def __call__(
        self,
        network: UnrolledNetwork,
        y: Tensor,
        operator: LinearOperator,
        truth: Tensor | None = None,
        *,
        noise: float | Tensor | None = None,
    ) -> Tensor:
        truth, told = self.loss.given(truth), noise if network.takes_noise else None
        images, own = network.in_training(y, operator, noise=told, every_phase=True)
        weights = [self.decay ** (len(images) - 1 - k) for k in range(len(images))]
        pairs = [network.compared(image, truth, operator) for image in images]
        terms = [weight * self.loss.between(*pair) for weight, pair in zip(weights, pairs, strict=True)]
        return with_own(torch.stack(terms).sum() / sum(weights), own)


def _squares(error: Tensor) -> Tensor:
    """|error|² of every number."""
    return error.real.square() + error.imag.square() if error.is_complex() else error.square()


def _check_positive(loss: Loss, name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{type(loss).__name__}: {name} must be a finite number > 0, got {value!r}")
