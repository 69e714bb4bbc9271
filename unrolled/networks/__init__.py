"""Unrolled networks: x̂ = network(y, operator)."""

from unrolled.networks.differentiation import Differentiation, Implicit, Recompute, Unroll
from unrolled.networks.epgn import EPGN
from unrolled.networks.ista_net_plus import ISTANetPlus
from unrolled.networks.start import AdjointStart, ConjugateGradientStart, LinearStart, Start
from unrolled.networks.unrolled import Phase, UnrolledNetwork

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
