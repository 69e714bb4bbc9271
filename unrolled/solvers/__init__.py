"""Classical solvers of ½‖Ax − y‖² + g(x)."""

from unrolled.solvers.proximal_gradient import proximal_gradient

__all__ = ["proximal_gradient"]
