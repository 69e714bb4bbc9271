"""The image nearest to another one that explains the measurements."""

from collections.abc import Sequence

from torch import Tensor

from unrolled.networks.conditioning import Interval
from unrolled.networks.data_steps.data_step import DataStep
from unrolled.networks.data_steps.gradient_data_step import gradient
from unrolled.operators import LinearOperator
from unrolled.system.devices import full_precision


class ProximalStep(DataStep):
    """x = argmin ½‖Ax − y‖² + λ/2·‖x − z‖² = (AᴴA + λ)⁻¹(Aᴴy + λz).

    In closed form where the operator has one, else by conjugate gradients; gradients pass through the solution in the
    memory of one of them, see `LinearOperator.solve`.

    Parameters
    ----------
    ridge : float > 0
        where the learned λ starts: the smaller, the nearer is x to the measurements. For noise of the standard
        deviation σ in y and errors of z of the size ε, σ²/ε² is the classical choice.
    iterations : int >= 1, optional
        of conjugate gradients, at most; by default as many as are needed.
    closed_form : bool
        whether operators without a closed form are refused.
    ranges
        see `WeightedStep`.
    """

    def __init__(
        self,
        ridge: float = 0.2,
        iterations: int | None = None,
        closed_form: bool = False,
        ranges: Sequence[Interval] = (),
    ):
        super().__init__(ridge, ranges)
        if iterations is not None and iterations < 1:
            raise ValueError(f"ProximalStep: iterations must be >= 1 or None, got {iterations!r}")
        self.iterations, self.closed_form = iterations, closed_form

    @property
    def needs(self) -> str | None:
        """What it needs of an operator; None: nothing."""
        return "(AᴴA + λ)⁻¹ in closed form" if self.closed_form else None

    def forward(self, z: Tensor, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> Tensor:
        if (
            self.iterations is not None and not self.closed_form
        ):  # few steps come farther from z, which is near the solution in late phases
            return z - self.correction(gradient(z, y, operator), operator, condition)
        ridge = self.weight(condition)
        right = operator.adjoint(y) + ridge * z
        if not self.closed_form:
            return operator.solve(right, ridge, start=z)
        with full_precision(right):
            exact = operator.solve_exactly(right, ridge.reshape(-1, 1, 1, 1))
        if exact is None:
            raise ValueError(
                f"ProximalStep: needs {self.needs}, which {type(operator).__name__} has not; make it "
                "with closed_form=False, and conjugate gradients take its place"
            )
        return exact

    def correction(self, g: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> Tensor:
        """(AᴴA + λ)⁻¹g of a gradient g = Aᴴ(Az − y): what the step takes from z."""
        return operator.solve(g, self.weight(condition), iterations=self.iterations)
