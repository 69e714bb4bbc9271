"""Sparsity penalties: value, derivative, proximal map, and their face as adaptive dropout."""

from unrolled.penalties.penalty import Penalty, SeparablePenalty
from unrolled.penalties.piecewise import L0, L1, MCP
from unrolled.penalties.smooth import Exponential, LogSum

__all__ = ["L0", "L1", "MCP", "Exponential", "LogSum", "Penalty", "SeparablePenalty"]
