"""A network that is linear in the measurements, and operators of each kind, in double precision."""

import torch
from torch import nn

from tests.helpers import picture
from unrolled.data import with_fixed_phase
from unrolled.networks import Phase, UnrolledNetwork, gradient, per_channel
from unrolled.operators import (
    CartesianMask,
    Coils,
    Identity,
    Inpainting,
    MaskedFourier,
    MultiCoilFourier,
    RadialMask,
)


class Filtered(Phase):
    """A step of gradient descent and a filter, and what becomes of both at the end."""

    def __init__(self, parts: int, last: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(parts, parts, 3, padding=1, bias=False), last)

    def forward(self, state, y, operator, condition=None):
        x = state[0] - 0.5 * gradient(state[0], y, operator)
        return (x + per_channel(self.layers, x),)


class Filter(UnrolledNetwork):
    """A few such steps; with the identity at their ends linear in the measurements."""

    def __init__(self, complex_images: bool = False, phases: int = 1, last: type[nn.Module] = nn.Identity, **options):
        parts = 2 if complex_images else 1
        super().__init__([Filtered(parts, last()) for _ in range(phases)], complex_images=complex_images, **options)


def network(complex_images: bool = False, **options) -> Filter:
    torch.manual_seed(0)
    return Filter(complex_images, **options).double()


HEIGHT, WIDTH = 8, 9

OPERATORS = {
    "identity": lambda: Identity(),
    "pixels": lambda: Inpainting(keep=0.6, height=HEIGHT, width=WIDTH),
    "frequencies": lambda: MaskedFourier(RadialMask(0.6), HEIGHT, WIDTH),
    "complex": lambda: MaskedFourier(CartesianMask(2), HEIGHT, WIDTH, complex_images=True, centered=True),
    "coils": lambda: MultiCoilFourier(Coils(2), RadialMask(0.6), HEIGHT, WIDTH),
}


def measured(kind: str, batch: int = 3):
    """A network, an operator, images and their measurements."""
    operator = OPERATORS[kind]().double()
    images = [picture(HEIGHT, WIDTH, seed) for seed in range(batch)]
    if operator.complex_images:
        images = [with_fixed_phase(image, seed).to(torch.complex128) for seed, image in enumerate(images)]
    x = torch.stack(images).to(torch.complex128 if operator.complex_images else torch.float64)
    return network(operator.complex_images), operator, x, operator(x)


def of(kind: str):
    """The first three arguments of a loss."""
    net, operator, _, y = measured(kind)
    return net, y, operator
