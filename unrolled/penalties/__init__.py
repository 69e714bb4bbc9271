"""Sparsity penalties: value, derivative, proximal map, and their face as adaptive dropout."""

from unrolled.penalties.cubic import Arctan, Cauchy, ScaledArctan
from unrolled.penalties.penalty import Penalty, SeparablePenalty
from unrolled.penalties.piecewise import L0, L1, MCP, SCAD, CappedL1, ElasticNet
from unrolled.penalties.smooth import Exponential, Geman, LogSum, Lp, TransformedL1

__all__ = [
    "L0",
    "L1",
    "MCP",
    "SCAD",
    "Arctan",
    "CappedL1",
    "Cauchy",
    "ElasticNet",
    "Exponential",
    "Geman",
    "LogSum",
    "Lp",
    "Penalty",
    "ScaledArctan",
    "SeparablePenalty",
    "TransformedL1",
]
