"""The task of reconstruction with operators that are drawn anew in every step."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unrolled.data import with_phase
from unrolled.data.batches import Batches, places
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.operators.operator_draws import OperatorDraw, largest_multiples, merged
from unrolled.system.recipes import describe, writable
from unrolled.system.scalars import whole_number
from unrolled.training.losses.by_name import LossGiven
from unrolled.training.tasks.reconstruction import (
    Noise,
    ReconstructionTask,
    Reconstructor,
    check_loss,
    recipe_of,
)


def part_for(operator: LinearOperator, images: Tensor) -> Tensor:
    """The part of images that an operator measures: the upper left one, of the multiples of pixels that it takes."""
    height, width = largest_multiples(operator.multiple, images.shape[-2], images.shape[-1])
    return images[..., :height, :width]


class Group(NamedTuple):
    """Images one after the other in a batch, and the operator that measures them."""

    images: slice
    operator: LinearOperator


class DrawnBatch(NamedTuple):
    """Images, with the noise level of each if they vary, and the operators that measure them."""

    images: Tensor
    level: Tensor | None
    groups: list[Group]


class DrawnReconstructionTask(ReconstructionTask):
    """Reconstruct images from measurements by operators that are drawn anew in every step.

    What is drawn is a function of the seed, the step and the place in the batch; every validation image has its own
    operator, always the same. Weights are saved with the typical operator of the draw.

    Parameters
    ----------
    network : UnrolledNetwork
    draw : OperatorDraw
    batches, validation, loss, device, noise, seed
        see `ReconstructionTask`.
    images_per_operator : int, optional
        so many images, one after the other in the batch, are measured by one operator; by default the whole batch.
        Groups whose operators differ in their masks alone go through the network together.

    Raises
    ------
    ValueError
        as `ReconstructionTask`, and if an operator does not measure the images.
    """

    def __init__(
        self,
        network: UnrolledNetwork,
        draw: OperatorDraw,
        batches: Batches,
        validation: Sequence[Tensor],
        loss: LossGiven | None = None,
        device: torch.device | None = None,
        noise: Noise | None = None,
        seed: int = 0,
        images_per_operator: int | None = None,
    ):
        super().__init__(network, draw.typical, batches, validation, loss, device, noise, seed)
        if images_per_operator is not None:
            images_per_operator = whole_number("images_per_operator:", images_per_operator)
        height, width = batches.batch(0, 1).shape[-2:]
        if min(height, width) < draw.smallest:
            raise ValueError(
                f"crop: must be at least {draw.smallest} pixels for these operators, got images of {height} × {width}"
            )
        self.draw, self.images_per_operator = draw, images_per_operator
        self.gains_by_compiling = False  # code is compiled for one operator
        self._validated_by: dict[int, LinearOperator] = {}
        self.validation = [part_for(self.validated_by(index), image) for index, image in enumerate(self.validation)]
        if self.own_loss is not None:
            check_loss(self.own_loss, self.validated_by(0), self.model.known())

    def example(self) -> tuple[Tensor, LinearOperator]:
        operator = self.validated_by(0)
        return operator(self.validation[0]), operator

    def validated_by(self, index: int) -> LinearOperator:
        if index not in self._validated_by:
            height, width = self.validation[index].shape[-2:]
            self._validated_by[index] = self.draw.in_validation(index, (height, width)).to(self.device)
        return self._validated_by[index]

    def batch(self, step: int, size: int, part: range | None = None) -> DrawnBatch:  # type: ignore[override]
        found = super().batch(step, size, part)
        images, level = found if isinstance(found, tuple) else (found, None)
        length = self.images_per_operator or size
        counts = Counter(place // length for place in places(size, part))
        height, width = images.shape[-2:]
        operators = [self.draw.in_training(self.seed, step, number, (height, width)) for number in counts]
        lengths = list(counts.values())
        if (whole := merged(operators, lengths)) is not None:
            operators, lengths = [whole], [len(images)]
        ends = list(accumulate(lengths))
        groups = [
            Group(slice(end - count, end), operator.to(self.device))
            for operator, count, end in zip(operators, lengths, ends, strict=True)
        ]
        return DrawnBatch(images, level, groups)

    def loss(self, model: nn.Module, batch: Any, step: int) -> Tensor:
        assert isinstance(model, Reconstructor)
        assert isinstance(batch, DrawnBatch)
        x = with_phase(batch.images) if model.operator.complex_images else batch.images
        losses = []
        for which, operator in batch.groups:
            level = None if batch.level is None else batch.level[which]
            part = part_for(operator, x[which])
            losses.append(len(part) / len(x) * self.loss_of_measured(model, part, level, operator))
        return torch.stack(losses).sum()

    def save(self, model: nn.Module, path: Path, card: dict[str, Any]) -> None:
        super().save(model, path, {**card, "operators": writable(describe(self.draw))})

    def facts(self) -> Mapping[str, str | None]:
        group = None if self.images_per_operator is None else str(self.images_per_operator)
        return {**super().facts(), "operators": recipe_of(self.draw), "images per operator": group}
