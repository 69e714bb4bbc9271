"""Unrolled networks: x̂ = network(y, operator)."""

from unrolled.networks.epgn import EPGN
from unrolled.networks.ista_net_plus import ISTANetPlus
from unrolled.networks.start import LinearStart
from unrolled.networks.unrolled import Phase, UnrolledNetwork

__all__ = ["EPGN", "ISTANetPlus", "LinearStart", "Phase", "UnrolledNetwork"]
