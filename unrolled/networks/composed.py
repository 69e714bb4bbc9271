"""Networks from parts: a phase of any algorithm with any prior in it, as often as one likes."""

import copy
from typing import Any, TypeVar

from torch import nn

from unrolled.networks.data_steps.data_step import WeightedStep
from unrolled.networks.differentiation import Differentiation
from unrolled.networks.phases.phase import Phase
from unrolled.networks.priors.prior import Prior
from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.networks.unrolled import UnrolledNetwork
from unrolled.penalties import Penalty
from unrolled.system.recipes import Described, build, describe, why_not_built, writable

Part = TypeVar("Part", bound=nn.Module)


class ComposedNetwork(UnrolledNetwork):
    """A phase, repeated: any algorithm × any learned prior × any data step.

    Parameters
    ----------
    phase : Phase or list of Phase
        the first one; the others are made like it, each with weights of its own. What only your program can make, such
        as a module of your own in it, is copied with its weights. Of a list each is one of the phases.
    phases : int
        iterations.
    shared : bool
        whether all phases are this one, with one set of weights.
    differentiation, start, complex_images, noise_range, ratio_range
        see `UnrolledNetwork`. The ranges of conditions are for the phase's parts to state, that of the noise level
        first.

    Examples
    --------
    >>> from unrolled.networks import ProximalGradientPhase, ResidualCNN
    >>> network = ComposedNetwork(ProximalGradientPhase(ResidualCNN(features=16)), phases=5)
    >>> network.parameter_count
    36330
    """

    def __init__(
        self,
        phase: Phase | list[Phase],
        phases: int = 8,
        shared: bool = False,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
        ratio_range: tuple[float, float] | None = None,
    ):
        check_sizes("ComposedNetwork", phases=phases)
        made = each_phase("ComposedNetwork", "phase", phase, Phase, 1 if shared else phases)
        for each in made:
            check_images("ComposedNetwork", each, complex_images)
        super().__init__(
            made, phases if shared else 1, differentiation, start, complex_images, noise_range, ratio_range
        )

    def compacted_arguments(self) -> dict[str, Any]:
        return {"phase": self.phases[0] if len(self.phases) == 1 else list(self.phases)}


def each_phase(owner: str, name: str, part: Part | list[Part], kind: type[Any], count: int) -> list[Part]:
    """A part for each of so many phases: those of a list, or one and others like it.

    Raises
    ------
    ValueError
        unless it is a part, or a list of so many.
    """
    if isinstance(part, (list, tuple)):
        if len(part) != count:
            raise ValueError(f"{owner}: {name} must be one, or one for each of {count} phases, got {len(part)}")
        parts = list(part)
    else:
        parts = [part]
    for each in parts:
        if not isinstance(each, kind):
            raise ValueError(f"{owner}: {name} must be of the class {kind.__name__}, got {each!r}")
    return parts if len(parts) == count else [*parts, *(fresh(parts[0]) for _ in range(count - 1))]


def fresh(part: Part) -> Part:
    """Another part of the same recipe, its weights drawn anew; a copy of one that only a program can make."""
    recipe = describe(part) if isinstance(part, Described) else None
    if recipe is None or why_not_built(writable(recipe), "phase", type(part), *PARTS) is not None:
        return copy.deepcopy(part)
    made: Part = build(recipe, type(part), *PARTS)
    return made.train(part.training)


def check_images(owner: str, module: nn.Module, complex_images: bool) -> None:
    """Raise ValueError if a part is made for real images and the network for complex ones, or the other way round."""
    for part in module.modules():
        if getattr(part, "complex_images", complex_images) != complex_images:
            raise ValueError(
                f"{owner}: complex_images is {complex_images}, and that of its {type(part).__name__} is "
                f"{not complex_images}"
            )


PARTS: tuple[type, ...] = (Phase, Prior, WeightedStep, Start, Differentiation, Penalty)
"""What may be among the arguments of a network, and of its parts."""
