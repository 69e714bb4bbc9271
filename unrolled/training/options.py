"""How to train: the budget, the optimiser, and when to look and to save."""

import math
from dataclasses import dataclass


@dataclass
class TrainingOptions:
    """How to train.

    Parameters
    ----------
    steps, epochs, minutes :
        the budget: give exactly one. Minutes are turned into steps after the first steps were timed; from then on the
        number of steps is fixed, and a resumed run keeps it.
    batch : int
        samples per step, over all processes that train together.
    learning_rate : float
        of Adam, at its highest.
    warmup : int
        steps over which the learning rate rises linearly.
    final_rate : float
        the part of the learning rate that the cosine ends with.
    clip : float or None
        gradients are scaled down to this norm.
    average : float
        decay of the exponential moving average of the weights, which is what is validated and saved; 0 turns it off.
    bfloat16 : bool
        run the learned part in bfloat16; operators, weights and optimiser stay float32.
    channels_last : bool
        keep the numbers of a pixel side by side in memory; the fastest on every machine it was measured on.
    compile : bool
        let torch.compile make one graph of the loss; worth its minutes of compilation on GPUs, little on CPUs.
    validations : int
        how many times to validate and to write a checkpoint, evenly spaced.
    checkpoint_minutes : float
        a checkpoint is also written when the last one is older than this.
    nan_limit : int
        a batch whose loss or gradient is not finite is skipped: nothing is learned from it. This many in a row stop
        the run.
    """

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    batch: int = 16
    learning_rate: float = 1e-3
    warmup: int = 200
    final_rate: float = 0.01
    clip: float | None = 1.0
    average: float = 0.999
    bfloat16: bool = False
    channels_last: bool = True
    compile: bool = False
    validations: int = 20
    checkpoint_minutes: float = 5.0
    nan_limit: int = 10

    def __post_init__(self) -> None:
        budget = {"steps": self.steps, "epochs": self.epochs, "minutes": self.minutes}
        given = {name: value for name, value in budget.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"training: give exactly one of steps, epochs and minutes, got {given or 'none'}")
        names = ("batch", "learning_rate", "validations", "checkpoint_minutes", "nan_limit")
        positive = {**given, **{name: getattr(self, name) for name in names}}
        if self.clip is not None:
            positive["clip"] = self.clip
        for name, value in positive.items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"training: {name} must be a finite number > 0, got {value!r}")
        if self.warmup < 0:
            raise ValueError(f"training: warmup must be >= 0, got {self.warmup!r}")
        for name, value in {"final_rate": self.final_rate, "average": self.average}.items():
            if not 0 <= value < 1:
                raise ValueError(f"training: {name} must be in [0, 1), got {value!r}")

    def rate(self, step: int, steps: int | None) -> float:
        """The learning rate of a step: linear warm-up, then a cosine. Before steps is known only the warm-up."""
        if step < self.warmup or steps is None:
            return self.learning_rate * min(1.0, (step + 1) / (self.warmup + 1))
        progress = (step - self.warmup) / max(1, steps - self.warmup)
        low = self.learning_rate * self.final_rate
        return low + (self.learning_rate - low) * (1 + math.cos(math.pi * min(1.0, progress))) / 2
