"""Sparsity penalties: value, derivative, proximal map, and their face as adaptive dropout."""

import unrolled.penalties.from_functions  # noqa: F401  `Penalty.from_dropout` and `from_value` make what is there
from unrolled.penalties.arctangents import Arctan, ScaledArctan
from unrolled.penalties.ard import ARD
from unrolled.penalties.dropout_masks import adaptive_dropout_mask
from unrolled.penalties.exponential_decay import Exponential
from unrolled.penalties.folded_concave import MCP, SCAD, CappedL1
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
from unrolled.penalties.hard_concrete import HardConcrete
from unrolled.penalties.l1_minus_l2 import L1MinusL2
from unrolled.penalties.logarithmic import Cauchy, LogSum
from unrolled.penalties.norms import L0, L1, ElasticNet, Lp, Ridge
from unrolled.penalties.penalty import Penalty, SeparablePenalty
from unrolled.penalties.rational import Geman, TransformedL1
from unrolled.penalties.sparse_group import SparseGroup
from unrolled.penalties.standout import Standout
from unrolled.penalties.top_k import TopK
from unrolled.penalties.variational_dropout import VariationalDropout, VariationalDropoutFit
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
