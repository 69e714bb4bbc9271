"""A step down the gradient of the distance to the measurements."""

from collections.abc import Sequence

from torch import Tensor

from unrolled.networks.conditioning import Interval
from unrolled.networks.data_steps.data_step import DataStep
from unrolled.operators import LinearOperator


class GradientStep(DataStep):
    """x = z − ρAᴴ(Az − y), a step down the gradient of ½‖Az − y‖².

    Parameters
    ----------
    step : float > 0
        where the learned step ρ starts; with an operator of the norm 1, as networks have it, 1 is the classical choice.
    ranges
        see `WeightedStep`.
    """

    def __init__(self, step: float = 1.0, ranges: Sequence[Interval] = ()):
        super().__init__(step, ranges)

    def forward(self, z: Tensor, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> Tensor:
        return z - self.correction(gradient(z, y, operator), operator, condition)

    def correction(self, g: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> Tensor:
        """ρg of a gradient g = Aᴴ(Az − y): what the step takes from z."""
        return self.weight(condition) * g


def gradient(x: Tensor, y: Tensor, operator: LinearOperator) -> Tensor:
    """∇f(x) = Aᴴ(Ax − y) of f(x) = ½‖Ax − y‖²."""
    ax = operator(x)
    if ax.shape != y.shape:
        raise ValueError(
            f"{type(operator).__name__}: measurements must be {tuple(ax.shape)}, as those of images {tuple(x.shape)}, "
            f"got {tuple(y.shape)}"
        )
    return operator.adjoint(ax - y)
