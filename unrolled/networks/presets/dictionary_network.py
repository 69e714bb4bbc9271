"""What networks that are tied to one dictionary share."""

from abc import abstractmethod
from typing import Any, Self

from torch import Tensor

from unrolled.networks.dictionaries import dictionary_of, dictionary_size, kept_fingerprint, same_dictionary
from unrolled.networks.differentiation import Differentiation
from unrolled.networks.phases.phase import Phase
from unrolled.networks.starts import Start, ZeroStart
from unrolled.networks.unrolled import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.operators.intake import numbers_of


class DictionaryNetwork(UnrolledNetwork):
    """A network that finds sparse codes z of y = Dz, with weights made for one dictionary D.

    Codes are the images (channel, height, width) of an operator such as `Dense` whose matrix, (rows, height·width), is
    the dictionary; every channel is coded alike. The weights begin with values that are computed from the dictionary:
    `of` does it, and so does training; weights that are loaded have theirs.

    Parameters
    ----------
    rows, height, width : int
        of the dictionary and of its codes.
    phases : list of Phase
    repeats : int
    differentiation, start, complex_images, noise_range
        see `UnrolledNetwork`; by default it starts at 0.
    """

    needs = "a dictionary"

    fingerprint: tuple[float, ...] | None = None
    """What tells the dictionary that the weights are made for from others; None before there is one, and of weights
    that were saved before it was kept."""

    def __init__(
        self,
        rows: int,
        height: int,
        width: int,
        phases: list[Phase],
        repeats: int = 1,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
    ):
        start = ZeroStart() if start is None else start
        super().__init__(phases, repeats, differentiation, start, complex_images, noise_range)
        self.size = (rows, height, width)
        self.fitted = False  # before the weights have values of a dictionary, or are loaded

    @classmethod
    def of(cls, operator: LinearOperator, **options: Any) -> Self:
        """The network for a dictionary, with the values that are computed from it.

        Parameters
        ----------
        operator : LinearOperator
            such as `Dense(dictionary, height, width)`, with any norm.
        **options
            further arguments of the network.

        Raises
        ------
        ValueError
            for an operator that is no dictionary, or one that the weights cannot be computed from.
        """
        size = dictionary_size(operator)
        if size is None:
            raise ValueError(f"{cls.__name__}: {_no_dictionary(operator)}")
        network = cls(*size, complex_images=operator.complex_images, **options)
        network.fit_operator(operator)
        return network.to(numbers_of(operator)[1])

    def fit_operator(self, operator: LinearOperator) -> None:
        """Compute the weights' values from a dictionary, unless they have some."""
        self.check(operator)
        norm = self.norm_of(operator)
        if not self.fitted:
            self.take(dictionary_of(operator) / norm)
            self.fitted, self.fingerprint = True, kept_fingerprint(operator)

    @abstractmethod
    def take(self, dictionary: Tensor) -> None:
        """Give the weights the values that they have for a dictionary, (rows, columns), in double precision."""

    def norm_of(self, operator: LinearOperator) -> float:
        if not _made_for(self, operator):
            name = type(self).__name__
            raise ValueError(
                f"{name}: its weights are made for another dictionary than that of the {type(operator).__name__}; make "
                f"others by {name}.of(operator, …)"
            )
        return super().norm_of(operator)

    def check(self, operator: LinearOperator) -> None:
        super().check(operator)
        size = dictionary_size(operator)
        if size != self.size:
            other = _no_dictionary(operator) if size is None else f"{type(operator).__name__} has {_said(*size)}"
            raise ValueError(f"{type(self).__name__}: made for {self.needs} of {_said(*self.size)}, and {other}")

    def given(
        self, y: Any, operator: LinearOperator, noise: float | Tensor | None = None
    ) -> tuple[Tensor, LinearOperator, Tensor | None]:
        self.check(operator)
        if not self.fitted:
            name = type(self).__name__
            raise ValueError(
                f"{name}: its weights have no values yet; make it by {name}.of(operator, …), train it, or load weights"
            )
        return super().given(y, operator, noise)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *others)
        self.fitted = self.fitted or any(key.startswith(prefix) for key in state_dict)


def _made_for(network: DictionaryNetwork, operator: LinearOperator) -> bool:
    if network.fingerprint is None or numbers_of(operator)[1].type == "meta":
        return True
    return same_dictionary(kept_fingerprint(operator), network.fingerprint)


# A graph has it as a constant, as it has the norm.
_made_for._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _said(rows: int, height: int, width: int) -> str:
    return f"{rows} rows and codes {height}×{width}"


def _no_dictionary(operator: LinearOperator) -> str:
    return (
        f"{type(operator).__name__} is no dictionary, which measures every channel of codes (channel, height, width) "
        "by one matrix, as Dense does"
    )
