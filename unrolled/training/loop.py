"""The training loop: any task, one optimiser, a fixed number of steps, a folder that holds everything."""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from unrolled.files import check_writable, replacing
from unrolled.training.checkpoint import load_checkpoint, save_checkpoint
from unrolled.training.task import Task

CALIBRATION_STEPS = 20


class TrainingError(ValueError):
    """Training cannot go on; what was reached is kept."""


@dataclass
class TrainingOptions:
    """How to train.

    Parameters
    ----------
    steps, epochs, minutes :
        the budget: give exactly one. Minutes are turned into steps after the first steps were timed; from then on the
        number of steps is fixed, and a resumed run keeps it.
    batch : int
        samples per step.
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
    validations : int
        how many times to validate and to write a checkpoint, evenly spaced.
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
    validations: int = 20

    def __post_init__(self) -> None:
        budget = {"steps": self.steps, "epochs": self.epochs, "minutes": self.minutes}
        given = {name: value for name, value in budget.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"training: give exactly one of steps, epochs and minutes, got {given or 'none'}")
        positive = {**given, "batch": self.batch, "learning_rate": self.learning_rate, "validations": self.validations}
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


class Loop:
    """One training run in one folder.

    The folder gets `metrics.jsonl` (a line per validation), `last.pt` (to resume from), `best.safetensors` (weights
    with the best validation score, ready for use) and `curve.png`.

    Parameters
    ----------
    task : Task
    options : TrainingOptions
    folder : Path
    card : dict, optional
        facts that are saved with the weights.
    progress : bool
        whether to show a progress bar.
    """

    def __init__(
        self,
        task: Task,
        options: TrainingOptions,
        folder: Path,
        card: dict[str, Any] | None = None,
        progress: bool = True,
    ):
        self.task, self.options, self.folder, self.card, self.progress = task, options, folder, card or {}, progress
        self.step, self.best, self.elapsed = 0, -math.inf, 0.0
        self.steps = options.steps
        self.shown: dict[str, str] = {}
        if options.epochs is not None:
            self.steps = max(1, round(options.epochs * task.epoch / options.batch))
        self.parameters = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, lr=options.learning_rate)
        self.average = AveragedModel(task.model, avg_fn=self._average_weight)
        self.device = self.parameters[0].device

    def _average_weight(self, average: Tensor, weight: Tensor, count: Tensor | int) -> Tensor:
        # Early on a short memory, so that the average does not drag the random first weights along.
        decay = min(self.options.average, (1 + int(count)) / (10 + int(count)))
        return average.lerp(weight, 1 - decay)

    @property
    def model(self) -> nn.Module:
        """The averaged model."""
        module = self.average.module
        assert isinstance(module, nn.Module)
        return module

    def run(self, resume: bool = False) -> dict[str, float]:
        """Train to the end of the budget, and return the figures of the last validation.

        Parameters
        ----------
        resume : bool
            go on from the folder's last checkpoint.

        Raises
        ------
        ValueError
            if the folder cannot be written or there is nothing to resume.
        TrainingError
            if the loss becomes NaN or infinite; the last good checkpoint stays.
        KeyboardInterrupt
            on Ctrl-C, after a checkpoint was written.
        """
        check_writable(self.folder / "last.pt")
        if resume:
            self.load()
        else:
            (self.folder / "metrics.jsonl").unlink(missing_ok=True)
        figures: dict[str, float] = {}
        try:
            with interrupt_between_steps() as interrupted:
                for loss in self._steps():
                    if self._validation_is_due():
                        figures = self.validate(loss)
                    if interrupted():
                        raise KeyboardInterrupt
        except KeyboardInterrupt:
            self.save()
            raise
        return figures or self.task.validate(self.model.eval())

    def _steps(self) -> Iterator[float]:
        self.task.model.train()
        with tqdm(
            total=self.steps, initial=self.step, disable=not self.progress, dynamic_ncols=True, unit="step"
        ) as bar:
            smooth, times = math.nan, []
            while self.steps is None or self.step < self.steps:
                began = time.perf_counter()
                loss = self._one_step()
                times.append(time.perf_counter() - began)
                self.elapsed += times[-1]
                if self.steps is None and len(times) == CALIBRATION_STEPS:
                    self._calibrate(times)
                    bar.total = self.steps
                smooth = loss if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss
                bar.set_postfix({"loss": f"{smooth:.2e}", **self.shown}, refresh=False)
                bar.update()
                yield smooth

    def _one_step(self) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.rate(self.step, self.steps)
        batch = self.task.batch(self.step, self.options.batch)
        autocast = torch.autocast(self.device.type, torch.bfloat16) if self.options.bfloat16 else nullcontext()
        with autocast:
            loss = self.task.loss(self.task.model, batch, self.step)
        loss.backward()
        clip = math.inf if self.options.clip is None else self.options.clip
        norm = nn.utils.clip_grad_norm_(self.parameters, clip)
        value = float(loss.detach())
        for name, number in {"loss": value, "norm of the gradient": float(norm)}.items():
            if not math.isfinite(number):
                raise TrainingError(
                    f"training: the {name} became {number} at step {self.step}; {self.folder} keeps the last good "
                    "checkpoint. A smaller learning_rate or clip may help"
                )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update_parameters(self.task.model)
        self.step += 1
        return value

    def _calibrate(self, times: list[float]) -> None:
        assert self.options.minutes is not None
        began = time.perf_counter()
        self.task.validate(self.model)
        validations = self.options.validations * (time.perf_counter() - began)
        # The first steps also pay for allocations and kernel choices.
        typical = sorted(times[CALIBRATION_STEPS // 4 :])[(CALIBRATION_STEPS - CALIBRATION_STEPS // 4) // 2]
        left = 60 * self.options.minutes - validations - sum(times)
        self.steps = max(self.step, self.step + int(left / typical))

    def _validation_is_due(self) -> bool:
        if self.steps is None:
            return False
        count = min(self.options.validations, self.steps)
        return self.step * count // self.steps > (self.step - 1) * count // self.steps

    def validate(self, loss: float) -> dict[str, float]:
        """Validate the averaged weights, keep them if they are the best, write a checkpoint and the metrics."""
        began = time.perf_counter()
        self.model.eval()
        figures = self.task.validate(self.model)
        score = figures[self.task.score]
        if score > self.best:
            self.best = score
            self.task.save(
                self.model, self.folder / "best.safetensors", {**self.card, "step": self.step, "validation": figures}
            )
        self.elapsed += time.perf_counter() - began
        line = {
            "step": self.step,
            "steps": self.steps,
            "loss": loss,
            **figures,
            "learning_rate": self.options.rate(self.step, self.steps),
            "seconds": round(self.elapsed, 2),
        }
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        self.save()
        self.shown = {f"val {self.task.score}": f"{score:.2f}"}
        return figures

    def save(self) -> None:
        """Write `last.pt`."""
        save_checkpoint(
            self.folder / "last.pt",
            {
                "step": self.step,
                "steps": self.steps,
                "best": self.best,
                "elapsed": self.elapsed,
                "model": self.task.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
        )

    def load(self) -> None:
        """Go back to the state of `last.pt`; metrics that were written after it are dropped."""
        state = load_checkpoint(self.folder / "last.pt")
        try:
            self.task.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.steps = state["step"], state["steps"]
            self.best, self.elapsed = state["best"], state["elapsed"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"resume: {self.folder / 'last.pt'} belongs to another model or task: {error}") from error
        metrics = self.folder / "metrics.jsonl"
        if metrics.is_file():
            lines = [line for line in metrics.read_text().splitlines() if json.loads(line)["step"] <= self.step]
            with replacing(metrics) as temporary:
                temporary.write_text("".join(line + "\n" for line in lines))


@contextmanager
def interrupt_between_steps() -> Iterator[Callable[[], bool]]:
    """Ctrl-C takes effect when the step is done, so that what is saved is whole; a second one takes effect at once.

    Yields a function that says whether Ctrl-C was pressed.
    """
    pressed = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    if threading.current_thread() is not threading.main_thread():  # only there can signals be caught
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
