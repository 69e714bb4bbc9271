"""Pruning by magnitude."""

from typing import Any, Literal

from torch import Tensor, nn

from unrolled.penalties import L0
from unrolled.sparsify.machinery.capture import Capture, largest_unit, magnitudes
from unrolled.sparsify.selection import Weight
from unrolled.sparsify.sparsifier import Sparsifier
from unrolled.system.scalars import whole_number


class MagnitudePruning(Sparsifier):
    """Sets the smallest weights to zero, ever more of them, as gradual pruning does (Zhu, Gupta, 2017).

    How many are zero is said by target and schedule, to the number; what is zero stays so. It is the proximal map of
    counting with the strength that the share of zeros asks for, and has no strength of its own. A group's magnitude is
    the root of the mean of its squares, so that groups of different sizes compare. A weight keeps at least its largest
    number or group.

    Parameters
    ----------
    model : Module
    target : float in [0, 1)
        the share of zeros at the end.
    scope : "global" or "layer"
        whether all weights are compared, or each weight gets the same share of zeros.
    every : int ≥ 1, optional
        steps between two prunings; by default a hundred prunings a run. The last step always prunes if it is due.
    groups, include, exclude, schedule, fine_tune, steps
        as for every `Sparsifier`; by default the target rises by the cubic schedule.

    Raises
    ------
    ValueError
        as of `Sparsifier`, or if scope or every is not allowed.
    """

    captures = True

    def __init__(
        self,
        model: nn.Module,
        target: float,
        *,
        scope: Literal["global", "layer"] = "global",
        every: int | None = None,
        **options: Any,
    ):
        super().__init__(model, L0(), None, target=target, **options)
        if scope not in ("global", "layer"):
            raise ValueError(f"MagnitudePruning: scope must be 'global' or 'layer', got {scope!r}")
        self.scope = scope
        self.every = None if every is None else whole_number("MagnitudePruning: every", every)

    def attach(self) -> None:
        self.capture = Capture(self.weights, self.course, self.survivors, self.scope, self.every)

    @property
    def strength(self) -> float:
        """0: it has none."""
        return 0.0

    def grain(self) -> float:
        if self.scope == "global":
            return super().grain()
        sizes = [weight.parameter.numel() for weight in self.weights]  # each weight is rounded by itself
        return sum(largest_unit(weight) for weight in self.weights) / 2 / sum(sizes)

    def ranking(self, weight: Weight) -> Tensor:
        return magnitudes(weight)
