"""Sparsity penalties on the weights of any model: strategies, groups, targets."""

from unrolled.sparsify.compact import Compaction, compact, compaction
from unrolled.sparsify.groups import AttentionHeads, Groups
from unrolled.sparsify.masks import Masks
from unrolled.sparsify.proximal import ProximalStep
from unrolled.sparsify.report import LayerSparsity, SparsityReport, sparsity_report
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
    "LayerSparsity",
    "Masks",
    "ProximalStep",
    "Schedule",
    "Sparsifier",
    "SparsityReport",
    "WarmUp",
    "Weight",
    "compact",
    "compaction",
    "select_weights",
    "sparsity_report",
]
