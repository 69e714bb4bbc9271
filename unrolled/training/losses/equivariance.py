"""Equivariant imaging: what an operator does not see of one image it sees of another, that is moved."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from unrolled.networks import UnrolledNetwork, mean_square
from unrolled.operators import LinearOperator
from unrolled.training.losses.loss import reconstruction
from unrolled.training.losses.measurement_losses import ConsistencyLoss, MeasurementLoss
from unrolled.training.losses.motions import MOTIONS


@dataclass(frozen=True)
class EquivariantImaging(MeasurementLoss):
    """fidelity + weight·mean |T x̂ − network(A T x̂)|²: images that are moved are images of the same kind.

    A moved image is measured and reconstructed again, and must come back (Chen, Tachella, Davies, ICCV 2021). This
    teaches what A does not see if A does not commute with the motions T: shifts for inpainting, turns and rotations
    for tomography; circular shifts commute with `MaskedFourier` and circular `Blur`, and teach nothing there. With
    noise let `fidelity` be SURE or PURE: the moved image is then measured with such noise, too (robust equivariant
    imaging, Chen, Tachella, Davies, CVPR 2022).

    Parameters
    ----------
    motions : list of "shifts", "flips", "turns" (by 90°, of square images) and "rotations" (by any angle)
        drawn one after the other, for every image.
    weight : float > 0
        of the second term, which is in the units of images, squared.
    copies : int >= 1
        moved images for each; the network runs so many times more.
    fidelity : MeasurementLoss, optional
        by default `ConsistencyLoss()`, for measurements without noise.
    """

    motions: Sequence[Literal["shifts", "flips", "turns", "rotations"]] = ("shifts",)
    weight: float = 1.0
    copies: int = 1
    fidelity: MeasurementLoss | None = None

    def __post_init__(self) -> None:
        if isinstance(self.motions, str) or not self.motions or not set(self.motions) <= set(MOTIONS):
            raise ValueError(
                f"EquivariantImaging: motions must be a list of {', '.join(MOTIONS)}, got {self.motions!r}"
            )
        object.__setattr__(self, "motions", tuple(self.motions))
        if not 0 < self.weight < math.inf:
            raise ValueError(f"EquivariantImaging: weight must be a finite number > 0, got {self.weight!r}")
        if self.copies < 1:
            raise ValueError(f"EquivariantImaging: copies must be >= 1, got {self.copies!r}")
        fits = isinstance(self.fidelity, MeasurementLoss) and not isinstance(self.fidelity, EquivariantImaging)
        if self.fidelity is not None and not fits:
            raise ValueError(
                f"EquivariantImaging: fidelity must be ConsistencyLoss, SURE or PURE, got {self.fidelity!r:.200}"
            )

    @property
    def explained(self) -> MeasurementLoss:
        """The first term."""
        return ConsistencyLoss() if self.fidelity is None else self.fidelity

    def check(self, operator: LinearOperator, noise: float | Tensor | None) -> None:
        self.explained.check(operator, noise)

    def precision(self, y: Tensor) -> AbstractContextManager[Any]:
        return self.explained.precision(y)

    def of_images(
        self,
        images: Tensor,
        network: UnrolledNetwork,
        y: Tensor,
        operator: LinearOperator,
        noise: float | Tensor | None,
    ) -> Tensor:
        loss = self.explained.of_images(images, network, y, operator, noise)
        measures = network.operator_of(y, operator)
        differences = []
        for _ in range(self.copies):
            moved = images
            for motion in self.motions:
                moved = MOTIONS[motion](moved)
            measured = self.explained.noisy(measures(moved), noise)
            differences.append(mean_square(reconstruction(network, measured, operator, noise)[0] - moved))
        return loss + self.weight * torch.stack(differences).mean()
