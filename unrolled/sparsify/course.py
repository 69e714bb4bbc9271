"""The course of a run: how far it is, and what is wanted at each step."""

from unrolled.sparsify.machinery.arguments import number
from unrolled.sparsify.schedules import Constant, Cubic, Schedule
from unrolled.system.scalars import whole_number

TOLERANCE = 0.005
"""How far from the target the share of zeros may end without a word: half a point."""


class Course:
    """What a strategy is told of the run, and where in the run it is.

    Parameters
    ----------
    owner : str
        who is named in errors.
    target : float in [0, 1) or None
        the share of zeros at the end.
    schedule : Schedule or None
        a factor on the strength, by default constant; with a target a factor in [0, 1] on the target, by default
        `Cubic(0.7)`. Wherever it ends, the last step that acts asks for the whole target.
    fine_tune : float in [0, 1)
        the last part of the run, in which zeros only stay.
    steps : int ≥ 1 or None
        of the whole run; None as long as that is not known.

    Raises
    ------
    ValueError
        if an argument is not allowed.
    """

    def __init__(
        self, owner: str, target: float | None, schedule: Schedule | None, fine_tune: float, steps: int | None
    ):
        if target is not None:
            target = number(owner, "target", target, "in [0, 1), the share of zeros", _is_part)
        fine_tune = number(owner, "fine_tune", fine_tune, "in [0, 1), a part of the run", _is_part)
        if schedule is not None and not isinstance(schedule, Schedule):
            raise ValueError(f"{owner}: schedule must be a Schedule, got {schedule!r}")
        self.owner, self.target, self.fine_tune, self.steps = owner, target, fine_tune, steps
        self.schedule = schedule or (Constant() if target is None else Cubic(end=0.7))
        self.step_count = 0

    @property
    def steps(self) -> int | None:
        """How many steps the run takes, as far as that is known."""
        return self._steps

    @steps.setter
    def steps(self, steps: int | None) -> None:
        self._steps = None if steps is None else whole_number(f"{self.owner}: steps", steps)

    @property
    def needs_length(self) -> bool:
        """Whether what it says depends on the number of steps."""
        return self.target is not None or bool(self.fine_tune) or not isinstance(self.schedule, Constant)

    @property
    def progress(self) -> float:
        """The part of the run that is over, in [0, 1]; 0 as long as its length is not known."""
        return 0.0 if self.steps is None else min(1.0, self.step_count / self.steps)

    @property
    def factor(self) -> float:
        """The factor on the strength at this step."""
        return self.schedule.factor(self.progress) if self.target is None else 1.0

    @property
    def wanted(self) -> float | None:
        """The share of zeros that there should be at this step, on the way to the target; None without one.

        At the last step that acts it is the target itself: the schedule is asked how much of the run is over before a
        step, so that its own end would never be seen. It is at no step more than the target, for zeros stay.
        """
        if self.target is None:
            return None
        if self.is_last:
            return self.target
        return self.target * min(1.0, self.schedule.factor(min(1.0, self.progress / (1 - self.fine_tune))))

    @property
    def acting_steps(self) -> int:
        """The number of steps before fine tuning."""
        assert self.steps is not None
        return max(1, round(self.steps * (1 - self.fine_tune)))

    @property
    def is_last(self) -> bool:
        """Whether this step is the last one before fine tuning, or before the end; False if the length is not known."""
        return self.steps is not None and (self.step_count + 1) / self.steps >= 1 - self.fine_tune

    @property
    def is_fine_tuning(self) -> bool:
        """Whether the steps that act are over."""
        return bool(self.fine_tune) and self.progress >= 1 - self.fine_tune


def _is_part(share: float) -> bool:
    return 0 <= share < 1
