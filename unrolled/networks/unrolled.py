"""Unrolled networks: a start and a list of phases."""

import copy
from abc import ABC
from collections.abc import Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from unrolled.networks.channelwise import mean_square
from unrolled.networks.conditioning import interval, levels_of
from unrolled.networks.data_steps.gradient_data_step import gradient
from unrolled.networks.differentiation import Differentiation, Implicit, Unroll
from unrolled.networks.phases.phase import Phase, State, Step
from unrolled.networks.shared_weights import leave_out_copies, put_copies_back
from unrolled.networks.starts import LinearStart, Start, check_start
from unrolled.operators import LinearOperator
from unrolled.operators.intake import in_precision_of, number_in
from unrolled.operators.unit_norm import norm_for_networks, with_unit_norm
from unrolled.system.recipes import Described

__all__ = ["UnrolledNetwork", "gradient"]


class UnrolledNetwork(Described, nn.Module, ABC):
    """x̂ = network(y, operator): a start, then one phase after the other.

    Phases are made for operators of the norm 1. Where that of the operator is far from 1, phases are given y/‖A‖ and
    A/‖A‖; users' measurements, and the noise level, are in the units of the operator, see
    `unrolled.operators.unit_norm`.

    Parameters
    ----------
    phases : sequence of Phase
        at least one; all carry the same state.
    repeats : int
        how many times they are gone through: one phase repeated is a network whose phases share their weights.
    differentiation : Differentiation, optional
        how gradients are carried through the phases; by default `Unroll()`.
    start : Start, optional
        (y, operator) ↦ x₀; by default `LinearStart()`.
    complex_images : bool
        whether it is made for operators that measure complex images.
    noise_range : (low, high) or None, 0 <= low < high
        noise levels that its phases are made to be told; with one the network takes the noise level.
    ratio_range : (low, high) or None, 0 <= low < high
        sampling ratios, measurements per pixel, that its phases are made to be told; the operator says its own, see
        `LinearOperator.sampling_ratio`.

    Raises
    ------
    ValueError
        if there are no phases, one of them is not a `Phase`, or the range is none.
    """

    takes_noise: bool = False
    """Whether its phases are told the noise level of the measurements, as their condition."""

    estimates_maps: bool = False
    """Whether it estimates the maps of coils from measurements, and uses none of those that an operator has."""

    fused = False

    normalizes = True
    """Whether operators are brought to the norm 1; False of weights that were trained before this was done."""

    def __init__(
        self,
        phases: Sequence[Phase],
        repeats: int = 1,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
        ratio_range: tuple[float, float] | None = None,
    ):
        super().__init__()
        name = type(self).__name__
        if not len(phases):
            raise ValueError(f"{name}: phases must be at least one, got none")
        for index, phase in enumerate(phases):
            if not isinstance(phase, Phase):
                raise ValueError(f"{name}: phases must be of the class Phase, but number {index} is {phase!r}")
        self.start = LinearStart() if start is None else start
        self.phases = nn.ModuleList(phases)
        self.repeats = repeats
        self.complex_images = complex_images
        self.noise_range = interval(name, "noise_range", noise_range)
        self.ratio_range = interval(name, "ratio_range", ratio_range)
        if self.noise_range is not None:
            self.takes_noise = True
        self.differentiation = Unroll() if differentiation is None else differentiation
        if isinstance(self.differentiation, Implicit):
            if len(phases) > 1:
                raise ValueError(f"{name}: differentiation by Implicit needs shared=True")
            if any(parameter.requires_grad for parameter in self.start.parameters()):
                raise ValueError(
                    f"{name}: differentiation by Implicit knows the fixed point alone, which does not depend on the "
                    f"start, so {type(self.start).__name__} would learn nothing; use Unroll() or Recompute()"
                )
        self.register_state_dict_post_hook(leave_out_copies)
        self.register_load_state_dict_pre_hook(put_copies_back)

    @property
    def sequence(self) -> list[Phase]:
        """The phases in the order in which they are applied."""
        return cast(list[Phase], list(self.phases)) * self.repeats

    @property
    def demands(self) -> list[str]:
        """What it needs of an operator, beside images of its kind, in the words by which its parts refuse others.

        A part, or the network itself, says what it needs by an attribute `needs`; nothing: any operator will do.
        """
        found = (getattr(module, "needs", None) for module in self.modules())
        return list(dict.fromkeys(need for need in found if need))

    @property
    def parameter_count(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, y: Tensor, operator: LinearOperator, *, noise: float | Tensor | None = None) -> Tensor:
        """Reconstruct.

        Parameters
        ----------
        y : Tensor or array, measurements of a batch of images, in the shape that the operator states
            of any type; they are brought into the precision of the network.
        operator : LinearOperator
        noise : float or Tensor, (batch,), optional
            standard deviation of the noise in the measurements, for networks that take it. Without it a network with a
            range of noise levels is told the lowest.

        Returns
        -------
        Tensor, (batch, channel, height, width)

        Raises
        ------
        ValueError
            if the network is made for real images and the operator measures complex ones, or the other way round;
            if measurements are no numbers or do not have the operator's shape; if the operator calculates in another
            precision than the network; or if it is told a noise level that it does not take.
        """
        y, operator, condition = self.given(y, operator, noise)
        state = self.begin(y, operator)
        x: Tensor = self.differentiation.run(self.sequence, state, y, operator, condition)[0]
        return x

    def iterates(self, y: Tensor, operator: LinearOperator, *, noise: float | Tensor | None = None) -> list[Tensor]:
        """The start and the image after every phase, each (batch, channel, height, width)."""
        y, operator, condition = self.given(y, operator, noise)
        state = self.begin(y, operator)
        states = self.differentiation.states(self.sequence, state, y, operator, condition)
        return [each[0] for each in (state, *states)]

    def first_image(self, y: Tensor, operator: LinearOperator) -> Tensor:
        """The start, (batch, channel, height, width), without what is learned in it, if that is anything.

        A network that estimates a part of the operator has learned that part.
        """
        y, operator, _ = self.given(y, operator)
        x: Tensor = self.start.unlearned(y, operator)
        return x

    def norm_of(self, operator: LinearOperator) -> float:
        """By what an operator and its measurements are divided for the phases; 1 if they are left as they are."""
        return norm_for_networks(operator) if self.normalizes else 1.0

    def given(
        self, y: Any, operator: LinearOperator, noise: float | Tensor | None = None
    ) -> tuple[Tensor, LinearOperator, Tensor | None]:
        """Measurements, operator and condition as the phases are given them, for an operator of the norm 1."""
        self.check(operator)
        y = self.taken(y)
        norm = self.norm_of(operator)
        condition = self.condition(y, operator, noise, norm)
        if norm != 1:
            y, operator = with_unit_norm(y, operator)
        return y, self.operator_of(y, operator), condition

    def operator_of(self, y: Tensor, operator: LinearOperator) -> LinearOperator:
        """The operator that the network takes measurements to be of: the one that is given, unless it knows better.

        A network that estimates a part of the operator, such as the maps of coils, overrides this. Start, phases and
        losses then see the operator with what was estimated, in the units of the one that is given.

        Parameters
        ----------
        y : Tensor, the measurements
        operator : LinearOperator
        """
        return operator

    def compared(self, image: Tensor, truth: Tensor, operator: LinearOperator) -> tuple[Tensor, Tensor]:
        """What losses compare of a reconstruction and the true image: by default the images themselves."""
        return image, truth

    def in_training(
        self, y: Tensor, operator: LinearOperator, *, noise: float | Tensor | None = None, every_phase: bool = False
    ) -> tuple[list[Tensor], Tensor | None]:
        """What losses are made of: reconstructions, and what the network adds to a loss.

        Parameters
        ----------
        y, operator, noise
            as when it is called.
        every_phase : bool
            reconstruct after every phase, and not only after the last.

        Returns
        -------
        images : list of Tensor, each (batch, channel, height, width)
            one, or one for each phase.
        own : Tensor, a scalar, or None
            what the network adds; by default nothing.

        Raises
        ------
        ValueError
            as when it is called, and for every phase of a network with `Implicit`, whose last image alone has a
            gradient.
        """
        if not every_phase:
            return [self(y, operator) if noise is None else self(y, operator, noise=noise)], None
        return [state[0] for state in self.states(self.sequence, y, operator, noise, every_phase)], None

    def states(
        self,
        steps: Sequence[Step],
        y: Tensor,
        operator: LinearOperator,
        noise: float | Tensor | None,
        every_phase: bool,
    ) -> list[State]:
        """The state after the last of some steps, or after each of them, with gradients as `differentiation` says."""
        if every_phase and isinstance(self.differentiation, Implicit):
            raise ValueError(
                f"{type(self).__name__}: has no images of every phase to train by with Implicit, which finds the last "
                "one's gradient alone; use Unroll() or Recompute()"
            )
        y, operator, condition = self.given(y, operator, noise)
        state, states = self.begin(y, operator), []
        for part in [[step] for step in steps] if every_phase else [steps]:
            state = self.differentiation.run(part, state, y, operator, condition)
            states.append(state)
        return states

    def begin(self, y: Tensor, operator: LinearOperator) -> State:
        """The state that the first phase is given, from measurements and operator as the phases have them."""
        self.check(operator)
        x = self.start(y, operator)
        check_start(type(self).__name__, number_in(self), x, y, operator)
        return self.sequence[0].begin(x, y, operator)

    def taken(self, y: Any) -> Tensor:
        """Measurements of any type, in the precision of the network.

        Raises
        ------
        ValueError
            for what is no array of numbers.
        """
        return in_precision_of(number_in(self), f"{type(self).__name__}: measurements", y)

    def condition(
        self, y: Tensor, operator: LinearOperator, noise: float | Tensor | None, norm: float = 1.0
    ) -> Tensor | None:
        """What the phases are told beside the measurements: the noise level and the sampling ratio, if they take them.

        Values are not looked at here, for that would stop the device: those who take them from users do.

        Parameters
        ----------
        y : Tensor, the measurements
        operator : LinearOperator
        noise : float or Tensor, (batch,), or None
            in the units of y.
        norm : float > 0
            what measurements are divided by.

        Returns
        -------
        Tensor, (batch, numbers), or None if there is nothing to tell

        Raises
        ------
        ValueError
            if there is a noise level, and the network does not take it; or the operator does not know its ratio.
        """
        if noise is None and self.noise_range is not None:
            noise = self.noise_range[0]
        name = type(self).__name__
        if noise is not None and not self.takes_noise:
            raise ValueError(f"{name}: noise must be None, as the network does not take it; got {noise!r}")
        numbers = [] if noise is None else [levels_of(name, y, noise) / norm]
        if self.ratio_range is not None:
            ratio = torch.as_tensor(operator.sampling_ratio, dtype=y.real.dtype, device=y.device)
            numbers.append(ratio.expand(len(y)))
        return torch.stack(numbers, 1) if numbers else None

    def check(self, operator: LinearOperator) -> None:
        """Raise ValueError unless the images of an operator, real or complex, are those the network is made for."""
        if operator.complex_images != self.complex_images:
            own, measured = ("complex", "real") if self.complex_images else ("real", "complex")
            raise ValueError(
                f"{type(self).__name__}: made for {own} images, and {type(operator).__name__} measures {measured} "
                f"ones; make it with complex_images={operator.complex_images}"
            )

    def fit_operator(self, operator: LinearOperator) -> None:
        """Compute from an operator what weights begin with, before they are trained for it, and let rest what it does
        not use; by default that is nothing.

        What was trained or loaded stays as it is. Where several processes train, every parameter must get a gradient.
        """

    def fuse(self) -> Self:
        """A copy for use without training, with the same result: every module that has a method `fused`, which makes
        a faster module of it, is replaced by what that makes."""
        network = copy.deepcopy(self).eval()
        for module in list(network.modules()):
            for name, child in module.named_children():
                fused = getattr(child, "fused", None)
                if callable(fused):
                    setattr(module, name, fused())
        network.fused = True
        return network

    @property
    def compacts(self) -> bool:
        """Whether it has parts that can leave out feature maps, which have a method `compact`."""
        return any(hasattr(module, "compact") for module in self.modules())

    @torch.no_grad()
    def compacted(self) -> Self:
        """A smaller network with the same outputs: without the feature maps of learned proximal maps that are 0 or that
        nobody reads.

        Such maps are left by a sparsifier with groups of filters, `groups=Filters()`, on the weights before them; at
        least one of each kind stays. The convolutions from and to the image are reduced to what they can express. The
        result is trained, saved and loaded like any other network.

        Raises
        ------
        ValueError
            if no part of the network can leave out maps, if one needs them all, or if the network is fused.

        Examples
        --------
        >>> from unrolled.networks import EPGN
        >>> network = EPGN(phases=1, features=16)
        >>> _ = torch.nn.init.zeros_(network.phases[0].prox.sparsify.conv.weight[4:])
        >>> network.compacted().arguments["features"]
        [[16, 4, 16, 9]]
        """
        name = type(self).__name__
        if self.fused:
            raise ValueError(f"{name}: compacted: a fused network is for use only; compact the one it was made from")
        if not self.compacts:
            raise ValueError(
                f"{name}: compacted: none of its parts can leave out feature maps, as SparsifyingPrior and "
                "SymmetricPrior can"
            )
        small = copy.deepcopy(self)
        parts: list[Any] = [module for module in small.modules() if hasattr(module, "compact")]
        for part in parts:
            part.compact()
        small.arguments = {**small.arguments, **small.compacted_arguments()}
        return small

    def compacted_arguments(self) -> dict[str, Any]:
        """The arguments that say what was left out of its phases, beside those whose recipes say it themselves.

        A network that makes its phases of other arguments overrides this.
        """
        raise ValueError(f"{type(self).__name__}: compacted: its arguments cannot say how many feature maps are left")

    def description(self) -> dict[str, Any]:
        if self.fused:
            raise ValueError("a fused network is for use only: save or describe the network it was made from")
        described = super().description()
        for name in ("noise_range", "ratio_range"):  # as before there were such: runs and weights of then go on
            if described.get(name, 0) is None:
                del described[name]
        return described

    def loss(self, x: Tensor, y: Tensor, operator: LinearOperator, *, noise: float | Tensor | None = None) -> Tensor:
        """What training minimises by default: the mean of |x̂ − x|², x the true images, and what the network adds."""
        (image,), own = self.in_training(y, operator, noise=noise)
        image, x = self.compared(image, x, operator)
        error = mean_square(image - x)
        return error if own is None else error + own
