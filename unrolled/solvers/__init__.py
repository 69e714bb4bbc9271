"""Classical solvers of ½‖Ax − y‖² + g(x): of images by an operator, and of weights by a matrix (sparse regression)."""

from unrolled.solvers.gradient_methods import extra_proximal_gradient, fista, proximal_gradient
from unrolled.solvers.least_squares import conjugate_gradient
from unrolled.solvers.regression import Regression, adaptive_dropout_descent, irls, proximal_gradient_regression
from unrolled.solvers.reweighted import image_irls, reweighted_l1
from unrolled.solvers.solution import Solution
from unrolled.solvers.splitting import admm, primal_dual

__all__ = [
    "Regression",
    "Solution",
    "adaptive_dropout_descent",
    "admm",
    "conjugate_gradient",
    "extra_proximal_gradient",
    "fista",
    "image_irls",
    "irls",
    "primal_dual",
    "proximal_gradient",
    "proximal_gradient_regression",
    "reweighted_l1",
]
