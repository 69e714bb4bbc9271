"""Self-supervision for operators whose measurements have parts: predict what is hidden, find again what was found."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from unrolled.networks import UnrolledNetwork, mean_square
from unrolled.operators import LinearOperator
from unrolled.operators.measurement_parts import split
from unrolled.operators.noise import with_white_noise
from unrolled.training.losses.loss import Loss, reconstruction, with_own
from unrolled.training.losses.motions import MOTIONS


@dataclass(frozen=True)
class SplittingLoss(Loss):
    """Predict what is hidden, and find again what was found: for any operator whose measurements have parts.

    In every step a part of the measurements is hidden, and the network reconstructs x̂ of the rest; the first term is
    the mean square of what it predicts wrongly of the hidden part, over that of the hidden part. (It is the idea of
    SSDU, Yaman and others, MRM 2020, and of Noise2Self, Batson and Royer, ICML 2019.) For the second, x̂ of all that is
    shown is moved, measured anew with noise of the same level and reconstructed: the mean square of the difference over
    that of the operator's estimate, as in equivariant imaging (Chen, Tachella, Davies, CVPR 2022).

    Parameters
    ----------
    part : float in (0, 1)
        of the measurements that is hidden.
    moved : float >= 0
        weight of the second term.
    """

    part: float = 0.25
    moved: float = 1.0

    needs_truth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.part < 1:
            raise ValueError(f"SplittingLoss: part must be in (0, 1), got {self.part!r}")
        if not 0 <= self.moved < math.inf:
            raise ValueError(f"SplittingLoss: moved must be a finite number >= 0, got {self.moved!r}")

    def __call__(
        self,
        network: UnrolledNetwork,
        y: Tensor,
        operator: LinearOperator,
        truth: Tensor | None = None,
        *,
        noise: float | Tensor | None = None,
    ) -> Tensor:
        random = np.random.default_rng(int(torch.randint(2**62, ()).item()))
        shown, hidden = split(operator, y, self.part, random)
        image, own = reconstruction(network, shown.of(y), shown.operator, noise)
        loss = relative_error(hidden.operator(image), hidden.of(y)).mean()
        if self.moved:
            moved, _ = reconstruction(network, y, operator, noise)
            for motion in ("flips", "shifts", "turns"):
                if motion != "turns" or moved.shape[-1] == moved.shape[-2]:
                    moved = MOTIONS[motion](moved)
            measured = operator(moved)
            measured = measured if noise is None else with_white_noise(measured, noise)
            again, _ = reconstruction(network, measured, operator, noise)
            with torch.no_grad():
                size = mean_square(network.first_image(y, operator))
            loss = loss + self.moved * mean_square(again - moved) / torch.where(size > 0, size, 1)
        return with_own(loss, own)


def relative_error(found: Tensor, true: Tensor) -> Tensor:
    """‖found − true‖²/‖true‖² of every image of a batch."""
    error, size = ((each.conj() * each).real.flatten(1).sum(1) for each in (found - true, true))
    return error / torch.where(size > 0, size, 1)
