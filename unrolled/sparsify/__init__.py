"""Sparsity penalties on the weights of any model: strategies, groups, targets."""

from unrolled.sparsify.groups import AttentionHeads, Groups
from unrolled.sparsify.masks import Masks
from unrolled.sparsify.noise import AdaptiveDropout, HardConcreteGates, VariationalNoise
from unrolled.sparsify.proximal import ProximalStep
from unrolled.sparsify.reweighted import AdaProx, ReweightedTikhonov
from unrolled.sparsify.schedules import Constant, Cubic, Growth, Schedule, WarmUp
from unrolled.sparsify.selection import Weight, select_weights
from unrolled.sparsify.sparsifier import Sparsifier
from unrolled.sparsify.splitting import VariableSplitting

__all__ = [
    "AdaProx",
    "AdaptiveDropout",
    "AttentionHeads",
    "Constant",
    "Cubic",
    "Groups",
    "Growth",
    "HardConcreteGates",
    "Masks",
    "ProximalStep",
    "ReweightedTikhonov",
    "Schedule",
    "Sparsifier",
    "VariationalNoise",
    "VariableSplitting",
    "WarmUp",
    "Weight",
    "select_weights",
]
