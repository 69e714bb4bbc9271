"""A step of the dual variable, which lives among the measurements."""

from collections.abc import Sequence

from torch import Tensor

from unrolled.networks.conditioning import Interval
from unrolled.networks.data_steps.data_step import WeightedStep
from unrolled.operators import LinearOperator


class DualStep(WeightedStep):
    """h⁺ = (h + σ(Ax − y))/(1 + σ), a proximal step up the dual of ½‖Ax − y‖².

    With F(v) = ½‖v − y‖², whose convex conjugate is F*(h) = ½‖h‖² + Re⟨h, y⟩, it is the proximal map of σF* at
    h + σAx (Chambolle, Pock, J. Math. Imaging Vision 40(1), 2011, algorithm 1).

    Parameters
    ----------
    step : float > 0
        where the learned σ starts.
    ranges
        see `WeightedStep`.
    """

    def __init__(self, step: float = 1.0, ranges: Sequence[Interval] = ()):
        super().__init__(step, ranges)

    def forward(
        self, h: Tensor, x: Tensor, y: Tensor, operator: LinearOperator, condition: Tensor | None = None
    ) -> Tensor:
        """The dual variable after the step.

        Parameters
        ----------
        h : Tensor, (batch, …), like y
        x : Tensor, (batch, channel, height, width)
        y : Tensor, the measurements
        operator : LinearOperator
        condition : Tensor, (batch, numbers), optional

        Returns
        -------
        Tensor, like h
        """
        sigma = self.weight(condition)
        if sigma.ndim:  # one for every image: measurements may have other axes than images
            sigma = sigma.reshape(-1, *[1] * (h.ndim - 1))
        return (h + sigma * (operator(x) - y)) / (1 + sigma)
