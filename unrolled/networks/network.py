"""Unrolled networks: a start and a list of phases."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from einops import rearrange
from torch import Tensor, nn

from unrolled.networks.differentiation import Differentiation, Implicit, Unroll
from unrolled.networks.maps import ConvolutionPair, FusedPair
from unrolled.networks.starts import LinearStart, Start
from unrolled.operators import LinearOperator
from unrolled.system.recipes import Described


class Phase(nn.Module, ABC):
    """One iteration of an optimisation algorithm, with learned parts."""

    @property
    @abstractmethod
    def reaches(self) -> tuple[int, ...]:
        """How many pixels away each learned map of the phase looks; a gradient step stands before each."""

    @property
    def alignment(self) -> int:
        """Parts of an image that the phase is to treat as the whole begin at multiples of so many pixels."""
        return 1

    @abstractmethod
    def forward(self, x: Tensor, memory: Any, y: Tensor, operator: LinearOperator) -> tuple[Tensor, Any]:
        """The next image and what the next phase wants to know.

        Parameters
        ----------
        x : Tensor, (batch, channel, height, width)
        memory : whatever the phase before returned; None at the start
        y : Tensor, the measurements
        operator : LinearOperator
        """


class UnrolledNetwork(Described, nn.Module, ABC):
    """x̂ = network(y, operator): a linear start, then one phase after the other.

    The learned maps see one channel; every channel of an image is reconstructed alike. Of a complex channel they see
    the real and the imaginary part together, as two channels of one image.

    Parameters
    ----------
    phases : sequence of Phase
    repeats : int
        how many times they are gone through: one phase repeated is a network whose phases share their weights.
    differentiation : Differentiation, optional
        how gradients are carried through the phases; by default `Unroll()`.
    start : Start, optional
        (y, operator) ↦ x₀; by default `LinearStart()`.
    complex_images : bool
        whether it is made for operators that measure complex images.
    """

    fused = False

    def __init__(
        self,
        phases: Sequence[Phase],
        repeats: int = 1,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
    ):
        super().__init__()
        self.start = LinearStart() if start is None else start
        self.phases = nn.ModuleList(phases)
        self.repeats = repeats
        self.complex_images = complex_images
        self.differentiation = Unroll() if differentiation is None else differentiation
        if isinstance(self.differentiation, Implicit) and len(phases) > 1:
            raise ValueError(f"{type(self).__name__}: differentiation by Implicit needs shared=True")

    @property
    def sequence(self) -> list[Phase]:
        """The phases in the order in which they are applied."""
        return [phase for phase in self.phases if isinstance(phase, Phase)] * self.repeats

    @property
    def parameter_count(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, y: Tensor, operator: LinearOperator) -> Tensor:
        """Reconstruct.

        Parameters
        ----------
        y : Tensor, measurements of a batch of images, in the shape that the operator states
        operator : LinearOperator

        Returns
        -------
        Tensor, (batch, channel, height, width)

        Raises
        ------
        ValueError
            if the network is made for real images and the operator measures complex ones, or the other way round.
        """
        self.check(operator)
        return self.differentiation.run(self.sequence, self.start(y, operator), y, operator)[0]

    def iterates(self, y: Tensor, operator: LinearOperator) -> list[Tensor]:
        """The start and the image after every phase, each (batch, channel, height, width)."""
        self.check(operator)
        x, memory = self.start(y, operator), None
        images = [x]
        for phase in self.sequence:
            x, memory = phase(x, memory, y, operator)
            images.append(x)
        return images

    def check(self, operator: LinearOperator) -> None:
        """Raise ValueError unless the images of an operator, real or complex, are those the network is made for."""
        if operator.complex_images != self.complex_images:
            own, measured = ("complex", "real") if self.complex_images else ("real", "complex")
            raise ValueError(
                f"{type(self).__name__}: made for {own} images, and {type(operator).__name__} measures {measured} "
                f"ones; make it with complex_images={operator.complex_images}"
            )

    def fuse(self) -> Self:
        """A copy for use without training: every convolution pair is one plain convolution, with the same result."""
        network = copy.deepcopy(self).eval()
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, ConvolutionPair):
                    setattr(module, name, FusedPair(child))
        network.fused = True
        return network

    def description(self) -> dict[str, Any]:
        if self.fused:
            raise ValueError("a fused network is for use only: save or describe the network it was made from")
        return super().description()

    def loss(self, x: Tensor, y: Tensor, operator: LinearOperator) -> Tensor:
        """What training minimises: the mean of |x̂ − x|², x the true images. A network may add to it."""
        return mean_square(self(y, operator) - x)


def gradient(x: Tensor, y: Tensor, operator: LinearOperator) -> Tensor:
    """∇f(x) = Aᴴ(Ax − y) of f(x) = ½‖Ax − y‖²."""
    return operator.adjoint(operator(x) - y)


def per_channel(layer: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Apply a layer of one channel, real or complex (see `apart`), to every channel of an image alike."""
    return together(layer(apart(image)), image)


def apart(image: Tensor) -> Tensor:
    """Every channel as an image of its own, complex ones as two channels, the real and the imaginary part.

    Parameters
    ----------
    image : Tensor, (batch, channel, height, width), real or complex

    Returns
    -------
    Tensor, (batch·channel, 1 or 2, height, width), real
    """
    if image.is_complex():
        return rearrange(torch.view_as_real(image), "b c h w parts -> (b c) parts h w")
    return image.flatten(0, 1).unsqueeze(1)


def together(channels: Tensor, image: Tensor) -> Tensor:
    """The inverse of `apart`: channels as an image of the shape and kind of another one."""
    if image.is_complex():
        return torch.view_as_complex(channels.movedim(1, -1).contiguous()).view(image.shape)
    return channels.view(image.shape)


def mean_square(x: Tensor) -> Tensor:
    """The mean of |x|², real or complex."""
    return (x.real.square() + x.imag.square()).mean() if x.is_complex() else x.square().mean()


def positive(value: float) -> nn.Parameter:
    """A learned step size that starts at a value; read it through `softplus`, which keeps it positive."""
    return nn.Parameter(torch.tensor(value).expm1().log())
