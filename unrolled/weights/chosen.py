"""The network and the operator that a caller chooses: as they are, or by the name or file of weights."""

import copy
import warnings
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator, OperatorDraw
from unrolled.system.devices import torch_device
from unrolled.system.recipes import describe, writable
from unrolled.weights.card import read_card
from unrolled.weights.networks import check_parts, load

DEFAULT = "epgn-cs25"
"""The weights that reconstruct where nobody names others."""

Chosen = TypeVar("Chosen", bound=LinearOperator | OperatorDraw)


def resolve(
    network: UnrolledNetwork | str | Path, operator: Chosen | None, device: str = "cpu"
) -> tuple[UnrolledNetwork, Chosen | LinearOperator]:
    """A network with its operator: as given, or loaded from weights.

    Parameters
    ----------
    network : UnrolledNetwork, or the name or file of weights
    operator : LinearOperator or OperatorDraw, optional
        by default that of the weights. Another one gets what theirs has learned of images, if it is of a kind that
        learns of them and has not done so itself.
    device : str
        where weights are loaded to, and the operator moved.

    Raises
    ------
    ValueError
        for what is no network or no operator, a network without an operator, or weights that cannot be loaded.

    Warns
    -----
    UserWarning
        if the weights were trained for another operator alone.
    """
    by_name = isinstance(network, (str, Path))
    check_parts(None if by_name else network, None if isinstance(operator, OperatorDraw) else operator)
    if isinstance(network, UnrolledNetwork):
        if operator is None:
            raise ValueError("operator: is needed with a network; only weights bring their own")
        return network, operator
    found, own = load(network, device)
    if operator is None:
        return found, own
    _warn_of_others(network, operator)
    if isinstance(operator, OperatorDraw):
        operator = copy.deepcopy(operator)
        operator.take_fit(own)
        return found, operator
    if not operator.fitted:
        operator = copy.deepcopy(operator)
        operator.take_fit(own)
    return found, operator.to(torch_device(device))


def choose(
    network: UnrolledNetwork | str | Path | None, operator: LinearOperator | None
) -> tuple[UnrolledNetwork | None, LinearOperator]:
    """As `resolve`, but without a network the default weights, or None with an operator, for total variation."""
    if network is None and operator is not None:
        check_parts(None, operator)
        return None, operator
    return resolve(DEFAULT if network is None else network, operator)


def operator_for(
    image: Tensor, index: int, chosen: LinearOperator | OperatorDraw, device: torch.device
) -> LinearOperator:
    """The operator that measures an image, (channel, height, width), when it is padded to the multiples of pixels."""
    height, width = (side + -side % chosen.multiple for side in image.shape[-2:])
    return operator_for_sides((height, width), index, chosen, device)


def operator_for_sides(
    sides: tuple[int, int], index: int, chosen: LinearOperator | OperatorDraw, device: torch.device
) -> LinearOperator:
    """The operator that is chosen, or that of a draw for an image.

    Parameters
    ----------
    sides : (height, width)
        of the image.
    index : int
        the number of the image.
    chosen : LinearOperator or OperatorDraw
    device : torch.device
        where what is drawn is moved to.
    """
    return chosen if isinstance(chosen, LinearOperator) else chosen.in_validation(index, sides).to(device)


def typical(chosen: LinearOperator | OperatorDraw) -> LinearOperator:
    """The operator that is chosen, or one of a draw."""
    return chosen if isinstance(chosen, LinearOperator) else chosen.typical


def _warn_of_others(weights: str | Path, operator: LinearOperator | OperatorDraw) -> None:
    """Warn unless weights were trained for this operator, or for operators that were drawn."""
    card = read_card(weights)
    if "operators" in card or writable(describe(operator)) == card["operator"]:
        return
    warnings.warn(
        f"operator: {weights} was trained for {_named(card['operator'])} alone, and is used for another one; networks "
        "that are trained on operators that are drawn bear that better",
        stacklevel=4,
    )


def _named(recipe: dict) -> str:
    """The operator of a recipe, with those of its arguments that are numbers or text."""
    plain = {name: value for name, value in recipe["init_args"].items() if isinstance(value, (int, float, str))}
    return f"{recipe['class_path']}({', '.join(f'{name}={value!r}' for name, value in plain.items())})"
