"""Sparsity penalties on the weights of any model: strategies, groups, targets."""

from unrolled.sparsify.compacting.channels import Compaction, compact, compaction
from unrolled.sparsify.compacting.report import LayerSparsity, SparsityReport, sparsity_report
from unrolled.sparsify.groups import AttentionHeads, Groups, PricedGroups, neurons
from unrolled.sparsify.machinery.masks import Masks
from unrolled.sparsify.schedules import Constant, Cubic, Growth, Schedule, WarmUp
from unrolled.sparsify.selection import Weight, select_weights
from unrolled.sparsify.sparsifier import Sparsifier
from unrolled.sparsify.strategies.adaprox import AdaProx
from unrolled.sparsify.strategies.adaptive_dropout import AdaptiveDropout
from unrolled.sparsify.strategies.cges import CGES
from unrolled.sparsify.strategies.hard_concrete_gates import HardConcreteGates
from unrolled.sparsify.strategies.magnitude_pruning import MagnitudePruning
from unrolled.sparsify.strategies.network_slimming import NetworkSlimming
from unrolled.sparsify.strategies.penalty_loss import PenaltyLoss
from unrolled.sparsify.strategies.proximal_step import ProximalStep
from unrolled.sparsify.strategies.reweighted_tikhonov import ReweightedTikhonov
from unrolled.sparsify.strategies.sparse_group_lasso import SparseGroupLasso
from unrolled.sparsify.strategies.variable_splitting import VariableSplitting
from unrolled.sparsify.strategies.variational_noise import VariationalNoise

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
