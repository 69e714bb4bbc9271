"""EPGN and ISTA-Net+ as one would first write them: the reference that speed is measured against.

Float32, channels first, eager, one convolution after the other, soft thresholding by sign and magnitude. They take the
weights of the package's networks and give the same images (`tests/test_benchmarks.py`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks import EPGN, ISTANetPlus, UnrolledNetwork
from unrolled.operators import LinearOperator


def soft(x: Tensor, threshold: Tensor) -> Tensor:
    """Soft thresholding."""
    return torch.sign(x) * F.relu(x.abs() - threshold)


class PlainEPGNPhase(nn.Module):
    """The accelerated phase, local."""

    def __init__(self, phase: nn.Module):
        super().__init__()
        prox = phase.prox
        kernels = {
            "d": prox.sparsify.pair.first,
            "a": prox.sparsify.pair.second,
            "b": prox.sparsify.conv.weight,
            "b_back": prox.synthesize.conv.weight,
            "a_back": prox.synthesize.pair.first,
            "d_back": prox.synthesize.pair.second,
            "raw_threshold": prox.shrinkage.raw_step,
            "raw_alpha": phase.raw_alpha,
            "raw_beta": phase.raw_beta,
            "raw_gamma": phase.raw_gamma,
        }
        for name, kernel in kernels.items():
            setattr(self, name, nn.Parameter(kernel.detach().clone(memory_format=torch.contiguous_format)))

    def prox(self, x: Tensor) -> Tensor:
        # A pair of convolutions with nothing between them is padded once, before the first.
        z = F.relu(F.conv2d(F.conv2d(x, self.d, padding=2), self.a))
        z = F.conv2d(z, self.b, padding=1)
        z = soft(z, F.softplus(self.raw_threshold))
        z = F.relu(F.conv2d(z, self.b_back, padding=1))
        return x + F.conv2d(F.conv2d(z, self.a_back, padding=2), self.d_back)

    def forward(self, x: Tensor, memory: Tensor | None, y: Tensor, operator: LinearOperator) -> tuple[Tensor, Tensor]:
        gamma = F.softplus(self.raw_gamma)
        t = x if memory is None else x + gamma * (x - memory)
        half = self.prox(t - F.softplus(self.raw_alpha) * operator.adjoint(operator(t) - y))
        s = half + gamma * (half - x)
        return self.prox(s - F.softplus(self.raw_beta) * operator.adjoint(operator(s) - y)), half


class PlainISTAPhase(nn.Module):
    """One iteration of ISTA-Net+; it also returns the asymmetry ‖H̃(H(d)) − d‖² of its maps."""

    def __init__(self, phase: nn.Module):
        super().__init__()
        kernels = {
            "d": phase.analysis.first,
            "h1": phase.analysis.second,
            "h2": phase.analysis_last,
            "h1_back": phase.synthesis_first,
            "h2_back": phase.synthesis.first,
            "g": phase.synthesis.second,
            "raw_threshold": phase.shrinkage.raw_step,
            "raw_step": phase.raw_step,
        }
        for name, kernel in kernels.items():
            setattr(self, name, nn.Parameter(kernel.detach().clone(memory_format=torch.contiguous_format)))

    def denoise(self, b: Tensor) -> Tensor:
        z = F.conv2d(F.relu(F.conv2d(F.conv2d(b, self.d, padding=2), self.h1)), self.h2, padding=1)
        if self.training:
            d = F.conv2d(b, self.d, padding=1)
            back = F.conv2d(F.relu(F.conv2d(z, self.h1_back, padding=1)), self.h2_back, padding=1)
            self.asymmetry = (back - d).square().mean()
        z = F.relu(F.conv2d(soft(z, F.softplus(self.raw_threshold)), self.h1_back, padding=1))
        return b + F.conv2d(F.conv2d(z, self.h2_back, padding=2), self.g)

    def forward(self, x: Tensor, memory: None, y: Tensor, operator: LinearOperator) -> tuple[Tensor, None]:
        return self.denoise(x - F.softplus(self.raw_step) * operator.adjoint(operator(x) - y)), None


class Plain(nn.Module):
    """A plain network with the weights of a network of this package."""

    def __init__(self, network: UnrolledNetwork):
        super().__init__()
        kinds = {EPGN: PlainEPGNPhase, ISTANetPlus: PlainISTAPhase}
        self.start = network.start
        self.phases = nn.ModuleList(kinds[type(network)](phase) for phase in network.phases)
        self.symmetry = getattr(network, "symmetry", 0.0)

    def forward(self, y: Tensor, operator: LinearOperator) -> Tensor:
        x, memory = self.start(y, operator), None
        for phase in self.phases:
            x, memory = phase(x, memory, y, operator)
        return x

    def loss(self, x: Tensor, y: Tensor, operator: LinearOperator) -> Tensor:
        loss = (self(y, operator) - x).square().mean()
        if self.symmetry:
            loss = loss + self.symmetry * sum(phase.asymmetry for phase in self.phases) / len(self.phases)
        return loss
