"""Sparsity penalties on the weights of any model: strategies, groups, targets."""

from unrolled.sparsify.groups import AttentionHeads, Groups
from unrolled.sparsify.masks import Masks
from unrolled.sparsify.proximal import ProximalStep
from unrolled.sparsify.schedules import Constant, Cubic, Growth, Schedule, WarmUp
from unrolled.sparsify.selection import Weight, select_weights
from unrolled.sparsify.sparsifier import Sparsifier
from unrolled.sparsify.splitting import VariableSplitting

__all__ = [
    "AttentionHeads",
    "Constant",
    "Cubic",
    "Groups",
    "Growth",
    "Masks",
    "ProximalStep",
    "Schedule",
    "Sparsifier",
    "VariableSplitting",
    "WarmUp",
    "Weight",
    "select_weights",
]
