"""The strength that meets a target."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unrolled.sparsify.sparsifier import Sparsifier


class Control:
    """Integral control of the logarithm of the strength, by the sparsity that is measured every few steps.

    Parameters
    ----------
    every : int
        steps between two measurements.
    gain : float
        how fast the logarithm of the strength follows an error of one point.
    """

    def __init__(self, every: int = 10, gain: float = 0.05):
        self.every, self.gain = every, gain
        self.calls = 0

    def adjusted(self, strength: float, wanted: float, sparsifier: "Sparsifier") -> float:
        """The strength to go on with."""
        self.calls += 1
        if self.calls % self.every:
            return strength
        error = 100 * (wanted - sparsifier.sparsity())
        return strength * math.exp(self.gain * max(-10.0, min(10.0, error)))

    def state_dict(self) -> dict[str, Any]:
        """What is remembered."""
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.calls = state["calls"]
