"""A learned update of duals, then one of images: the iteration of learned primal-dual."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from unrolled.networks.conditioning import Factors, Interval, check_told, of_images
from unrolled.networks.phases.phase import Images, Measurements, Phase, State
from unrolled.networks.sizes import check_sizes
from unrolled.operators import LinearOperator


class LearnedPrimalDualPhase(Phase):
    """h⁺ = h + D(h, A f₂, y);  f⁺ = f + P(f, Aᴴh₁⁺), with n images f, of which f₁ is the result, and n duals h.

    D sees measurements and P sees images, each by three 3×3 convolutions with a bias and, between them, two PReLUs with
    a slope for every map. The last convolution of either starts at 0.

    Parameters
    ----------
    memory : int >= 2
        n, how many images and how many duals are carried on.
    features : int
        maps between the convolutions.
    channels : int
        of an image that P sees together.
    measured_channels : int, optional
        of the measurements that D sees together, the first of their axes after the batch; by default as many as of an
        image.
    complex_images, complex_measurements : bool
        whether they are complex: then P or D sees the real and the imaginary part of each channel as two maps.
    ranges : sequence of (low, high), 0 <= low < high
        of the numbers of the condition, which scale what D and P add.
    """

    carries = (Images(), Measurements())
    reach = 3
    needs = "measurements must be pictures"

    def __init__(
        self,
        memory: int = 5,
        features: int = 32,
        channels: int = 1,
        measured_channels: int | None = None,
        complex_images: bool = False,
        complex_measurements: bool = False,
        ranges: Sequence[Interval] = (),
    ):
        super().__init__()
        together = channels if measured_channels is None else measured_channels
        check_sizes(
            "LearnedPrimalDual", memory=memory, features=features, channels=channels, measured_channels=together
        )
        if memory < 2:
            raise ValueError(f"LearnedPrimalDual: memory must be >= 2, for an image beside the result, got {memory}")
        self.memory, self.complex_images, self.complex_measurements = memory, complex_images, complex_measurements
        self.dual = Update(memory + 2, memory, features, together, complex_measurements)
        self.primal = Update(memory + 1, memory, features, channels, complex_images)
        self.factors = Factors(ranges, 2) if ranges else None

    def begin(self, x: Tensor, y: Tensor, operator: LinearOperator) -> State:
        """The start n times, and n duals that are 0.

        Raises
        ------
        ValueError
            if measurements are no pictures, or numbers of another kind than the phase is made for.
        """
        if y.ndim < 4 or not operator.picture_measurements:
            raise ValueError(
                f"LearnedPrimalDual: {self.needs}, (batch, channel, …, height, width), for its duals are convolved; "
                f"those of {type(operator).__name__} are {tuple(y.shape)}"
            )
        for what, given, own in (
            ("measurements", y.is_complex(), self.complex_measurements),
            ("images", x.is_complex(), self.complex_images),
        ):
            if given != own:
                kinds = ("complex", "real") if own else ("real", "complex")
                raise ValueError(
                    f"LearnedPrimalDual: made for {kinds[0]} {what}, and those of {type(operator).__name__} are "
                    f"{kinds[1]}; make it with complex_{what}={given}"
                )
        return x, torch.stack([x] * (self.memory - 1), 1), torch.stack([torch.zeros_like(y)] * self.memory, 1)

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        x, others, h = state
        of_dual, of_primal = self.scales(condition)
        f = torch.cat([x.unsqueeze(1), others], 1)
        h = h + self.dual([h, operator(f[:, 1]).unsqueeze(1), y.unsqueeze(1)], of_dual)
        f = f + self.primal([f, operator.adjoint(h[:, 0]).unsqueeze(1)], of_primal)
        return f[:, 0], f[:, 1:], h

    def scales(self, condition: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """By what D and P are multiplied for every image, each (batch,), or None."""
        if self.factors is None:
            return None, None
        check_told("LearnedPrimalDual", condition, len(self.factors.ranges))
        first, second = self.factors(condition).unbind(1)
        return first, second


class Update(nn.Module):
    """Three convolutions over pictures of which several parts are seen together; all parts have the same shape.

    Parameters
    ----------
    inputs, outputs : int
        parts that it is given, and that it makes.
    features : int
    channels : int
        of every part that are seen together; others, and further axes such as coils, are treated alike.
    complex_numbers : bool
    """

    def __init__(self, inputs: int, outputs: int, features: int, channels: int, complex_numbers: bool):
        super().__init__()
        self.channels = channels
        maps = channels * (2 if complex_numbers else 1)
        convolutions = [
            nn.Conv2d(before, after, 3, padding=1)
            for before, after in pairwise([maps * inputs, features, features, maps * outputs])
        ]
        for layer in convolutions:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(cast(Tensor, layer.bias))
        nn.init.zeros_(convolutions[-1].weight)
        first, second, last = convolutions
        self.layers = nn.Sequential(first, nn.PReLU(features, 0.0), second, nn.PReLU(features, 0.0), last)

    def forward(self, parts: Sequence[Tensor], factor: Tensor | None = None) -> Tensor:
        """What is added.

        Parameters
        ----------
        parts : sequence of Tensor, each (batch, some of the inputs, channel, …, height, width)
        factor : Tensor, (batch,), optional
            of every image's result.

        Returns
        -------
        Tensor, (batch, outputs, channel, …, height, width)
        """
        stack = torch.cat(list(parts), 1)
        if stack.shape[2] % self.channels:
            raise ValueError(
                f"LearnedPrimalDual: must be given a multiple of {self.channels} channels, which it sees together, got "
                f"{stack.shape[2]}; channels says how many of an image, measured_channels how many of measurements"
            )
        numbers = torch.view_as_real(stack) if stack.is_complex() else stack.unsqueeze(-1)
        batch, _, channels, *further, height, width, kinds = numbers.shape
        # (batch, part, group, channel, …, height, width, kind) to (batch·group·…, part·kind·channel, height, width)
        apart = numbers.reshape(batch, -1, channels // self.channels, self.channels, *further, height, width, kinds)
        apart = apart.flatten(4, -4) if further else apart.unsqueeze(4)
        maps = apart.permute(0, 2, 4, 1, 7, 3, 5, 6).flatten(3, 5)
        found = self.layers(maps.flatten(0, 2)).to(numbers.dtype)
        if factor is not None:
            found = of_images(factor, len(found) // batch) * found
        found = found.reshape(*maps.shape[:3], -1, kinds, self.channels, height, width).permute(0, 3, 1, 5, 2, 6, 7, 4)
        found = found.reshape(batch, -1, *numbers.shape[2:])
        return torch.complex(*found.unbind(-1)) if stack.is_complex() else found.squeeze(-1)
