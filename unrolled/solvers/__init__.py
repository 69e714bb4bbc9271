"""Classical solvers of ½‖Ax − y‖² + g(x): of images by an operator, and of weights by a matrix (sparse regression)."""

from unrolled.solvers.proximal_gradient import proximal_gradient
from unrolled.solvers.regression import Regression, adaptive_dropout_descent, irls, proximal_gradient_regression

__all__ = ["Regression", "adaptive_dropout_descent", "irls", "proximal_gradient", "proximal_gradient_regression"]
