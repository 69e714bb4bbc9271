"""How much arithmetic a network takes for a pixel."""

import copy
import math
from collections.abc import Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from unrolled.networks.unrolled import UnrolledNetwork
from unrolled.operators import CartesianMask, Coils, Dense, Identity, LinearOperator, MultiCoilFourier

SIDE = 96
"""Of the image whose arithmetic is counted: a multiple of the windows and scales that priors have."""

SMALL_SIDE = 24
"""Of the image that a matrix measures as a whole."""


def multiply_adds(network: UnrolledNetwork, operator: LinearOperator, shape: tuple[int, int, int]) -> int:
    """The multiply-adds of one image: those of convolutions and products of matrices, of network and operator.

    Nothing is computed: the shapes of all that would be are enough. Fourier transforms and what is done number by
    number are not counted.

    Parameters
    ----------
    network : UnrolledNetwork
    operator : LinearOperator
    shape : (channel, height, width)
        of the image.
    """
    network.norm_of(operator)  # which is kept with the operator; it is a value, which shapes do not tell
    network, operator = copy.deepcopy(network).to("meta"), copy.deepcopy(operator).to("meta")
    y = torch.empty(1, *operator.measurement_shape(shape), dtype=_number(operator), device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(y, operator)
    return counter.get_total_flops() // 2


def counted_on(network: UnrolledNetwork) -> tuple[str, int]:
    """The operator on which the arithmetic of a network is counted, in words, and its multiply-adds a pixel.

    It is the first of a few that the network takes: the identity, which has no arithmetic of its own, then coils, then
    a matrix.

    Raises
    ------
    ValueError
        if it takes none of them.
    """
    refusals = []
    for words, operator, shape in _operators(network.complex_images):
        try:
            return words, round(multiply_adds(network, operator, shape) / math.prod(shape[1:]))
        except ValueError as error:
            refusals.append(str(error))
    raise ValueError(f"{type(network).__name__}: none of the known operators suits: {'; '.join(refusals)}")


def _operators(complex_images: bool) -> Iterator[tuple[str, LinearOperator, tuple[int, int, int]]]:
    yield "the identity", Identity(complex_images), (1, SIDE, SIDE)
    if complex_images:
        mask = CartesianMask(4)
        yield "8 coils", MultiCoilFourier(Coils(8), mask, SIDE, SIDE), (1, SIDE, SIDE)
    rows, pixels = SMALL_SIDE**2 // 4, SMALL_SIDE**2
    matrix = torch.eye(rows, pixels, dtype=torch.complex64 if complex_images else torch.float32)
    yield f"a matrix {rows}×{pixels}", Dense(matrix, SMALL_SIDE, SMALL_SIDE), (1, SMALL_SIDE, SMALL_SIDE)


def _number(operator: LinearOperator) -> torch.dtype:
    return torch.complex64 if operator.complex_measurements else torch.float32
