"""Unrolled networks: a start and a list of phases."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from unrolled.description import Described
from unrolled.networks.differentiation import Differentiation, Implicit, Unroll
from unrolled.networks.maps import ConvolutionPair, FusedPair
from unrolled.networks.start import LinearStart
from unrolled.operators import LinearOperator


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

    The phases see one channel; every channel of an image is reconstructed alike.

    Parameters
    ----------
    phases : sequence of Phase
    repeats : int
        how many times they are gone through: one phase repeated is a network whose phases share their weights.
    differentiation : Differentiation, optional
        how gradients are carried through the phases; by default `Unroll()`.
    start : Module, (y, operator) ↦ x₀; by default `LinearStart`
    """

    fused = False

    def __init__(
        self,
        phases: Sequence[Phase],
        repeats: int = 1,
        differentiation: Differentiation | None = None,
        start: nn.Module | None = None,
    ):
        super().__init__()
        self.start = LinearStart() if start is None else start
        self.phases = nn.ModuleList(phases)
        self.repeats = repeats
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
        """
        return self.differentiation.run(self.sequence, self.start(y, operator), y, operator)[0]

    def iterates(self, y: Tensor, operator: LinearOperator) -> list[Tensor]:
        """The start and the image after every phase, each (batch, channel, height, width)."""
        x, memory = self.start(y, operator), None
        images = [x]
        for phase in self.sequence:
            x, memory = phase(x, memory, y, operator)
            images.append(x)
        return images

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
        """What training minimises: the mean squared error to the true images x. A network may add to it."""
        return (self(y, operator) - x).square().mean()


def gradient(x: Tensor, y: Tensor, operator: LinearOperator) -> Tensor:
    """∇f(x) = Aᴴ(Ax − y) of f(x) = ½‖Ax − y‖²."""
    return operator.adjoint(operator(x) - y)


def per_channel(layer: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Apply a layer of one channel to every channel of an image alike."""
    return layer(image.flatten(0, 1).unsqueeze(1)).view(image.shape)


def positive(value: float) -> nn.Parameter:
    """A learned step size that starts at a value; read it through `softplus`, which keeps it positive."""
    return nn.Parameter(torch.tensor(value).expm1().log())
