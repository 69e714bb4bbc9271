"""From the names of one program to those of another: every tensor is taken once, and what is over or lacks is named."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unrolled.weights.converting.foreign_files import ForeignWeights
from unrolled.weights.limits import at_most

SHOWN = 6
"""Names that a message lists before it counts."""


def same(tensor: Tensor) -> Tensor:
    """As it is."""
    return tensor


@dataclass(frozen=True)
class From:
    """Where a tensor of ours comes from.

    Attributes
    ----------
    key : str
        its name in the file.
    made : callable
        what is made of it.
    """

    key: str
    made: Callable[[Tensor], Tensor] = same


Origins = Mapping[str, From | Tensor]
"""Of every tensor of a network by its name: where in the file it is, or what it is, if the file does not hold it."""


def fill_from(network: nn.Module, origins: Origins, weights: ForeignWeights, ignored: Iterable[str] = ()) -> None:
    """Give a network the tensors of a file.

    Parameters
    ----------
    network : Module
    origins
        of each of its tensors.
    weights : ForeignWeights
    ignored : iterable of str
        patterns of names in the file that hold nothing that is needed in use.

    Raises
    ------
    ValueError
        if a name is missing or left over, or a tensor has another shape.
    """
    wanted = {origin.key for origin in origins.values() if isinstance(origin, From)}
    check_names(weights.name, weights.tensors, wanted, ignored)
    own = network.state_dict()
    assert own.keys() == origins.keys(), own.keys() ^ origins.keys()
    state = {}
    for name, origin in origins.items():
        key = origin.key if isinstance(origin, From) else name
        tensor = origin.made(weights.tensors[origin.key]) if isinstance(origin, From) else origin
        if tensor.shape != own[name].shape or tensor.is_complex():
            raise ValueError(
                f"weights: {weights.name}: {key} must be real, of the shape {tuple(own[name].shape)}, got "
                f"{tensor.dtype} {tuple(tensor.shape)}"
            )
        state[name] = tensor.to(own[name].dtype)
    network.load_state_dict(state)


def check_names(owner: str, given: Iterable[str], wanted: Iterable[str], ignored: Iterable[str] = ()) -> None:
    """Raise ValueError, which says what is missing and what is left over, unless names are those that are wanted.

    Parameters
    ----------
    owner : str
        what has the names, for the error.
    given, wanted : iterable of str
    ignored : iterable of str
        patterns of names that may be left over.
    """
    skipped = re.compile("|".join(ignored) or "(?!)")
    missing = sorted(set(wanted) - set(given))
    left = sorted(key for key in set(given) - set(wanted) if not skipped.fullmatch(key))
    if missing or left:
        found = [f"{what} {listed(keys)}" for what, keys in (("lacks", missing), ("also has", left)) if keys]
        raise ValueError(f"weights: {owner} {' and '.join(found)}")


def brought(origins: Origins) -> int:
    """Bytes of what does not come from the file."""
    return sum(origin.numel() * origin.itemsize for origin in origins.values() if isinstance(origin, Tensor))


@contextmanager
def made_of(weights: ForeignWeights, copies: int = 1, more: int = 0) -> Iterator[None]:
    """In the block, let a network be made that is no larger than what there is for it.

    Parameters
    ----------
    weights : ForeignWeights
    copies : int
        how often the network has the tensors of the file, at most.
    more : int
        bytes that do not come from the file.

    Raises
    ------
    ValueError
        if it is much larger, by the shapes of a few tensors; or as the network raises it.
    """
    tensors = {f"{copy}.{key}": tensor for copy in range(copies) for key, tensor in weights.tensors.items()}
    try:
        with at_most(tensors, copies * weights.length + more):
            yield
    except ValueError as error:
        reason = str(error).partition("; memory_mib")[0]
        raise ValueError(f"weights: {weights.name} does not hold the network whose shapes it has: {reason}") from error


def listed(keys: list[str]) -> str:
    """Names, as many as a message bears."""
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(key[:100] for key in keys[:SHOWN]) + more


def counted(weights: ForeignWeights, pattern: str) -> int:
    """How many numbers a name occurs with, which are counted from 0.

    Parameters
    ----------
    weights : ForeignWeights
    pattern : str
        of names, with a group for the number.
    """
    found = {match[1] for key in weights.tensors if (match := re.match(pattern, key))}
    count = 0
    while str(count) in found:
        count += 1
    return count


def shape_of(weights: ForeignWeights, key: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a tensor that tells how large a network is.

    Raises
    ------
    ValueError
        if there is none of this name, or it has not so many dimensions, or no numbers.
    """
    if key not in weights.tensors:
        raise ValueError(f"weights: {weights.name} lacks {key}; it has {listed(sorted(weights.tensors))}")
    shape = tuple(weights.tensors[key].shape)
    if len(shape) != dimensions or 0 in shape:
        raise ValueError(f"weights: {weights.name}: {key} must have {dimensions} dimensions, got the shape {shape}")
    return shape


def before_softplus(name: str, inverse: bool = False) -> Callable[[Tensor], Tensor]:
    """What a learned positive number is kept as, see `unrolled.networks.positive`.

    Parameters
    ----------
    name : str
        of the number, for the error if it is not > 0.
    inverse : bool
        keep 1 / number.
    """

    def raw(number: Tensor) -> Tensor:
        if number.numel() != 1 or not bool(number > 0) or not bool(torch.isfinite(number)):
            raise ValueError(f"weights: {name} must be one finite number > 0, got {number.flatten()[:5].tolist()}")
        exact = number.double().reshape(())
        exact = 1 / exact if inverse else exact
        return exact + torch.log(-torch.expm1(-exact))

    return raw


def kept(name: str, value: float) -> Tensor:
    """The same, of a number that is given."""
    return before_softplus(name)(torch.tensor(value, dtype=torch.float64))


def placed(origins: Origins, prefix: str) -> dict[str, From | Tensor]:
    """Origins of a part of a network, whose names begin so."""
    return {f"{prefix}{name}": origin for name, origin in origins.items()}
