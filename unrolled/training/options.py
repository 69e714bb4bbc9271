"""How to train: the budget, the optimiser, and when to look and to save."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

from unrolled.system.files import one_or_several
from unrolled.system.scalars import PlainNumbers, as_number

OptimizerName = Literal["adam", "adamw", "sgd"]
ScheduleName = Literal["cosine", "linear", "steps"]
ClockName = Literal["wall", "process"]

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "process": time.process_time}
"""In seconds."""

WORTH_COMPILING = 15.0
"""Minutes of a run from which on a compiled loss is tried: compilation takes about one and a half of them."""

LARGEST = 1e15
"""Of the numbers here: the product of two of them is still a number in single precision."""

LARGEST_BATCH = 1_000_000
"""Samples in a step; it is reached by mistake alone."""

WARMUP = 200
"""Steps of the warm-up of a run that is long enough, where the options do not say it."""


@dataclass
class TrainingOptions(PlainNumbers):
    """How to train.

    Parameters
    ----------
    steps : int, optional
        how many steps to train; give exactly one of steps, epochs and minutes.
    epochs : float, optional
        how often to go through the training images.
    minutes : float, optional
        how long to train. Minutes are turned into steps after the first steps were timed; from then on the number of
        steps is fixed, and a resumed run keeps it.
    clock : str
        what minutes, and the seconds in the metrics, are those of: "wall", or "process", the processor time of this
        process with all its threads, which does not pass while other programs have the processor.
    batch : int
        samples per step, over all processes that train together.
    accumulate : int
        in how many equal parts the samples of a step go through the model, one after the other: less memory, and the
        gradient of the whole batch but for rounding. Layers that look at a batch as a whole, as batch norms do, see its
        parts, and what is drawn at random, such as noise, is drawn for each part.
    learning_rate : float
        of the optimiser, at its highest.
    warmup : int or None
        steps over which the learning rate rises linearly; by default 200, but at most a tenth of the run. While a
        budget of minutes has not been turned into steps, the rate rises as for 200.
    final_rate : float
        the part of the learning rate that the schedules "cosine" and "linear" end with.
    clip : float or None
        the gradient of the model is scaled down to this norm.
    average : float
        decay of the exponential moving average of the weights, which is what is validated and saved; 0 turns it off.
        With a sparsifier weights are averaged while it fine-tunes.
    bfloat16 : bool
        run the learned part in bfloat16; operators, weights and optimiser stay float32.
    channels_last : bool
        keep the numbers of a pixel side by side in memory; the fastest on every machine it was measured on.
    compile : bool, optional
        let torch.compile make one graph of the loss; where it cannot, the run goes on without, with a warning. By
        default a run of 15 minutes or more on real images compiles it and times a step in both forms, and
        others do not. A resumed run keeps what it began with, unless told otherwise: the bits of its steps depend on
        it.
    validations : int
        how many times to validate and to write a checkpoint, evenly spaced.
    patience : int, optional
        the run ends after so many validations in a row without a better score, counted from the best one; the best
        weights stay. By default it does not end before its steps. With a sparsifier validations count while it
        fine-tunes. A run that ended so goes on if it is resumed with more patience.
    min_improvement : float
        by how much a score must be better than the best one before it to end the wait, in units of the score: dB of
        PSNR, % of accuracy.
    checkpoint_minutes : float
        a checkpoint is also written when the last one is older than this.
    nan_limit : int
        a batch whose loss or gradient is not finite is skipped: nothing is learned from it. This many in a row stop
        the run, on CUDA, where the device decides, one step later.
    optimizer : str
        "adam", "adamw" (weight decay apart from the gradient) or "sgd".
    momentum : float
        of "sgd", in [0, 1).
    nesterov : bool
        Nesterov's momentum, of "sgd".
    weight_decay : float
        of the weights: biases, the scales of norms and other single numbers are spared.
    decay_all : bool
        let weight_decay act on them too.
    schedule : str
        of the learning rate after the warm-up: "cosine", "linear", or "steps", which multiplies it by `factor` at each
        of the milestones.
    milestones : list of float
        of the schedule "steps": parts of the run, rising, in (0, 1).
    factor : float
        of the schedule "steps", in (0, 1).
    train_only : list of str
        patterns of the names of parameters, such as "network.phases.0.*" or "*.raw_step": only those are trained.
    freeze : list of str
        patterns of parameters that are not trained; they keep their bits.
    rates : dict of str and float
        factors of the learning rate by patterns of parameters, such as {"operator.*": 0.1}; the first pattern that fits
        counts.
    """

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    clock: ClockName = "wall"
    batch: int = 16
    accumulate: int = 1
    learning_rate: float = 1e-3
    warmup: int | None = None
    final_rate: float = 0.01
    clip: float | None = 1.0
    average: float = 0.999
    bfloat16: bool = False
    channels_last: bool = True
    compile: bool | None = None
    validations: int = 20
    patience: int | None = None
    min_improvement: float = 0.0
    checkpoint_minutes: float = 5.0
    nan_limit: int = 10
    optimizer: OptimizerName = "adam"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    decay_all: bool = False
    schedule: ScheduleName = "cosine"
    milestones: list[float] = field(default_factory=list)
    factor: float = 0.1
    train_only: list[str] = field(default_factory=list)
    freeze: list[str] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        budget = {"steps": self.steps, "epochs": self.epochs, "minutes": self.minutes}
        given = {name: value for name, value in budget.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"training: give exactly one of steps, epochs and minutes, got {given or 'none'}")
        names = ("batch", "accumulate", "learning_rate", "validations", "checkpoint_minutes", "nan_limit")
        positive = {**given, **{name: getattr(self, name) for name in names}}
        for name in ("clip", "patience"):
            if getattr(self, name) is not None:
                positive[name] = getattr(self, name)
        for name, value in positive.items():
            if not 0 < value <= LARGEST:
                raise ValueError(f"training: {name} must be a number > 0, at most {LARGEST:g}, got {value!r}")
        if self.batch > LARGEST_BATCH:
            raise ValueError(f"training: batch must be at most {LARGEST_BATCH:,}, got {self.batch!r}")
        if self.batch % self.accumulate:
            raise ValueError(
                f"training: accumulate must divide batch, {self.batch}, into equal parts, got {self.accumulate!r}"
            )
        if not 0 <= self.min_improvement <= LARGEST:
            raise ValueError(f"training: min_improvement must be in [0, {LARGEST:g}], got {self.min_improvement!r}")
        if self.warmup is not None and self.warmup < 0:
            raise ValueError(f"training: warmup must be >= 0, got {self.warmup!r}")
        for name in ("final_rate", "average", "momentum"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"training: {name} must be in [0, 1), got {value!r}")
        if self.clock not in CLOCKS:
            raise ValueError(f"training: clock must be {_choice(ClockName)}, got {self.clock!r}")
        self._check_optimizer()
        self._check_schedule()
        self._check_parts()

    def _check_optimizer(self) -> None:
        if self.optimizer not in get_args(OptimizerName):
            raise ValueError(f"training: optimizer must be {_choice(OptimizerName)}, got {self.optimizer!r}")
        if not 0 <= self.weight_decay <= LARGEST:
            raise ValueError(f"training: weight_decay must be in [0, {LARGEST:g}], got {self.weight_decay!r}")
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise ValueError("training: nesterov needs the optimizer 'sgd' and a momentum > 0")

    def _check_schedule(self) -> None:
        if self.schedule not in get_args(ScheduleName):
            raise ValueError(f"training: schedule must be {_choice(ScheduleName)}, got {self.schedule!r}")
        self.milestones = list(self.milestones)
        if (self.schedule == "steps") != bool(self.milestones):
            raise ValueError(
                f"training: milestones belong to the schedule 'steps', which needs at least one: got {self.milestones} "
                f"with the schedule {self.schedule!r}"
            )
        bounds = [0, *self.milestones, 1]
        if not all(low < high for low, high in pairwise(bounds)):
            raise ValueError(f"training: milestones must rise and be parts of the run in (0, 1), got {self.milestones}")
        if not 0 < self.factor < 1:
            raise ValueError(f"training: factor must be in (0, 1), got {self.factor!r}")

    def _check_parts(self) -> None:
        for name in ("train_only", "freeze"):
            patterns = one_or_several(getattr(self, name))
            if not (isinstance(patterns, (list, tuple)) and all(isinstance(each, str) for each in patterns)):
                raise ValueError(f"training: {name} must be a list of patterns of names, got {patterns!r:.100}")
            setattr(self, name, list(patterns))
        if not isinstance(self.rates, dict):
            raise ValueError(f"training: rates must be factors by patterns of names, got {self.rates!r:.100}")
        for pattern, factor in self.rates.items():
            number = as_number(factor)
            if number is None or not 0 < number <= LARGEST:
                raise ValueError(f"training: rates must be factors > 0, at most {LARGEST:g}, got {pattern}: {factor!r}")

    def length(self, epoch: int) -> int | None:
        """The number of steps, where an epoch has so many samples; None of minutes, which are to be timed first."""
        return self.steps if self.epochs is None else max(1, round(self.epochs * epoch / self.batch))

    def warmup_steps(self, steps: int | None) -> int:
        """The steps of the warm-up, in a run of so many; None: of a length that is not known yet."""
        if self.warmup is not None:
            return self.warmup
        return WARMUP if steps is None else min(WARMUP, steps // 10)

    def rate(self, step: int, steps: int | None) -> float:
        """The learning rate of a step: linear warm-up, then the schedule. Before steps is known only the warm-up."""
        warmup = self.warmup_steps(steps)
        if step < warmup or steps is None:
            return self.learning_rate * min(1.0, (step + 1) / (warmup + 1))
        if self.schedule == "steps":
            return self.learning_rate * self.factor ** sum(step >= round(part * steps) for part in self.milestones)
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        low = self.learning_rate * self.final_rate
        left = 1 - progress if self.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return low + (self.learning_rate - low) * left

    def validation_is_due(self, step: int, steps: int | None) -> bool:
        """Whether the model is validated after so many steps of a run."""
        if steps is None:
            return False
        count = min(self.validations, steps)
        return step * count // steps > (step - 1) * count // steps


def _choice(kind: Any) -> str:
    return " or ".join(repr(name) for name in get_args(kind))
