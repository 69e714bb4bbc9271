"""How far a run has come, and whether a checkpoint is one that it can go on from."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from unrolled.training import distributed
from unrolled.training.options import TrainingOptions

BUDGET = ("steps", "epochs", "minutes")

FIXED = ("optimizer", "momentum", "nesterov", "weight_decay", "decay_all", "train_only", "freeze", "rates")
"""Options that a run keeps when it goes on, for they are part of the optimiser's state."""

STATE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("step", "skipped", "skipped_in_a_row"), (int,)),
    **dict.fromkeys(("best", "elapsed", "smooth_loss"), (int, float)),
    **dict.fromkeys(("facts", "options", "model", "average", "optimizer"), (dict,)),
    "steps": (int, type(None)),
    "sparsifier": (dict, type(None)),
    "waited": (int,),
    "to_beat": (int, float),
}
"""What a checkpoint holds, and of which types."""

NEWER = ("sparsifier", "waited", "to_beat")
"""Entries that older ones do not have."""


@dataclass
class Progress:
    """The numbers of a run that change from step to step; they are entries of its checkpoints.

    Attributes
    ----------
    step : int
        how many steps were made.
    steps : int or None
        how many the run has; None while a budget of minutes has not been turned into steps.
    best : float
        the best score of a validation.
    elapsed : float
        seconds of training and validation.
    smooth_loss : float
        the exponential moving average of the loss.
    skipped, skipped_in_a_row : int
        batches whose loss or gradient was not finite, in all and last.
    waited : int
        validations since the last one that counted as an improvement.
    to_beat : float
        the score of that one.
    """

    step: int = 0
    steps: int | None = None
    best: float = -math.inf
    elapsed: float = 0.0
    smooth_loss: float = math.nan
    skipped: int = 0
    skipped_in_a_row: int = 0
    waited: int = 0
    to_beat: float = -math.inf

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Progress":
        """That of a checkpoint."""
        return cls(**{field.name: state[field.name] for field in fields(cls) if field.name in state})

    def of_length(self, steps: int | None) -> None:
        """Take a number of steps, unless the run has one already; the steps that were made count."""
        if self.steps is None and steps is not None:
            self.steps = max(self.step, steps)

    def learned_from(self, loss: float) -> None:
        """Note the loss of a batch that was not skipped."""
        self.skipped_in_a_row = 0
        self.smooth_loss = loss if math.isnan(self.smooth_loss) else 0.98 * self.smooth_loss + 0.02 * loss

    def scored(self, score: float, min_improvement: float) -> None:
        """Note a score that counts for the patience of the run."""
        if score > self.to_beat + min_improvement:  # never a NaN
            self.to_beat, self.waited = score, 0
        else:
            self.waited += 1

    def has_waited(self, patience: int | None) -> bool:
        """Whether there were as many validations without improvement as the run has patience for."""
        return patience is not None and self.waited >= patience

    @property
    def is_over(self) -> bool:
        """Whether all steps were made."""
        return self.step == self.steps


def check_contents(state: Mapping[str, Any], folder: Path) -> None:
    """Raise ValueError if the checkpoint of a folder lacks something, or holds something of another type."""
    for name, types in STATE.items():
        if name not in state:
            if name in NEWER:
                continue
            raise ValueError(f"resume: the checkpoint in {folder} is damaged: {name} is missing")
        if not isinstance(state[name], types):
            raise ValueError(f"resume: the checkpoint in {folder} is damaged: {name} is {state[name]!r:.99}")
    if not 0 <= state["step"] <= (math.inf if state["steps"] is None else state["steps"]):
        raise ValueError(
            f"resume: the checkpoint in {folder} is damaged: step is {state['step']} of {state['steps']} steps"
        )


def check_same_run(state: Mapping[str, Any], facts: Mapping[str, Any], options: TrainingOptions, folder: Path) -> None:
    """Refuse to go on with another network, operator, seed, batch …; warn of what else is not as it was.

    Parameters
    ----------
    state : dict
        of the checkpoint.
    facts : dict
        what must be as it was; of "data" a change is only said.
    options : TrainingOptions
        with which the run is to go on.
    folder : Path

    Raises
    ------
    ValueError
        if a fact or an option of the optimiser is not that of the run.
    """
    before, now = state["options"], asdict(options)
    usual = asdict(TrainingOptions(steps=1))  # a checkpoint may be older than an option
    pairs = {name: (before.get(name, usual[name]), now[name]) for name in now}
    if pairs["warmup"][0] != pairs["warmup"][1]:
        lengths = [TrainingOptions(steps=1, warmup=warmup).warmup_steps(state["steps"]) for warmup in pairs["warmup"]]
        pairs["warmup"] = lengths[0], lengths[1]
    if now["compile"] is None:  # as it was
        del pairs["compile"]
    fixed = {name: (state["facts"].get(name), fact) for name, fact in facts.items() if name != "data"}
    fixed |= {name: pairs.pop(name) for name in FIXED}
    for name, (was, fact) in fixed.items():
        if was != fact:
            raise ValueError(f"resume: {name} must be that of the run in {folder}, {was}, got {fact}")
    notes = []
    if facts.get("data") != state["facts"].get("data"):
        notes.append(f"the data were {state['facts'].get('data')} and are {facts.get('data')}")
    changed = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if any(name in changed for name in BUDGET) and state["steps"] is not None:
        notes.append(f"the run keeps its {state['steps']} steps")
    notes += [f"{name} was {was} and is {new}" for name, (was, new) in changed.items() if name not in BUDGET]
    if notes and distributed.rank() == 0:
        warnings.warn(f"resume: {'; '.join(notes)}", stacklevel=2)
