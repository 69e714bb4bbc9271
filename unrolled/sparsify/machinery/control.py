"""The strength that meets a target."""

import math
from collections.abc import Callable
from typing import Any


class Control:
    """Finds the strength for which the sparsity follows its trajectory: proportional and integral control.

    It sees the sparsity in log-odds and moves the logarithm of the strength, between which there is about a straight
    line for all penalties: the share of zeros grows like a power of the strength while it is small, and so falls the
    share of what is left. The integral runs over the progress of the run, not over steps: what is slow in a long run
    may be as slow beside a longer one.

    The strength begins low and moves by a factor of e in a thirtieth of the run at most, but for the proportional part:
    what became zero may never come back, and groups shrink for a while before the first of them is seen to be zero.
    Where the error changes its sign from one measurement to the next, as it does if zeros come many at a time, every
    move is halved, until it does no longer.

    Parameters
    ----------
    every : int, optional
        steps between two measurements; by default 200 measurements a run or more, at most 10 steps apart.
    proportional : float
        by how much the logarithm of the strength follows a change of the error by one.
    integral : float
        by how much it would move over a whole run at a constant error of one.
    """

    def __init__(self, every: int | None = None, proportional: float = 0.15, integral: float = 200.0):
        self.every, self.proportional, self.integral = every, proportional, integral
        self.calls = 0
        self.error: float | None = None
        self.damping = 1.0

    def adjusted(self, strength: float, wanted: float, share: Callable[[], float], steps: int) -> float:
        """The strength to go on with; to be called after every step.

        Parameters
        ----------
        strength : float
            that of this step.
        wanted : float
            the share of zeros that there should be.
        share : function () → float
            measures it.
        steps : int
            for which it acts: of the whole run but for its fine tuning.
        """
        every = self.every or max(1, min(10, steps // 200))
        self.calls += 1
        if self.calls % every:
            return strength
        error = _log_odds(wanted) - _log_odds(share())
        change = 0.0 if self.error is None else error - self.error
        swings = self.error is not None and self.error * error < 0
        self.damping = self.damping / 2 if swings else min(1.0, 1.1 * self.damping)
        self.error = error
        rate = min(_PACE, max(-_PACE, self.integral * error))
        move = self.damping * (rate * every / steps + self.proportional * change)
        return min(_MOST, max(_LEAST, strength * math.exp(move)))

    def state_dict(self) -> dict[str, Any]:
        """What is remembered."""
        return {"calls": self.calls, "error": self.error, "damping": self.damping}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.calls, self.error, self.damping = state["calls"], state["error"], state["damping"]


_PACE = 30.0  # the logarithm of the strength per run
_LEAST, _MOST = 1e-20, 1e10


def _log_odds(share: float) -> float:
    share = min(0.9999, max(0.01, share))
    return math.log(share / (1 - share))
