"""The training loop: any task, one optimiser, a fixed number of steps, a folder that holds everything."""

import json
import math
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from unrolled.system.files import check_writable, remove_temporary, replacing
from unrolled.training import distributed
from unrolled.training.optimizers import FIXED, copies, make_optimizer
from unrolled.training.options import TrainingOptions
from unrolled.training.runs.checkpoint import Checkpoints, to_resume
from unrolled.training.runs.lock import locked
from unrolled.training.runs.signals import stop_between_steps
from unrolled.training.sparse import UNKNOWN_LENGTH, MakeSparsifier, make_sparsifier, report
from unrolled.training.tasks.task import Task

CALIBRATION_STEPS = 20
EVERY_PROCESS = 2**31
"""Stands for the number of a process where all of them draw the same."""
Loss = Callable[[Any, int], Tensor]
BUDGET = ("steps", "epochs", "minutes")
STATE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("step", "skipped", "skipped_in_a_row"), (int,)),
    **dict.fromkeys(("best", "elapsed", "smooth_loss"), (int, float)),
    **dict.fromkeys(("facts", "options", "model", "average", "optimizer"), (dict,)),
    "steps": (int, type(None)),
    "sparsifier": (dict, type(None)),
}
"""What a checkpoint holds, and of which types."""


class TrainingError(ValueError):
    """Training cannot go on; what was reached is kept."""


class Loop:
    """One training run in one folder.

    The folder gets `metrics.jsonl` (a line per validation), `last.pt` and `previous.pt` (to resume from), and
    `best.safetensors` (weights with the best validation score, ready for use).

    With a sparsifier there are no best weights, for those of the first steps are dense and would often win. There is
    `sparse.safetensors`: the weights with their exact zeros, as of the last validation and in the end those of the end;
    and, in the end, `sparsity.json`. Each validation is one of the model as it is, and one of the model as it would be
    with its zeros (`sparse_…`). Weights are averaged from where fine tuning begins, when the zeros stand still; before
    it, and without it, they are taken as they are.

    A run that was killed at any moment and resumed ends like one that was not: with the same weights, bit for bit, on
    a CPU. What happens in a step depends on the last checkpoint, the seed and the number of the step, nothing else.

    Parameters
    ----------
    task : Task
    options : TrainingOptions
    folder : Path
    card : dict, optional
        facts that are saved with the weights.
    progress : bool
        whether to show a progress bar.
    seed : int
        of torch's random numbers in every step.
    sparsifier : callable module → Sparsifier, optional
        makes the strategy that acts on `task.sparsified`. The loop tells it the number of steps; when the run ends, in
        whatever way, nothing of it is left on the model.

    Raises
    ------
    ValueError
        if the batch cannot be shared among the processes, or the sparsifier is refused.
    """

    def __init__(
        self,
        task: Task,
        options: TrainingOptions,
        folder: Path,
        card: dict[str, Any] | None = None,
        progress: bool = True,
        seed: int = 0,
        sparsifier: MakeSparsifier | None = None,
    ):
        self.task, self.options, self.folder, self.card, self.seed = task, options, folder, card or {}, seed
        self.progress = progress and distributed.rank() == 0
        task.model.to(memory_format=torch.channels_last if options.channels_last else torch.contiguous_format)  # type: ignore[call-overload]
        self.checkpoints = Checkpoints(folder)
        self.step, self.best, self.elapsed, self.smooth_loss = 0, -math.inf, 0.0, math.nan
        self.skipped, self.skipped_in_a_row = 0, 0
        self.saved_step, self.saved_at = 0, -math.inf
        self.stop_wanted: Callable[[], int] = lambda: 0
        self.stop, self.save_is_due = False, False
        self.steps = options.steps
        self.shown: dict[str, str] = {}
        self.facts: dict[str, Any] = {}
        if options.epochs is not None:
            self.steps = max(1, round(options.epochs * task.epoch / options.batch))
        self.part = distributed.part(options.batch)
        self.parameters = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
        self.statistics = [
            buffer
            for module in task.model.modules()
            if isinstance(module, nn.modules.batchnorm._NormBase)
            for buffer in module.buffers(recurse=False)
        ]
        self.device = self.parameters[0].device
        self.average = AveragedModel(task.model, avg_fn=self._average_weight)  # of the model before hooks are on it
        self.sparsifier = None
        if sparsifier is not None:
            with self._own_randomness():
                distributed.take_over(task.model)
                self._seed(together=True)
                self.sparsifier = make_sparsifier(sparsifier, task, options.compile)
        self.learned = [] if self.sparsifier is None else self.sparsifier.parameters()
        self.optimizer = make_optimizer(options, task.model, self.learned)

    def _average_weight(self, average: Tensor, weight: Tensor, count: Tensor | int) -> Tensor:
        # Early on a short memory, so that the average does not drag the random first weights along.
        decay = min(self.options.average, (1 + int(count)) / (10 + int(count)))
        return average.lerp(weight, 1 - decay)

    @property
    def model(self) -> nn.Module:
        """The model that is validated: the averaged one, or with a sparsifier before fine tuning the trained one."""
        module = self.average.module if self._averages() else self.task.model
        assert isinstance(module, nn.Module)
        return module

    def _averages(self) -> bool:
        return self.sparsifier is None or self.sparsifier.masks is not None

    def run(self, resume: bool = False) -> dict[str, float]:
        """Train to the end of the budget, and return the figures of the last validation.

        With a sparsifier they are those of the model as it was, and "sparse_…" of what it is now.

        Parameters
        ----------
        resume : bool
            go on from the folder's last checkpoint; if it holds none yet, start, with a warning.

        Raises
        ------
        ValueError
            if the folder cannot be written, has too little room or is in use by another run, or if its checkpoints
            are damaged or of another run.
        TrainingError
            if too many batches in a row give a loss or gradient that is not finite, or a checkpoint cannot be written;
            the last good checkpoint stays.
        KeyboardInterrupt
            on Ctrl-C, SIGTERM or SIGUSR1, after a checkpoint was written; its argument is the signal's number.
        """
        figures: dict[str, float] = {}
        patient = distributed.size() > 1
        with (
            locked(self.folder),
            self._own_randomness(),
            self._attached(),
            stop_between_steps(patient) as self.stop_wanted,
            distributed.shared_loss(self.task, bool(self.statistics), self.options.compile) as loss_of,
        ):
            self._start(resume)
            if self.options.compile:
                self._fill_caches()
            for _ in self._steps(loss_of):
                if self._validation_is_due():
                    figures = self.validate()
                elif self.save_is_due and not self.skipped_in_a_row:  # what is kept should be from before the trouble
                    self.save()
                if self.stop and self.step != self.steps:
                    self.save()
                    raise KeyboardInterrupt(self.stop_wanted() or signal.SIGTERM)
            figures = figures or self._figures()
            return figures if self.sparsifier is None else self._finish(figures)

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """While it lasts, the caller's random numbers wait."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            yield

    @contextmanager
    def _attached(self) -> Iterator[None]:
        """At the end nothing of the sparsifier is left on the model."""
        try:
            yield
        finally:
            if self.sparsifier is not None and not self.sparsifier.finalized:
                self.sparsifier.release()

    def _start(self, resume: bool) -> None:
        distributed.on_first(self._check_folder)
        self._seed()
        recipe = None if self.sparsifier is None else self.sparsifier.recipe()
        self.facts = {"seed": self.seed, "batch": self.options.batch, "sparsifier": recipe, **self.task.facts()}
        if distributed.on_first(lambda: to_resume(self.folder, resume)):
            self.load()
        else:
            distributed.on_first(self._clear)
            self.save()  # so that even a kill in the first minutes loses nothing that chance had drawn
        self._tell_length()

    def _tell_length(self) -> None:
        if self.sparsifier is not None:
            self.sparsifier.steps = self.steps or UNKNOWN_LENGTH

    def _fill_caches(self) -> None:
        """Compute the loss once as it stands: what layers keep between calls they do not make inside of a graph."""
        with torch.no_grad():
            self.task.loss(self.task.model, self.task.batch(self.step, self.options.batch), self.step)

    def _check_folder(self) -> None:
        """Everything that would otherwise be noticed only when the first results are to be written."""
        check_writable(self.folder / "last.pt")
        remove_temporary(self.folder)
        tensors = [*self.task.model.state_dict().values(), *self.average.state_dict().values(), *self.learned]
        tensors += copies(self.options) * [*self.parameters, *self.learned]
        for weight in [] if self.sparsifier is None else self.sparsifier.weights:
            # What is kept of a weight may appear only in the first step; and there is a mask in fine tuning.
            tensors += [*(weight.extra.values() or [weight.parameter]), weight.parameter.detach() != 0]
        size = sum(tensor.nbytes for tensor in tensors)
        needed = 3 * size - self.checkpoints.size()  # two that stay, and one that is being written
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise ValueError(
                f"folder: {self.folder} has {free / 1e6:.1f} MB free, and the checkpoints need {needed / 1e6:.1f} MB"
            )

    def _clear(self) -> None:
        self.checkpoints.clear()
        (self.folder / "metrics.jsonl").unlink(missing_ok=True)
        if self.sparsifier is not None:  # of a run before
            (self.folder / "best.safetensors").unlink(missing_ok=True)

    def _steps(self, loss_of: Loss) -> Iterator[None]:
        self.task.model.train()
        with tqdm(
            total=self.steps, initial=self.step, disable=not self.progress, dynamic_ncols=True, unit="step"
        ) as bar:
            times: list[float] = []
            while self.steps is None or self.step < self.steps:
                began = time.perf_counter()
                self._one_step(loss_of)
                times.append(time.perf_counter() - began)
                self.elapsed += times[-1]
                if self.steps is None and len(times) == CALIBRATION_STEPS:
                    self._calibrate(times)
                    bar.total = self.steps
                bar.set_postfix({"loss": f"{self.smooth_loss:.2e}", **self.shown}, refresh=False)
                bar.update()
                yield

    def _one_step(self, loss_of: Loss) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.rate(self.step, self.steps)
        self._seed()
        part = {} if self.part is None else {"part": self.part}
        batch = self.task.batch(self.step, self.options.batch, **part)
        before = [buffer.clone() for buffer in self.statistics]
        autocast = torch.autocast(self.device.type, torch.bfloat16) if self.options.bfloat16 else nullcontext()
        with autocast:
            loss = loss_of(batch, self.step)
        self._with_penalty(loss).backward()
        distributed.average_gradients(self.learned)
        clip = math.inf if self.options.clip is None else self.options.clip
        norm = float(nn.utils.clip_grad_norm_(self.parameters, clip))
        norm += float(nn.utils.get_total_norm([p.grad for p in self.learned if p.grad is not None]))
        value, stop, save = distributed.agreed(loss.detach(), self.stop_wanted() != 0, self._checkpoint_is_old())
        self.stop, self.save_is_due = stop > 0, save > 0
        if math.isfinite(value) and math.isfinite(norm):
            self.optimizer.step()
            if self.sparsifier is not None:
                self._seed(together=True)
                self.sparsifier.step(self.optimizer)
            if self._averages():
                self.average.update_parameters(self.task.model)
            self.skipped_in_a_row = 0
            self.smooth_loss = value if math.isnan(self.smooth_loss) else 0.98 * self.smooth_loss + 0.02 * value
        else:
            for buffer, old in zip(self.statistics, before, strict=True):
                buffer.copy_(old)
            self._skip(value, norm)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def _with_penalty(self, loss: Tensor) -> Tensor:
        """The loss with that of the sparsifier, which is the same on every process and never in bfloat16."""
        if self.sparsifier is None:
            return loss
        return loss + self.sparsifier.loss()

    def _seed(self, together: bool = False) -> None:
        """Random numbers of a step are a function of (seed, step, process), whatever came before.

        Or, together, the same numbers for all processes.
        """
        drawer = EVERY_PROCESS if together else distributed.rank()
        words = np.random.SeedSequence((self.seed, self.step, drawer)).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0]))

    def _skip(self, loss: float, norm: float) -> None:
        self.skipped += 1
        self.skipped_in_a_row += 1
        self.shown["skipped"] = str(self.skipped)
        if self.skipped_in_a_row >= self.options.nan_limit:
            named = f"loss became {loss}" if not math.isfinite(loss) else f"norm of the gradient became {norm}"
            raise TrainingError(
                f"training: the {named} at step {self.step}, and {self.skipped_in_a_row} batches in a row were skipped "
                f"for that (nan_limit); {self.folder} keeps the checkpoint of step {self.saved_step}. A smaller "
                "learning_rate or clip may help"
            )

    def _checkpoint_is_old(self) -> bool:
        age = time.monotonic() - self.saved_at
        return distributed.rank() == 0 and age > 60 * self.options.checkpoint_minutes

    def _calibrate(self, times: list[float]) -> None:
        assert self.options.minutes is not None
        began = time.perf_counter()
        self._figures()
        validations = self.options.validations * (time.perf_counter() - began)
        # The first steps also pay for allocations and kernel choices.
        typical = sorted(times[CALIBRATION_STEPS // 4 :])[(CALIBRATION_STEPS - CALIBRATION_STEPS // 4) // 2]
        left = 60 * self.options.minutes - validations - sum(times)
        self.steps = distributed.on_first(lambda: max(self.step, self.step + int(left / typical)))
        self._tell_length()
        self.save_is_due = True  # from now on the number of steps is the run's, however often it is resumed

    def _validation_is_due(self) -> bool:
        if self.steps is None:
            return False
        count = min(self.options.validations, self.steps)
        return self.step * count // self.steps > (self.step - 1) * count // self.steps

    def validate(self) -> dict[str, float]:
        """Validate the model, write its weights if they are the best or sparse, a checkpoint and the metrics."""
        began = time.perf_counter()
        figures = self._figures()
        name = self.task.score if self.sparsifier is None else f"sparse_{self.task.score}"
        score = figures[name]
        best, self.best = score > self.best, max(score, self.best)
        self.elapsed += time.perf_counter() - began
        # A kill between these files does no harm: the resumed run comes here again and writes the same.
        self._write(lambda: self._write_results(figures, best))
        self.save()
        self.shown[f"val {name}"] = f"{score:.2f}"
        if "sparsity" in figures:
            self.shown["sparsity"] = f"{figures['sparsity']:.2%}"
        return figures

    def _figures(self) -> dict[str, float]:
        """The figures of a validation; with a sparsifier of the model as it is and with its zeros."""
        figures = self.task.validate(self.model.eval())
        if self.sparsifier is None:
            return figures
        sparse = figures
        if not self._averages():
            with self.sparsifier.as_finalized():
                sparse = self.task.validate(self.model)
            self.model.train()
        return {**figures, f"sparse_{self.task.score}": sparse[self.task.score], **self.sparsifier.figures()}

    def _finish(self, figures: dict[str, float]) -> dict[str, float]:
        """Make the zeros the model's own, and write weights and report."""
        assert self.sparsifier is not None
        self.sparsifier.finalize()
        after = self.task.validate(self.model.eval())
        figures = {**figures, f"sparse_{self.task.score}": after[self.task.score]}
        facts = report(self.sparsifier, self.task, self.step, figures, after)
        self._write(lambda: self._write_sparse(figures, facts))
        return figures

    def _write_sparse(self, figures: dict[str, float], facts: dict[str, Any]) -> None:
        self._save_weights("sparse.safetensors", figures)
        with replacing(self.folder / "sparsity.json") as temporary:
            temporary.write_text(json.dumps(facts, indent=2) + "\n")

    def _save_weights(self, name: str, figures: dict[str, float]) -> None:
        self.task.save(self.model, self.folder / name, {**self.card, "step": self.step, "validation": figures})

    def _write_results(self, figures: dict[str, float], best: bool) -> None:
        if self.sparsifier is not None:
            with nullcontext() if self._averages() else self.sparsifier.as_finalized():
                self._save_weights("sparse.safetensors", figures)
        elif best:
            self._save_weights("best.safetensors", figures)
        line = {
            "step": self.step,
            "steps": self.steps,
            "loss": self.smooth_loss,
            **figures,
            "learning_rate": self.options.rate(self.step, self.steps),
            "skipped": self.skipped,
            "seconds": round(self.elapsed, 2),
        }
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _write(self, action: Callable[[], None]) -> None:
        """Write files, by the first process; if that fails all of them stop."""

        def attempt() -> None:
            try:
                action()
            except Exception as error:  # every way of writing files has errors of its own
                raise TrainingError(
                    f"training: stopped at step {self.step}, for results could not be written: {error}; "
                    f"{self.folder} keeps the checkpoint of step {self.saved_step}"
                ) from error

        distributed.on_first(attempt)

    def save(self) -> None:
        """Write a checkpoint."""
        state = {
            "step": self.step,
            "steps": self.steps,
            "best": self.best,
            "elapsed": self.elapsed,
            "smooth_loss": self.smooth_loss,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "facts": self.facts,
            "options": asdict(self.options),
            "model": self.task.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sparsifier": None if self.sparsifier is None else self.sparsifier.state_dict(),
        }
        self._write(lambda: self.checkpoints.save(state))
        self.saved_step, self.saved_at = self.step, time.monotonic()

    def load(self) -> None:
        """Go back to the state of the last checkpoint; metrics that were written after it are dropped.

        Raises
        ------
        ValueError
            if no checkpoint can be read, or seed, batch, optimiser, sparsifier or what the task says of itself are not
            those of the run.
        """
        state = distributed.on_first(self.checkpoints.load)
        for name, types in STATE.items():
            if not isinstance(state.get(name), types):
                raise ValueError(
                    f"resume: the checkpoint in {self.folder} is damaged: {name} is {state.get(name)!r:.99}"
                )
        self._compare(state)
        try:
            self.task.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.sparsifier is not None:
                self.sparsifier.load_state_dict(state["sparsifier"])
            self.step, self.steps = state["step"], state["steps"]
            self.best, self.elapsed, self.smooth_loss = state["best"], state["elapsed"], state["smooth_loss"]
            self.skipped, self.skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]
        except Exception as error:  # of states of other things anything may come
            raise ValueError(f"resume: {self.folder} belongs to another model or task: {error}") from error
        if not (self.folder / "best.safetensors").exists():
            self.best = -math.inf  # it was removed: let the next validation write it again
        self.saved_step, self.saved_at = self.step, time.monotonic()
        distributed.on_first(self._drop_later_metrics)

    def _compare(self, state: dict[str, Any]) -> None:
        """Refuse to go on with another run's network, operator, seed, batch …; say what else is not as it was."""
        usual = asdict(TrainingOptions(steps=1))  # a checkpoint may be older than an option
        options = {name: (state["options"].get(name, usual[name]), now) for name, now in asdict(self.options).items()}
        facts = {name: (state["facts"].get(name), now) for name, now in self.facts.items() if name != "data"}
        facts |= {name: options.pop(name) for name in FIXED}
        for name, (before, now) in facts.items():
            if before != now:
                raise ValueError(f"resume: {name} must be that of the run in {self.folder}, {before}, got {now}")
        notes = []
        if self.facts.get("data") != state["facts"].get("data"):
            notes.append(f"the data were {state['facts'].get('data')} and are {self.facts.get('data')}")
        changed = {name: pair for name, pair in options.items() if pair[0] != pair[1]}
        if any(name in changed for name in BUDGET):
            notes.append(f"the run keeps its {state['steps']} steps")
        notes += [f"{name} was {was} and is {now}" for name, (was, now) in changed.items() if name not in BUDGET]
        if notes and distributed.rank() == 0:
            warnings.warn(f"resume: {'; '.join(notes)}", stacklevel=2)

    def _drop_later_metrics(self) -> None:
        metrics = self.folder / "metrics.jsonl"
        if metrics.is_file():
            lines = metrics.read_bytes().splitlines()
            steps = [_step_of(line) for line in lines]
            damaged = [number for number, step in enumerate(steps[:-1], 1) if step == math.inf]
            if damaged:  # of the last line a kill may have left a part
                warnings.warn(f"resume: {metrics}: damaged lines are left out: {damaged}", stacklevel=2)
            kept = [line + b"\n" for line, step in zip(lines, steps, strict=True) if step <= self.step]
            with replacing(metrics) as temporary:
                temporary.write_bytes(b"".join(kept))


def _step_of(line: bytes) -> float:
    """The step of a line of metrics; infinity for a line that is damaged or was cut short by a kill."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf
    return step if isinstance(step, int) else math.inf
