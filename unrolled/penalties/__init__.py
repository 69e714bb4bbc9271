"""Sparsity penalties: value, derivative, proximal map, and their face as adaptive dropout."""

from unrolled.penalties.ard import ARD
from unrolled.penalties.cubic import Arctan, Cauchy, ScaledArctan
from unrolled.penalties.dropout import Ridge, Standout, TopK, adaptive_dropout_mask
from unrolled.penalties.grouped import Grouped
from unrolled.penalties.grouping import (
    Along,
    Blocks,
    Each,
    FeatureMaps,
    Filters,
    Grouping,
    IndexSets,
    InputChannels,
    Pixels,
    Whole,
)
from unrolled.penalties.l1_minus_l2 import L1MinusL2
from unrolled.penalties.penalty import Penalty, SeparablePenalty
from unrolled.penalties.piecewise import L0, L1, MCP, SCAD, CappedL1, ElasticNet
from unrolled.penalties.smooth import Exponential, Geman, LogSum, Lp, TransformedL1
from unrolled.penalties.sparse_group import SparseGroup
from unrolled.penalties.variational import HardConcrete, VariationalDropout, VariationalDropoutFit
from unrolled.penalties.weighted import Weighted

__all__ = [
    "ARD",
    "L0",
    "L1",
    "MCP",
    "SCAD",
    "Along",
    "Arctan",
    "Blocks",
    "CappedL1",
    "Cauchy",
    "Each",
    "ElasticNet",
    "Exponential",
    "FeatureMaps",
    "Filters",
    "Geman",
    "Grouped",
    "Grouping",
    "HardConcrete",
    "IndexSets",
    "InputChannels",
    "L1MinusL2",
    "LogSum",
    "Lp",
    "Penalty",
    "Pixels",
    "Ridge",
    "ScaledArctan",
    "SeparablePenalty",
    "SparseGroup",
    "Standout",
    "TopK",
    "TransformedL1",
    "VariationalDropout",
    "VariationalDropoutFit",
    "Weighted",
    "Whole",
    "adaptive_dropout_mask",
]
