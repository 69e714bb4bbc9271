"""Which numbers of a weight stand and fall together."""

import dataclasses
import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unrolled.penalties import Each, Filters, Grouped, Grouping, InputChannels, Penalty, SeparablePenalty, Weighted
from unrolled.penalties.grouping import Slices
from unrolled.sparsify.machinery.layout import TRANSPOSED
from unrolled.sparsify.selection import Weight, grouping_of
from unrolled.system.scalars import as_number, whole_number


def neurons(name: str, parameter: nn.Parameter, module: nn.Module) -> Grouping:
    """The groups of Bui et al.: the output filters of convolutions, and the INPUT units of dense layers.

    So the inputs of a dense layer that follows another are the outputs of that one: its neurons.
    """
    convolution = isinstance(module, nn.modules.conv._ConvNd)
    return in_layout(Filters(), module) if convolution else InputChannels()


_Chosen = Grouping | Callable[[str, nn.Parameter, nn.Module], Grouping | None]


@dataclass(frozen=True)
class PricedGroups:
    """Groups that cost more in some layers than in others: c_g of c_g ρ(‖w_g‖₂), layer by layer, instead of √size.

    The price of what is to be saved: a filter of an early convolution takes a thousand times the multiplications of a
    dense unit, however few numbers it has.

    Parameters
    ----------
    prices : dict
        name or pattern of a weight, or of its layer → the c_g > 0 of its groups. The first one that matches is taken;
        where none does it is √size.
    groups : Grouping or function, optional
        as everywhere else; by default `neurons`.

    Examples
    --------
    >>> PricedGroups({"conv*": 50.0}).price("conv1.weight")
    50.0
    """

    prices: dict[str, float]
    groups: _Chosen | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.prices, Mapping):
            raise ValueError(f"PricedGroups: prices must be a dict, name or pattern → price, got {self.prices!r}")
        prices = {}
        for name, price in self.prices.items():
            found = as_number(price)
            if found is None or not 0 < found < math.inf:
                raise ValueError(f"PricedGroups: prices must be finite numbers > 0, got {price!r} for {name!r}")
            prices[name] = found
        object.__setattr__(self, "prices", prices)

    def __call__(self, name: str, parameter: nn.Parameter, module: nn.Module) -> Grouping | None:
        """The grouping of a weight."""
        if isinstance(self.groups, Grouping):
            return in_layout(self.groups, module)
        return (self.groups or neurons)(name, parameter, module)

    def price(self, name: str) -> float | None:
        """Of the groups of a weight; None if it is none of those that were named."""
        return next((float(price) for pattern, price in self.prices.items() if _names(pattern, name)), None)

    def check(self, names: Sequence[str]) -> None:
        """Raise a ValueError if a price is for none of these weights."""
        for pattern in self.prices:
            if not any(_names(pattern, name) for name in names):
                raise ValueError(f"PricedGroups: prices: {pattern!r} is none of the weights, {', '.join(names)}")


def _names(pattern: str, name: str) -> bool:
    """Whether a pattern is that of a weight, or of its layer."""
    return any(fnmatch.fnmatchcase(part, pattern) for part in (name, name.rpartition(".")[0]))


Groups = Grouping | PricedGroups | _Chosen
"""A grouping for every weight, or a function (name, parameter, module) ↦ its grouping, None for single numbers."""


@dataclass(frozen=True)
class AttentionHeads(Slices):
    """The heads of attention: of projections to queries, keys and values, or of the projection of the outcome.

    Of `nn.MultiheadAttention` the weight `in_proj_weight`, (3·heads·width, inputs), has the rows of queries, keys and
    values one below the other: a group is what a head has of all three. Of a weight (heads·width, inputs) a group is
    its rows of a head; of `out_proj.weight`, (outputs, heads·width), its columns.

    Parameters
    ----------
    heads : int ≥ 1
    stacked : int ≥ 1
        how many projections lie one below the other: 3 for `in_proj_weight`.
    output : bool
        whether heads are columns.

    Examples
    --------
    >>> import torch
    >>> AttentionHeads(2, stacked=3).norm(torch.ones(12, 6)).flatten()
    tensor([6., 6.])
    """

    heads: int
    stacked: int = 1
    output: bool = False

    def __post_init__(self) -> None:
        for name in ("heads", "stacked"):
            object.__setattr__(self, name, whole_number(f"AttentionHeads: {name}", getattr(self, name)))
        if self.output and self.stacked > 1:
            raise ValueError("AttentionHeads: stacked must be 1 where heads are columns")

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        self._check(shape)
        return (1, self.heads) if self.output else (self.heads, 1)

    def _view(self, shape: Sequence[int]) -> tuple[list[int], list[int]]:
        self._check(shape)
        rows, columns = shape
        if self.output:
            return [rows, self.heads, columns // self.heads], [0, 2]
        return [self.stacked, self.heads, rows // self.heads // self.stacked, columns], [0, 2, 3]

    def _check(self, shape: Sequence[int]) -> None:
        parts = self.heads * self.stacked
        if len(shape) != 2 or shape[1 if self.output else 0] % parts:
            side = "columns" if self.output else "rows"
            raise ValueError(
                f"{self}: the tensor must be a matrix whose {side} are a multiple of {parts}, got {tuple(shape)}"
            )


def penalty_of(weight: Weight, penalty: Penalty, groups: Groups | None) -> Penalty:
    """The penalty of one weight: as it is given, or on groups.

    Raises
    ------
    ValueError
        if the weight cannot be grouped so, or the penalty already is one on groups.
    """
    if groups is None:
        grouping = None
    elif isinstance(groups, Grouping):
        grouping = in_layout(groups, weight.module)
    elif callable(groups):
        grouping = groups(weight.name, weight.parameter, weight.module)
    else:
        raise ValueError(f"groups must be a Grouping or a function (name, parameter, module), got {groups!r}")
    if grouping is not None:
        if not isinstance(grouping, Grouping):
            raise ValueError(f"groups: for {weight.name} the function must return a Grouping or None, got {grouping!r}")
        if not isinstance(penalty, SeparablePenalty):
            raise ValueError(f"groups: the penalty must be one of single numbers, {penalty!r} has groups of its own")
        price = groups.price(weight.name) if isinstance(groups, PricedGroups) else None
        penalty = Grouped(penalty, grouping) if price is None else Grouped(penalty, grouping, weight=price)
    grouping = grouping_of(penalty)
    if grouping is not None:
        try:
            grouping.shape(weight.parameter.shape)
        except ValueError as error:
            raise ValueError(f"groups: {weight.name} of shape {tuple(weight.parameter.shape)}: {error}") from error
    return penalty


def in_layout(grouping: Grouping, module: nn.Module) -> Grouping:
    """Transposed convolutions have their inputs on the first axis and their outputs on the second one."""
    if isinstance(module, TRANSPOSED) and isinstance(grouping, (Filters, InputChannels)):
        if module.groups > 1:
            raise ValueError(f"groups: {module} mixes axes; give a function that says what its groups are")
        return Each(1) if isinstance(grouping, Filters) else Each(0)
    return grouping


def is_uniform(penalty: Penalty) -> bool:
    """Whether a penalty is one of single numbers that treats all of them alike, wherever they are."""
    if isinstance(penalty, Weighted):
        return isinstance(penalty.weights, int | float) and is_uniform(penalty.penalty)
    return isinstance(penalty, SeparablePenalty) and not any(
        isinstance(getattr(penalty, field.name), Tensor) for field in dataclasses.fields(penalty)
    )


def innermost(penalty: Penalty) -> Penalty:
    """The penalty of single numbers, without its weights and groups."""
    while isinstance(inner := getattr(penalty, "penalty", None), Penalty):
        penalty = inner
    return penalty


def ungrouped(penalty: Penalty) -> Penalty:
    """The penalty of single numbers that a penalty on groups applies to their norms; others as they are."""
    return penalty.penalty if isinstance(penalty, Grouped) else penalty


def dead_share(sparse: Sequence[tuple[Grouping | None, Tensor]]) -> float:
    """The share of groups that are all zero, of several tensors with their groups; those without groups do not count.

    Parameters
    ----------
    sparse : sequence of (Grouping or None, Tensor)
    """
    norms = [grouping.norm(values).flatten().cpu() for grouping, values in sparse if grouping is not None]
    return float((torch.cat(norms) == 0).double().mean())
