"""Sparsity penalties: value, derivative, proximal map, and their face as adaptive dropout."""

from unrolled.penalties.grouped import Grouped, L1MinusL2, SparseGroup
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
from unrolled.penalties.penalty import Penalty, SeparablePenalty
from unrolled.penalties.piecewise import L0, L1, MCP
from unrolled.penalties.smooth import Exponential, LogSum
from unrolled.penalties.weighted import Weighted

__all__ = [
    "L0",
    "L1",
    "MCP",
    "Along",
    "Blocks",
    "Each",
    "Exponential",
    "FeatureMaps",
    "Filters",
    "Grouped",
    "Grouping",
    "IndexSets",
    "InputChannels",
    "L1MinusL2",
    "LogSum",
    "Penalty",
    "Pixels",
    "SeparablePenalty",
    "SparseGroup",
    "Weighted",
    "Whole",
]
