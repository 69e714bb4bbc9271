"""Groupings: which entries of a tensor belong together."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grouping(ABC):
    """Disjoint groups of a tensor's entries: an immutable value of plain numbers, independent of any tensor.

    What there is one of per group has the shape `shape(w.shape)`: the axes of w are kept, as length 1 where a group
    runs along them, so that it broadcasts against w wherever the grouping allows; `spread` repeats it for the entries.
    """

    @abstractmethod
    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of one number per group, for a tensor of the given shape.

        Raises
        ------
        ValueError
            if a tensor of this shape cannot be grouped so.
        """

    @abstractmethod
    def size(self, shape: Sequence[int]) -> int | Tensor:
        """How many entries a group has: one number, or a float64 tensor of shape `shape(shape)` where that differs."""

    @abstractmethod
    def sum(self, w: Tensor) -> Tensor:
        """The sum over each group."""

    @abstractmethod
    def max(self, w: Tensor) -> Tensor:
        """The maximum of each group, of a real tensor."""

    @abstractmethod
    def norm(self, w: Tensor) -> Tensor:
        """‖w_g‖₂ of each group, real, in at least 32 bits; its gradient at 0 is 0. Its square must not overflow."""

    @abstractmethod
    def spread(self, numbers: Tensor, shape: Sequence[int], outside: float = 0.0) -> Tensor:
        """One number per group, repeated for every entry of the group.

        Parameters
        ----------
        numbers : Tensor that broadcasts to `self.shape(shape)`
        shape : sequence of int
            the shape of the grouped tensor, and of what is returned (which may be a view that shares memory).
        outside : float
            for entries that are in no group.
        """


class Slices(Grouping):
    """Groups that are the slices of a view of the tensor, all of one size."""

    @abstractmethod
    def _view(self, shape: Sequence[int]) -> tuple[list[int], list[int]]:
        """A shape of the same entries, and those of its axes that run within a group."""

    def _members(self, w: Tensor) -> tuple[Tensor, list[int], tuple[int, ...]]:
        shape, axes = self._view(w.shape)
        return w.reshape(shape), axes, self.shape(w.shape)

    def size(self, shape: Sequence[int]) -> int:
        sizes, axes = self._view(shape)
        return math.prod([sizes[axis] for axis in axes])

    def sum(self, w: Tensor) -> Tensor:
        members, axes, shape = self._members(w)
        return members.sum(axes).reshape(shape)

    def max(self, w: Tensor) -> Tensor:
        members, axes, shape = self._members(w)
        return members.amax(axes).reshape(shape)

    def norm(self, w: Tensor) -> Tensor:
        members, axes, shape = self._members(_at_least_32_bits(w))
        return torch.linalg.vector_norm(members, dim=axes).reshape(shape)

    def spread(self, numbers: Tensor, shape: Sequence[int], outside: float = 0.0) -> Tensor:
        sizes, axes = self._view(shape)
        kept = [1 if axis in axes else size for axis, size in enumerate(sizes)]
        return numbers.expand(self.shape(shape)).reshape(kept).expand(sizes).reshape(tuple(shape))


class _Axes(Slices):
    """Groups that run along whole axes."""

    @abstractmethod
    def _within(self, shape: Sequence[int]) -> list[int]:
        """The axes that run within a group."""

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        within = self._within(shape)
        return tuple(1 if axis in within else size for axis, size in enumerate(shape))

    def _view(self, shape: Sequence[int]) -> tuple[list[int], list[int]]:
        # The further axis of length 1 is there for groups of single entries.
        return [*shape, 1], [*self._within(shape), len(shape)]

    def _existing(self, axes: int | Sequence[int], shape: Sequence[int]) -> set[int]:
        axes = (axes,) if isinstance(axes, int) else axes
        for axis in axes:
            if not -len(shape) <= axis < len(shape):
                raise ValueError(f"{self}: the tensor has no axis {axis}, its shape is {tuple(shape)}")
        found = {axis % len(shape) for axis in axes}
        if len(found) < len(axes):
            raise ValueError(f"{self}: the axes must differ, but in a tensor of shape {tuple(shape)} two are the same")
        return found

    def _all_but(self, axes: int | Sequence[int], shape: Sequence[int]) -> list[int]:
        kept = self._existing(axes, shape)
        return [axis for axis in range(len(shape)) if axis not in kept]


@dataclass(frozen=True)
class Whole(_Axes):
    """The whole tensor is one group.

    Examples
    --------
    >>> Whole().norm(torch.tensor([[0.0, 3.0], [4.0, 0.0]]))
    tensor([[5.]])
    """

    def _within(self, shape: Sequence[int]) -> list[int]:
        return list(range(len(shape)))


@dataclass(frozen=True)
class _GivenAxes(_Axes):
    """Groups by axes that the user names."""

    axes: int | tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", _whole_numbers(type(self).__name__, "axes", self.axes))


@dataclass(frozen=True)
class Each(_GivenAxes):
    """One group for each index along the given axes: all entries that share it.

    Parameters
    ----------
    axes : int or sequence of int
        negative ones count from the last.

    Examples
    --------
    >>> Each(0).norm(torch.tensor([[0.0, 2.0], [3.0, 4.0]]))
    tensor([[2.],
            [5.]])
    """

    def _within(self, shape: Sequence[int]) -> list[int]:
        return self._all_but(self.axes, shape)


@dataclass(frozen=True)
class Along(_GivenAxes):
    """Groups that run along the given axes: one for each index of the others.

    Parameters
    ----------
    axes : int or sequence of int
        negative ones count from the last.

    Examples
    --------
    >>> Along(0).norm(torch.tensor([[0.0, 3.0], [2.0, 4.0]]))
    tensor([[2., 5.]])
    """

    def _within(self, shape: Sequence[int]) -> list[int]:
        return sorted(self._existing(self.axes, shape))


@dataclass(frozen=True)
class Filters(_Axes):
    """The filters of a convolution's weight (out, in, height, width), the output units of a dense layer's (out, in).

    Examples
    --------
    >>> Filters().norm(torch.ones(2, 4, 3, 3)).flatten()
    tensor([6., 6.])
    """

    def _within(self, shape: Sequence[int]) -> list[int]:
        return self._all_but(0, shape)


@dataclass(frozen=True)
class InputChannels(_Axes):
    """The input channels of a convolution's weight (out, in, height, width), the input units of a dense layer's.

    Examples
    --------
    >>> InputChannels().norm(torch.ones(4, 2, 3, 3)).flatten()
    tensor([6., 6.])
    """

    def _within(self, shape: Sequence[int]) -> list[int]:
        return self._all_but(1, shape)


@dataclass(frozen=True)
class FeatureMaps(_Axes):
    """The channels of images (batch, channel, height, width): each of each image a group.

    Examples
    --------
    >>> FeatureMaps().norm(torch.ones(1, 2, 4, 4)).flatten()
    tensor([4., 4.])
    """

    def _within(self, shape: Sequence[int]) -> list[int]:
        return self._all_but((0, 1), shape)


@dataclass(frozen=True)
class Pixels(_Axes):
    """The pixels of images (batch, channel, height, width): the vector of all channels at each, for joint sparsity.

    Examples
    --------
    >>> Pixels().norm(torch.ones(1, 9, 1, 2))
    tensor([[[[3., 3.]]]])
    """

    def _within(self, shape: Sequence[int]) -> list[int]:
        return sorted(self._existing(1, shape))


@dataclass(frozen=True)
class Blocks(Slices):
    """Blocks that tile the last axes without overlap; one group per block, an axis of n entries has n/block of them.

    Parameters
    ----------
    block : int or sequence of int >= 1
        sides of a block along the last axes, as many as there are numbers.

    Examples
    --------
    >>> Blocks((2, 2)).norm(torch.ones(4, 6))
    tensor([[2., 2., 2.],
            [2., 2., 2.]])
    """

    block: tuple[int, ...]

    def __post_init__(self) -> None:
        block = _whole_numbers("Blocks", "block", self.block)
        block = (block,) if isinstance(block, int) else block
        if not block or min(block) < 1:
            raise ValueError(f"Blocks: block must have one side >= 1 or more of them, got {self.block!r}")
        object.__setattr__(self, "block", block)

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        self._check(shape)
        lead = len(shape) - len(self.block)
        return (*shape[:lead], *(size // side for size, side in zip(shape[lead:], self.block, strict=True)))

    def _view(self, shape: Sequence[int]) -> tuple[list[int], list[int]]:
        counts = self.shape(shape)
        lead = len(shape) - len(self.block)
        view = list(counts[:lead])
        for count, side in zip(counts[lead:], self.block, strict=True):
            view += [count, side]
        return view, list(range(lead + 1, len(view), 2))

    def _check(self, shape: Sequence[int]) -> None:
        last = tuple(shape)[-len(self.block) :]
        if len(last) < len(self.block) or any(size % side for size, side in zip(last, self.block, strict=True)):
            raise ValueError(
                f"{self}: the last {len(self.block)} sizes of the tensor must be multiples of the block, "
                f"its shape is {tuple(shape)}"
            )


@dataclass(frozen=True)
class IndexSets(Grouping):
    """Given sets of indices, along one axis or over the flattened tensor.

    Along an axis a group is everything whose index there is in the set, whatever the other indices are. Entries that
    are in no set belong to no group: penalties do not count them and leave them as they are.

    Parameters
    ----------
    sets : sequence of sequences of int >= 0
        disjoint, none of them empty.
    axis : int, optional
        by default the indices are those of the flattened tensor; then there is one axis of groups.

    Examples
    --------
    >>> IndexSets([[0, 3], [1]]).norm(torch.tensor([3.0, 1.0, 7.0, 4.0]))
    tensor([5., 1.])
    """

    sets: tuple[tuple[int, ...], ...]
    axis: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.sets, (str, int)) or not len(self.sets):
            raise ValueError(f"IndexSets: sets must be one or more lists of whole numbers, got {self.sets!r}")
        sets = []
        seen: set[int] = set()
        for given in self.sets:
            indices = _whole_numbers("IndexSets", "sets", given)
            if isinstance(indices, int) or not indices or min(indices) < 0:
                raise ValueError(f"IndexSets: each set must be a list of one or more numbers >= 0, got {indices!r}")
            if len(set(indices)) < len(indices) or not seen.isdisjoint(indices):
                twice = sorted(seen.intersection(indices) or {i for i in indices if indices.count(i) > 1})
                raise ValueError(f"IndexSets: sets must be disjoint, but {twice[0]} occurs twice")
            seen.update(indices)
            sets.append(indices)
        if self.axis is not None:
            _whole_numbers("IndexSets", "axis", self.axis)
        object.__setattr__(self, "sets", tuple(sets))
        # For index_add and the like: every index, and the number of its set.
        object.__setattr__(self, "_index", torch.tensor([i for indices in sets for i in indices]))
        object.__setattr__(self, "_label", torch.tensor([g for g, indices in enumerate(sets) for _ in indices]))

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        size = self._length(shape)
        largest = max(max(indices) for indices in self.sets)
        if largest >= size:
            where = "the flattened tensor" if self.axis is None else f"axis {self.axis}"
            raise ValueError(f"IndexSets: sets has the index {largest}, but {where} has only {size} entries")
        if self.axis is None:
            return (len(self.sets),)
        axis = self.axis % len(shape)
        return tuple(len(self.sets) if other == axis else 1 for other in range(len(shape)))

    def _length(self, shape: Sequence[int]) -> int:
        if self.axis is None:
            return math.prod(shape)
        if not -len(shape) <= self.axis < len(shape):
            raise ValueError(f"IndexSets: the tensor has no axis {self.axis}, its shape is {tuple(shape)}")
        return shape[self.axis]

    def size(self, shape: Sequence[int]) -> Tensor:
        others = math.prod(shape) // self._length(shape)
        counts = torch.tensor([len(indices) * others for indices in self.sets], dtype=torch.float64)
        return counts.reshape(self.shape(shape))

    def _rows(self, w: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """What the sets index, one row each, (entries in sets, others); the sets' numbers; the shape of the groups."""
        shape = self.shape(w.shape)
        rows = w.reshape(-1, 1) if self.axis is None else w.movedim(self.axis, 0).reshape(w.shape[self.axis], -1)
        return rows.index_select(0, self._index.to(w.device)), self._label.to(w.device), shape  # type: ignore[attr-defined]

    def sum(self, w: Tensor) -> Tensor:
        rows, label, shape = self._rows(w)
        return w.new_zeros(len(self.sets)).index_add(0, label, rows.sum(1)).reshape(shape)

    def max(self, w: Tensor) -> Tensor:
        rows, label, shape = self._rows(w)
        start = w.new_zeros(len(self.sets))
        return start.scatter_reduce(0, label, rows.amax(1), "amax", include_self=False).reshape(shape)

    def norm(self, w: Tensor) -> Tensor:
        w = _at_least_32_bits(w)
        squares = self.sum((w * w.conj()).real if w.is_complex() else w.square())
        return torch.where(squares == 0, 0.0, torch.where(squares == 0, 1.0, squares).sqrt())

    def spread(self, numbers: Tensor, shape: Sequence[int], outside: float = 0.0) -> Tensor:
        length = self._length(shape)
        inside = numbers.expand(self.shape(shape)).reshape(-1).index_select(0, self._label.to(numbers.device))  # type: ignore[attr-defined]
        every = numbers.new_full((length,), outside).index_copy(0, self._index.to(numbers.device), inside)  # type: ignore[attr-defined]
        if self.axis is None:
            return every.reshape(tuple(shape))
        axis = self.axis % len(shape)
        return every.reshape([length if other == axis else 1 for other in range(len(shape))]).expand(tuple(shape))


def _whole_numbers(cls: str, name: str, value: int | Iterable[int]) -> int | tuple[int, ...]:
    """A whole number, or a tuple of such; anything else is refused."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    numbers = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (None,)
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        raise ValueError(f"{cls}: {name} must be whole numbers, got {value!r}")
    return numbers  # type: ignore[return-value]


def _at_least_32_bits(w: Tensor) -> Tensor:
    if not (w.is_floating_point() or w.is_complex()):
        raise ValueError(f"a penalty needs floating point or complex tensors, got {w.dtype}")
    return w.float() if w.dtype in (torch.bfloat16, torch.float16) else w
