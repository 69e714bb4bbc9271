"""Unrolled networks: x̂ = network(y, operator)."""

from unrolled.networks.differentiation import Differentiation, Implicit, Recompute, Unroll
from unrolled.networks.epgn import EPGN
from unrolled.networks.ista_net_plus import ISTANetPlus
from unrolled.networks.network import Phase, UnrolledNetwork
from unrolled.networks.starts import AdjointStart, ConjugateGradientStart, LinearStart, Start

__all__ = [
    "EPGN",
    "AdjointStart",
    "ConjugateGradientStart",
    "Differentiation",
    "ISTANetPlus",
    "Implicit",
    "LinearStart",
    "Phase",
    "Recompute",
    "Start",
    "Unroll",
    "UnrolledNetwork",
]
