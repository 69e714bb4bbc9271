"""Unrolled networks: x̂ = network(y, operator)."""

from unrolled.networks.channelwise import apart, mean_square, per_channel, together
from unrolled.networks.differentiation import Differentiation, Implicit, Recompute, Unroll
from unrolled.networks.epgn import EPGN
from unrolled.networks.ista_net_plus import ISTANetPlus
from unrolled.networks.learned_priors import Prior
from unrolled.networks.phases import FeatureMaps, Images, Measurements, Phase, gradient, positive
from unrolled.networks.starts import AdjointStart, ConjugateGradientStart, LinearStart, Start
from unrolled.networks.unrolled import UnrolledNetwork

__all__ = [
    "EPGN",
    "AdjointStart",
    "ConjugateGradientStart",
    "Differentiation",
    "FeatureMaps",
    "ISTANetPlus",
    "Images",
    "Implicit",
    "LinearStart",
    "Measurements",
    "Phase",
    "Prior",
    "Recompute",
    "Start",
    "Unroll",
    "UnrolledNetwork",
    "apart",
    "gradient",
    "mean_square",
    "per_channel",
    "positive",
    "together",
]
