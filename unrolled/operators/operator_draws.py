"""Operators that are drawn anew: of one kind with ranges of its arguments, or of several kinds."""

import inspect
import math
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from unrolled.operators.drawn_values import Among, Between, as_drawn
from unrolled.operators.masked_samples import MaskedSamples
from unrolled.operators.operator import LinearOperator, Scaled
from unrolled.operators.unit_norm import once_per_recipe
from unrolled.system.recipes import Described

DOMAIN = 0x6F706572
"""Keeps what is drawn here apart from all else that is drawn from the same seed and step."""

Sides = tuple[int, int]

CLOSE_TO_ONE = 1e-3
"""A norm that differs less from 1 is left as it is."""

MOST_KEPT = 64
"""Operators: where so few are drawn they are kept, for a matrix takes as long to draw as a step of a small network."""


class OperatorDraw(Described, ABC):
    """A rule that draws operators, for images of any size that they measure.

    Training draws one for every group of images of a step, as a function of the seed, the step and the group;
    validation has one for every image, always the same, spread evenly over what is drawn.

    Attributes
    ----------
    typical : LinearOperator
        an operator of the kind: the one that weights are saved with.
    """

    typical: LinearOperator

    @abstractmethod
    def draw(self, parts: Iterator[float], height: int, width: int) -> LinearOperator:
        """One operator.

        Parameters
        ----------
        parts : iterator of float in [0, 1)
            where in their ranges the numbers lie that are drawn, one after the other.
        height, width : int
            of the images.

        Raises
        ------
        ValueError
            if it does not measure images of this size.
        """

    @property
    @abstractmethod
    def multiple(self) -> int:
        """Images whose sides are multiples of this many pixels are measured whole by all operators that are drawn."""

    @property
    def smallest(self) -> int:
        """The sides of images must be at least so many pixels."""
        return self.multiple

    @property
    def granularity(self) -> int:
        """Images must be cut to multiples of this many pixels; 1 where each kind takes a part of its own multiples."""
        return self.multiple if self.multiple == self.smallest else 1

    @property
    @abstractmethod
    def sides(self) -> Sides | None:
        """(height, width) of images, if only those are measured."""

    @abstractmethod
    def fit_images(self, images: list[Tensor]) -> None:
        """See `LinearMap.fit_images`: what is found is given to all that are drawn."""

    @abstractmethod
    def take_fit(self, other: LinearOperator) -> None:
        """Take over what another operator has learned of images, where nothing has been learned yet."""

    def in_training(self, seed: int, step: int, group: int, sides: Sides) -> LinearOperator:
        """The operator of a group of images in a step."""
        random = np.random.default_rng((DOMAIN, seed, step, group))
        return self.draw(iter(random.random, None), *sides)

    def in_validation(self, index: int, sides: Sides) -> LinearOperator:
        """The operator of a validation image."""
        return self.draw(_spread_evenly(index), *sides)


def _spread_evenly(index: int) -> Iterator[float]:
    """The index-th point of a sequence that fills a cube of any dimension evenly, Kronecker's: parts of k√p."""
    number = 2
    while True:
        if all(number % divisor for divisor in range(2, math.isqrt(number) + 1)):
            yield (0.5 + (index + 1) * math.sqrt(number)) % 1
        number += 1


class DrawnOperator(OperatorDraw):
    """An operator of which some arguments are drawn.

    Where the operator is made for a height and a width, these follow the images.

    Parameters
    ----------
    operator : LinearOperator
        as it is typically; it is what weights are saved with. All arguments that are not drawn are its own.
    ranges : dict
        of arguments, by their names; "mask.ratio" is the argument ratio of the mask. A range is [low, high], both
        included, or {"low": …, "high": …, "spread": "logarithmic"}; {"choices": […]} of any values; and "anew", of a
        seed. Arguments that are whole numbers are drawn as such.
    normalized : bool
        bring every operator to the norm 1, so that one noise level means the same for all of them.

    Raises
    ------
    ValueError
        for an argument that the operator does not have or a range that is none; for values that the operator refuses;
        and for an operator that learns.

    Examples
    --------
    >>> from unrolled.operators import Inpainting
    >>> draw = DrawnOperator(Inpainting(keep=0.5, height=8, width=8), {"keep": [0.2, 0.8], "seed": "anew"})
    >>> operator = draw.in_training(seed=0, step=5, group=0, sides=(16, 24))
    >>> operator.mask.shape, 0.2 <= float(operator.sampling_ratio) <= 0.8
    (torch.Size([16, 24]), True)
    """

    def __init__(self, operator: LinearOperator, ranges: dict[str, Any] | None = None, normalized: bool = False):
        if not isinstance(operator, LinearOperator):
            raise ValueError(f"DrawnOperator: operator must be a LinearOperator, got a {type(operator).__name__}")
        if any(parameter.requires_grad for parameter in operator.parameters()):
            raise ValueError(f"DrawnOperator: operator must not learn, and {type(operator).__name__} does")
        self.operator, self.scaled = operator, normalized
        self._sized = self._takes_other_sizes()
        self.ranges = drawn_arguments("DrawnOperator: ranges", operator, ranges)
        # What an operator refuses, it refuses now and not in the middle of training.
        tried = made_at_the_ends(operator, self.ranges)
        for other in tried:
            if other.complex_images != operator.complex_images:
                raise ValueError("DrawnOperator: ranges must not hold operators on real images and on complex ones")
        self._multiple = math.lcm(*(each.multiple for each in [operator, *tried]))
        self.typical = self._normalized(operator)
        counts = [len(drawn.values) if isinstance(drawn, Among) else math.inf for drawn in self.ranges.values()]
        self._keeps = math.prod(counts) <= MOST_KEPT
        self._kept: dict[tuple[Any, ...], LinearOperator] = {}

    def draw(self, parts: Iterator[float], height: int, width: int) -> LinearOperator:
        chosen = {name: next(parts) for name in self.ranges}
        if not self._keeps:
            return self._drawn(chosen, height, width)
        numbers = [drawn.number(chosen[name]) for name, drawn in self.ranges.items() if isinstance(drawn, Among)]
        key = (height, width, *numbers)
        if key not in self._kept:
            if len(self._kept) >= MOST_KEPT:  # of images of many sizes
                self._kept.clear()
            self._kept[key] = self._drawn(chosen, height, width)
        return self._kept[key]

    def _drawn(self, chosen: dict[str, float], height: int, width: int) -> LinearOperator:
        made = self._made({name: self.ranges[name].at(part) for name, part in chosen.items()}, (height, width))
        if made.image_shape is not None and made.image_shape[1:] != (height, width):
            raise ValueError(
                f"DrawnOperator: {type(made).__name__} measures images of {made.image_shape[1]} × "
                f"{made.image_shape[2]} pixels, got {height} × {width}"
            )
        made.take_fit(self.operator)
        return self._normalized(made)

    def _made(self, changes: dict[str, Any], sides: Sides | None = None) -> LinearOperator:
        if sides is not None and self._sized:
            changes = {**changes, "height": sides[0], "width": sides[1]}
        made: LinearOperator = made_with(self.operator, changes)
        return made

    def _normalized(self, operator: LinearOperator) -> LinearOperator:
        norm = once_per_recipe(operator, "exactly", _norm_of) if self.scaled else 1.0
        return operator if abs(norm - 1) < CLOSE_TO_ONE else Scaled(operator, 1 / norm)

    def _takes_other_sizes(self) -> bool:
        """Whether it is told the size of images, and can be made for others."""
        known = arguments_of(self.operator) or {}
        height, width = known.get("height"), known.get("width")
        if height is None or width is None:
            return False
        try:
            made_with(self.operator, {"height": 2 * height, "width": 2 * width})
        except ValueError:  # of a matrix, or of maps, that are given
            return False
        return True

    @property
    def multiple(self) -> int:
        return self._multiple

    @property
    def sides(self) -> Sides | None:
        shape = self.operator.image_shape
        return None if shape is None or self._sized else (shape[1], shape[2])

    def fit_images(self, images: list[Tensor]) -> None:
        if not self.operator.fitted:
            self.operator.fit_images(images)
            self._kept.clear()

    def take_fit(self, other: LinearOperator) -> None:
        if not self.operator.fitted:
            self.operator.take_fit(other)
            self._kept.clear()


class OneOfOperators(OperatorDraw):
    """An operator of one of several kinds.

    A kind that measures multiples of some number of pixels is made for the largest ones that lie in an image.

    Parameters
    ----------
    draws : list of OperatorDraw or LinearOperator
        the kinds, all for real images or all for complex ones. The first one's typical operator is what weights are
        saved with.
    weights : list of float > 0, optional
        how likely each kind is, in any units; by default all are equally likely.

    Raises
    ------
    ValueError
        if there are none, they do not fit together, or there is not one weight for each.
    """

    def __init__(self, draws: Sequence[OperatorDraw | LinearOperator], weights: list[float] | None = None):
        listed = isinstance(draws, (list, tuple)) and len(draws) > 0
        if not listed or not all(isinstance(each, (OperatorDraw, LinearOperator)) for each in draws):
            raise ValueError(f"OneOfOperators: draws must be a list of operators, or draws of them, got {draws!r}")
        self.draws = [each if isinstance(each, OperatorDraw) else DrawnOperator(each) for each in draws]
        weights = [1.0] * len(draws) if weights is None else list(weights)
        if len(weights) != len(draws) or not all(math.isfinite(weight) and weight > 0 for weight in weights):
            raise ValueError(
                f"OneOfOperators: weights must be one number > 0 for each of {len(draws)} kinds, got {weights!r}"
            )
        self.limits = np.cumsum(weights) / sum(weights)
        kinds = {each.typical.complex_images for each in self.draws}
        if len(kinds) > 1:
            names = ", ".join(type(each.typical).__name__ for each in self.draws)
            raise ValueError(f"OneOfOperators: draws must all be for real images or all for complex ones, got {names}")
        sizes = {each.sides for each in self.draws} - {None}
        if len(sizes) > 1:
            raise ValueError(f"OneOfOperators: draws must measure images of one size, got {sorted(sizes)!r}")  # type: ignore[type-var]
        self.typical = self.draws[0].typical

    def draw(self, parts: Iterator[float], height: int, width: int) -> LinearOperator:
        number = int(np.searchsorted(self.limits, next(parts), side="right"))
        kind = self.draws[min(number, len(self.draws) - 1)]
        if min(height, width) < kind.smallest:
            raise ValueError(
                f"OneOfOperators: {type(kind.typical).__name__} measures images of at least {kind.smallest} × "
                f"{kind.smallest} pixels, got {height} × {width}"
            )
        return kind.draw(parts, *largest_multiples(kind.granularity, height, width))

    @property
    def multiple(self) -> int:
        return math.lcm(*(each.multiple for each in self.draws))

    @property
    def smallest(self) -> int:
        return max(each.smallest for each in self.draws)

    @property
    def sides(self) -> Sides | None:
        return next((each.sides for each in self.draws if each.sides is not None), None)

    def fit_images(self, images: list[Tensor]) -> None:
        for each in self.draws:
            each.fit_images(images)

    def take_fit(self, other: LinearOperator) -> None:
        for each in self.draws:
            each.take_fit(other)


def largest_multiples(multiple: int, height: int, width: int) -> Sides:
    """The largest sides within these that are multiples of so many pixels."""
    return height - height % multiple, width - width % multiple


def merged(operators: Sequence[LinearOperator], counts: Sequence[int]) -> LinearOperator | None:
    """One operator with a mask for each image of a batch, where the operators differ in their masks alone; else None.

    Parameters
    ----------
    operators : list of LinearOperator
    counts : list of int
        how many images, one after the other, each of them measures.
    """
    first = operators[0]
    if len(operators) == 1:
        return first
    if not isinstance(first, MaskedSamples) or any(type(other) is not type(first) for other in operators):
        return None
    masks: list[Tensor] = []
    for other, count in zip(operators, counts, strict=True):
        assert isinstance(other, MaskedSamples)
        rest = {name: tensor for name, tensor in other.named_buffers() if name != "mask"}
        if other.batch is not None or other.mask.shape[-2:] != first.mask.shape[-2:]:
            return None
        if any(not torch.equal(tensor, first.get_buffer(name)) for name, tensor in rest.items()):
            return None
        masks.append(other.mask.reshape(1, 1, *other.mask.shape[-2:]).expand(count, -1, -1, -1))
    return first.with_mask(torch.cat(masks))


def _norm_of(operator: LinearOperator) -> float:
    return float(operator.norm())


def drawn_arguments(owner: str, thing: Any, ranges: dict[str, Any] | None) -> dict[str, Between | Among]:
    """What is drawn of the arguments of an object, by their paths.

    Parameters
    ----------
    owner : str
        whose ranges they are, and what they are called, for messages.
    thing : object
    ranges : dict or None
        as `DrawnOperator` takes them.

    Raises
    ------
    ValueError
        unless they are ranges of arguments that the object has.
    """
    if not isinstance(ranges, (dict, types.NoneType)):
        raise ValueError(f"{owner} must be a dictionary of arguments, got {ranges!r}")
    found: dict[str, Between | Among] = {}
    for path, given in (ranges or {}).items():
        holder: Any = None
        inner = thing
        for name in str(path).split("."):
            known = arguments_of(inner)
            if known is None or name not in known:
                has = ", ".join(known) if known else "no arguments"
                raise ValueError(f"{owner} has {path!r}, and {type(inner).__name__} has {has}")
            holder, inner = inner, known[name]
        found[path] = as_drawn(f"{owner}: {path}", given, takes_whole_numbers(holder, name))
    return found


def made_at_the_ends(thing: Any, ranges: dict[str, Between | Among]) -> list[Any]:
    """Objects like one, with each argument at the ends of its range, or with each of its values; ValueError if the
    object refuses one of them."""
    return [made_with(thing, {path: value}) for path, drawn in ranges.items() for value in drawn.tried]


def arguments_of(thing: Any) -> dict[str, Any] | None:
    """What an object was made of; None if that is not known."""
    if is_dataclass(thing) and not isinstance(thing, type):
        return {field.name: getattr(thing, field.name) for field in fields(thing) if field.init}
    return dict(thing.arguments) if isinstance(thing, Described) else None


def made_with(thing: Any, changes: dict[str, Any]) -> Any:
    """An object made like another one, but for some arguments, by their paths."""
    arguments = arguments_of(thing)
    assert arguments is not None
    inner: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        name, _, rest = path.partition(".")
        if rest:
            inner.setdefault(name, {})[rest] = value
        else:
            arguments[name] = value
    for name, part in inner.items():
        arguments[name] = made_with(arguments[name], part)
    return type(thing)(**arguments)


def takes_whole_numbers(owner: Any, name: str) -> bool:
    """Whether an argument takes whole numbers and no others."""
    make: Callable[..., Any] = type(owner).__init__
    hint = get_type_hints(inspect.unwrap(make)).get(name)
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return int in kinds and float not in kinds
