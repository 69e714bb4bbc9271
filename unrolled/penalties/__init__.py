"""Sparsity penalties: value, derivative, proximal map, and their face as adaptive dropout."""

from unrolled.penalties.penalty import Penalty
from unrolled.penalties.separable import L0, L1, MCP

__all__ = ["L0", "L1", "MCP", "Penalty"]
