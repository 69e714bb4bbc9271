"""Sparsity penalties on the weights of any model: strategies, groups, targets."""

from unrolled.sparsify.compact import Compaction, compact, compaction
from unrolled.sparsify.groups import AttentionHeads, Groups
from unrolled.sparsify.masks import Masks
from unrolled.sparsify.proximal import ProximalStep
from unrolled.sparsify.schedules import Constant, Cubic, Growth, Schedule, WarmUp
from unrolled.sparsify.selection import Weight, select_weights
from unrolled.sparsify.sparsifier import Sparsifier

__all__ = [
    "AttentionHeads",
    "Compaction",
    "Constant",
    "Cubic",
    "Groups",
    "Growth",
    "Masks",
    "ProximalStep",
    "Schedule",
    "Sparsifier",
    "WarmUp",
    "Weight",
    "compact",
    "compaction",
    "select_weights",
]
