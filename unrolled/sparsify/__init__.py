"""Sparsity penalties on the weights of any model: strategies, groups, targets."""

from unrolled.sparsify.compact import Compaction, compact, compaction
from unrolled.sparsify.groups import AttentionHeads, Groups, PricedGroups, neurons
from unrolled.sparsify.masks import Masks
from unrolled.sparsify.noise import AdaptiveDropout, HardConcreteGates, VariationalNoise
from unrolled.sparsify.penalty_loss import PenaltyLoss
from unrolled.sparsify.proximal import ProximalStep
from unrolled.sparsify.pruning import MagnitudePruning, NetworkSlimming
from unrolled.sparsify.report import LayerSparsity, SparsityReport, sparsity_report
from unrolled.sparsify.reweighted import AdaProx, ReweightedTikhonov
from unrolled.sparsify.schedules import Constant, Cubic, Growth, Schedule, WarmUp
from unrolled.sparsify.selection import Weight, select_weights
from unrolled.sparsify.sparse_group import CGES, SparseGroupLasso
from unrolled.sparsify.sparsifier import Sparsifier
from unrolled.sparsify.splitting import VariableSplitting

__all__ = [
    "CGES",
    "AdaProx",
    "AdaptiveDropout",
    "AttentionHeads",
    "Compaction",
    "Constant",
    "Cubic",
    "Groups",
    "Growth",
    "HardConcreteGates",
    "LayerSparsity",
    "MagnitudePruning",
    "Masks",
    "NetworkSlimming",
    "PenaltyLoss",
    "PricedGroups",
    "ProximalStep",
    "ReweightedTikhonov",
    "Schedule",
    "SparseGroupLasso",
    "Sparsifier",
    "SparsityReport",
    "VariableSplitting",
    "VariationalNoise",
    "WarmUp",
    "Weight",
    "compact",
    "compaction",
    "neurons",
    "select_weights",
    "sparsity_report",
]
