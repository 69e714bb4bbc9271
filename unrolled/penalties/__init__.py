"""Sparsity penalties: value, derivative, proximal map, and their face as adaptive dropout."""

from unrolled.penalties.ard import ARD
from unrolled.penalties.cubic import Arctan, Cauchy, ScaledArctan
from unrolled.penalties.dropout import Ridge, Standout, TopK, adaptive_dropout_mask
from unrolled.penalties.noise import HardConcrete, VariationalDropout, VariationalDropoutFit
from unrolled.penalties.penalty import Penalty, SeparablePenalty
from unrolled.penalties.piecewise import L0, L1, MCP, SCAD, CappedL1, ElasticNet
from unrolled.penalties.smooth import Exponential, Geman, LogSum, Lp, TransformedL1

__all__ = [
    "ARD",
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
    "HardConcrete",
    "LogSum",
    "Lp",
    "Penalty",
    "Ridge",
    "ScaledArctan",
    "SeparablePenalty",
    "Standout",
    "TopK",
    "TransformedL1",
    "VariationalDropout",
    "VariationalDropoutFit",
    "adaptive_dropout_mask",
]
