"""How sparse weights get into a model: for good, for a while, and to stay."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from unrolled.sparsify.machinery.companions import Companions
from unrolled.sparsify.machinery.masks import Masks
from unrolled.sparsify.selection import Weight


@torch.no_grad()
def write(own: Mapping[str, Tensor], values: Mapping[str, Tensor], companions: Companions) -> None:
    """Write sparse weights, and the zeros that their companions have for them.

    Parameters
    ----------
    own : mapping
        name → parameter of the model, or of a copy.
    values : mapping
        name of a weight → what it becomes.
    companions : Companions
    """
    for name, numbers in values.items():
        own[name].copy_(numbers)
    companions.write(own, values)


@contextmanager
def written(model: nn.Module, values: Mapping[str, Tensor], companions: Companions) -> Iterator[None]:
    """While it lasts, a model has these weights; then all that was written is as it was."""
    own = dict(model.named_parameters())
    before = {name: own[name].detach().clone() for name in (*values, *companions.names())}
    write(own, values, companions)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, numbers in before.items():
                own[name].copy_(numbers)


def masks_of(model: nn.Module, weights: Sequence[Weight], companions: Companions) -> Masks:
    """What keeps the zeros of weights, and those of the companions of dead filters."""
    dead = companions.dead({weight.name: weight.parameter for weight in weights})
    zeros = [weight.parameter == 0 for weight in weights]
    parameters = [weight.parameter for weight in weights]
    return Masks(
        [*parameters, *(model.get_parameter(name) for name in dead)], [~zero for zero in (*zeros, *dead.values())]
    )
