"""Sparsity penalties on the weights of any model: strategies, groups, targets."""

from unrolled.sparsify.groups import AttentionHeads, Groups
from unrolled.sparsify.masks import Masks
from unrolled.sparsify.penalty_loss import PenaltyLoss
from unrolled.sparsify.proximal import ProximalStep
from unrolled.sparsify.pruning import MagnitudePruning, NetworkSlimming
from unrolled.sparsify.schedules import Constant, Cubic, Growth, Schedule, WarmUp
from unrolled.sparsify.selection import Weight, select_weights
from unrolled.sparsify.sparsifier import Sparsifier

__all__ = [
    "AttentionHeads",
    "Constant",
    "Cubic",
    "Groups",
    "Growth",
    "MagnitudePruning",
    "Masks",
    "NetworkSlimming",
    "PenaltyLoss",
    "ProximalStep",
    "Schedule",
    "Sparsifier",
    "WarmUp",
    "Weight",
    "select_weights",
]
