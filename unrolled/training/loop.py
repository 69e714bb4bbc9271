"""The training loop: any task, one optimiser, a fixed number of steps, a folder that holds everything."""

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from unrolled.system.compilation import Compiled
from unrolled.training import distributed
from unrolled.training.average import Average
from unrolled.training.optimizers import check_state, copies, load_optimizer, make_optimizer, set_rate
from unrolled.training.options import CLOCKS, WORTH_COMPILING, TrainingOptions
from unrolled.training.parts import Frozen
from unrolled.training.random_numbers import own_randomness, seed_step
from unrolled.training.runs.lock import locked
from unrolled.training.runs.progress import Progress, check_contents, check_same_run
from unrolled.training.runs.run_folder import BEST, RunFolder, TrainingError, may_go_on
from unrolled.training.runs.signals import stop_between_steps
from unrolled.training.sparse import DenseTraining, MakeSparsifier, SparseTraining
from unrolled.training.tasks.task import LossOfModel, Task
from unrolled.training.trial import compiled_is_faster
from unrolled.training.updates import Outcome, Updates, UpdatesOnDevice, can_decide

CALIBRATION_STEPS = 20


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

    A batch whose loss or gradient is not finite changes nothing. On CUDA, without a sparsifier, the device decides so,
    and the host looks at loss and norm one step late, so that neither waits for the other; on other devices the host
    decides.

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
        if the batch cannot be shared among the processes, the sparsifier is refused, or the options name parts that the
        model does not have.
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
        self.task, self.options, self.seed = task, options, seed
        self.folder = RunFolder(folder, task, card or {})
        self.progress = Progress(steps=options.length(task.epoch))
        self.facts: dict[str, Any] = {}
        self.shows_bar, self.shown = progress and distributed.rank() == 0, dict[str, str]()
        self.stop_wanted: Callable[[], int] = lambda: 0
        self.stop, self.save_is_due = False, False
        self.parts = distributed.parts(options.batch, options.accumulate)
        task.model.to(memory_format=torch.channels_last if options.channels_last else torch.contiguous_format)  # type: ignore[call-overload]
        self.frozen = Frozen(task.model, options)
        self.average = Average(task.model, options.average)
        self.compiled = options.compile
        """None: to be found out by a trial."""
        self.loss_of_model: LossOfModel = task.loss
        self.seconds_of_trial = 0.0
        self.clock = CLOCKS[options.clock]
        with self.frozen.standing_still():
            self.parameters = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
            self.device = self.parameters[0].device
            if sparsifier is None:
                self.sparse = DenseTraining(task, self.average)
            else:
                with own_randomness(self.device):
                    self.sparse = SparseTraining(task, self.average, sparsifier, bool(options.compile), seed)
            late = sparsifier is None and can_decide(self.device, self.parameters)
            self.optimizer = make_optimizer(options, task.model, self.sparse.learned, fused=late)
        self.updates = (UpdatesOnDevice if late else Updates)(task.model, self.optimizer, self.sparse)

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
            if the folder cannot be written, has too little room, is in use by another run or holds one that is not
            resumed, or if its checkpoints are damaged or of another run.
        TrainingError
            if too many batches in a row give a loss or gradient that is not finite, or all validations a score that is
            not, or a checkpoint cannot be written; the last good checkpoint stays.
        KeyboardInterrupt
            on Ctrl-C, SIGTERM or SIGUSR1, after a checkpoint was written; its argument is the signal's number.
        """
        figures: dict[str, float] = {}
        patient = distributed.size() > 1
        with (
            locked(self.folder.path),
            own_randomness(self.device),
            self.frozen.standing_still(),
            self.sparse.attached(),
            stop_between_steps(patient) as self.stop_wanted,
            distributed.shared_loss(self.task, bool(self.updates.statistics), lambda: self.loss_of_model) as loss_of,
        ):
            self._start(resume)
            for _ in self._steps(loss_of):
                validates = self.options.validation_is_due(self.progress.step, self.progress.steps)
                if validates or self.save_is_due or self.stop:
                    self._look_at(self.updates.settle())
                if validates:
                    figures = self.validate()
                elif self.save_is_due and not self.progress.skipped_in_a_row:  # keep what is from before the trouble
                    self.save()
                if self.stop and not self._is_over:
                    self.save()
                    raise KeyboardInterrupt(self.stop_wanted() or signal.SIGTERM)
            figures = self.sparse.finish(self.folder, self.progress.step, figures or self.sparse.figures())
            self._check_score(figures)
            return figures

    def _start(self, resume: bool) -> None:
        distributed.on_first(lambda: self.folder.check(self._checkpoint_bytes()))
        seed_step(self.seed, self.progress.step)
        if may_go_on(self.folder.path, resume):
            self.load()
        else:
            self._tell_facts()
            self.save()  # so that even a kill in the first minutes loses nothing that chance had drawn
        self.sparse.tell_length(self.progress.steps)
        if self.compiled is None and not self._may_gain_by_compiling():
            self.compiled = False
        if self.compiled is not False:
            self._compile()

    def _tell_facts(self) -> None:
        recipe = self.sparse.recipe
        self.facts = {"seed": self.seed, "batch": self.options.batch, "sparsifier": recipe, **self.task.facts()}

    def _may_gain_by_compiling(self) -> bool:
        long = self.options.minutes is not None and self.options.minutes >= WORTH_COMPILING
        compilable = self.device.type in ("cpu", "cuda") and self.task.gains_by_compiling
        return long and compilable and not self.sparse.acts_in_forward

    def _compile(self) -> None:
        """Let the loss be compiled; where nothing is said, if a trial finds that this pays."""
        step, model, loss_of = self.progress.step, self.task.model, self.task.loss
        compiled = Compiled(loss_of, "The loss")
        batch = self._batch(step, self.parts[0])
        with torch.no_grad():  # what layers keep between calls they do not make inside of a graph
            loss_of(model, batch, step)
        if self.compiled is None:
            began = self.clock()
            model.train()
            self.updates.begin()
            faster = compiled_is_faster(loss_of, compiled, model, batch, step, self.parameters, self._autocast)
            self.updates.restore()
            self.compiled = distributed.on_first(lambda: faster)
            self.seconds_of_trial = self.clock() - began
            self.progress.elapsed += self.seconds_of_trial
            self.save()  # with the form that was chosen
        if self.compiled:
            self.loss_of_model = compiled

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.options.bfloat16 else nullcontext()

    def _batch(self, step: int, part: range | None) -> Any:
        return self.task.batch(step, self.options.batch, **({} if part is None else {"part": part}))

    @property
    def _is_over(self) -> bool:
        return self.progress.is_over or self.progress.has_waited(self.options.patience)

    def _checkpoint_bytes(self) -> int:
        tensors = [*self.task.model.state_dict().values(), *self.average.state_dict().values()]
        tensors += copies(self.options) * [*self.parameters, *self.sparse.learned] + self.sparse.checkpointed()
        return sum(tensor.nbytes for tensor in tensors)

    def _steps(self, loss_of: distributed.SharedLoss) -> Iterator[None]:
        progress = self.progress
        self.task.model.train()
        with tqdm(
            total=progress.steps, initial=progress.step, disable=not self.shows_bar, dynamic_ncols=True, unit="step"
        ) as bar:
            times: list[float] = []
            while not self._is_over:
                began = self.clock()
                self._one_step(loss_of)
                times.append(self.clock() - began)
                progress.elapsed += times[-1]
                if progress.steps is None and len(times) == CALIBRATION_STEPS:
                    self._calibrate(times)
                    bar.total = progress.steps
                bar.set_postfix({"loss": f"{progress.smooth_loss:.2e}", **self.shown}, refresh=False)
                bar.update()
                yield
            if not progress.is_over and self.shows_bar:
                tqdm.write(f"ended at step {progress.step}: no improvement in {progress.waited} validations")

    def _one_step(self, loss_of: distributed.SharedLoss) -> None:
        progress, learned = self.progress, self.sparse.learned
        set_rate(self.optimizer, self.options.rate(progress.step, progress.steps))
        seed_step(self.seed, progress.step)
        self.frozen.keep()
        self.updates.begin()
        loss = self._gradients(loss_of)
        distributed.average_gradients(learned)
        clip = math.inf if self.options.clip is None else self.options.clip
        norm = nn.utils.clip_grad_norm_(self.parameters, clip)
        norm = norm + nn.utils.get_total_norm([p.grad for p in learned if p.grad is not None])
        numbers = distributed.agreed(loss, norm, self.stop_wanted() != 0, self._checkpoint_is_old())
        self._look_at(self.updates.apply(progress.step, numbers))
        self.optimizer.zero_grad(set_to_none=True)
        progress.step += 1

    def _gradients(self, loss_of: distributed.SharedLoss) -> Tensor:
        """Leave the gradients of a step's batch, part by part, and return its loss."""
        step, last, losses = self.progress.step, self.parts[-1], []
        for part in self.parts:
            batch = self._batch(step, part)
            with self._autocast():
                loss = (loss_of if part is last else loss_of.apart)(batch, step) / len(self.parts)
            losses.append(loss.detach())
            # The penalty is never in bfloat16, and the same on every process.
            (self.sparse.penalised(loss) if part is last else loss).backward()
        return sum(losses[1:], losses[0])

    def _look_at(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self.stop, self.save_is_due = outcome.stop, outcome.save
            if outcome.is_good:
                self.progress.learned_from(outcome.loss)
            else:
                self._skip(outcome)

    def _skip(self, outcome: Outcome) -> None:
        progress, loss = self.progress, outcome.loss
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        self.shown["skipped"] = str(progress.skipped)
        if progress.skipped_in_a_row >= self.options.nan_limit:
            norm = f"norm of the gradient became {outcome.norm}"
            named = norm if math.isfinite(loss) else f"loss became {loss}"
            raise TrainingError(
                f"training: the {named} at step {outcome.step}, and {progress.skipped_in_a_row} batches in a row were "
                f"skipped for that (nan_limit); {self.folder.path} keeps the checkpoint of step "
                f"{self.folder.saved_step}. A smaller learning_rate or clip may help"
            )

    def _check_score(self, figures: dict[str, float]) -> None:
        name = self.sparse.score
        if self.progress.best == -math.inf and not figures[name] > -math.inf:
            raise TrainingError(
                f"training: no weights had a score that is a number, those of the end have the {name} {figures[name]}; "
                "a smaller learning_rate may help"
            )

    def _checkpoint_is_old(self) -> bool:
        return distributed.rank() == 0 and self.folder.checkpoint_minutes > self.options.checkpoint_minutes

    def _calibrate(self, times: list[float]) -> None:
        """Turn the minutes of the budget into steps, by the times of the first ones."""
        assert self.options.minutes is not None
        self._look_at(self.updates.settle())
        began = self.clock()
        self.sparse.figures()
        validations = self.options.validations * (self.clock() - began)
        # The first steps also pay for allocations and kernel choices.
        typical = sorted(times[CALIBRATION_STEPS // 4 :])[(CALIBRATION_STEPS - CALIBRATION_STEPS // 4) // 2]
        left = 60 * self.options.minutes - validations - self.seconds_of_trial - sum(times)
        step = self.progress.step
        self.progress.steps = distributed.on_first(lambda: max(step, step + int(left / typical)))
        self.sparse.tell_length(self.progress.steps)
        self.save_is_due = True  # from now on the number of steps is the run's, however often it is resumed

    def validate(self) -> dict[str, float]:
        """Validate the model, write its weights if they are the best or sparse, a checkpoint and the metrics."""
        progress, began = self.progress, self.clock()
        figures = self.sparse.figures()
        score = figures[self.sparse.score]
        best = score > progress.best  # never a NaN
        progress.best = score if best else progress.best
        if self.sparse.averages:  # not while a sparsifier makes the score fall
            progress.scored(score, self.options.min_improvement)
        progress.elapsed += self.clock() - began
        line = {
            "step": progress.step,
            "steps": progress.steps,
            "loss": progress.smooth_loss,
            **figures,
            "learning_rate": self.options.rate(progress.step, progress.steps),
            "skipped": progress.skipped,
            "seconds": round(progress.elapsed, 2),
        }

        def write() -> None:
            self.sparse.save_weights(self.folder, progress.step, figures, best)
            self.folder.add_metrics(line)

        # A kill between these files does no harm: the resumed run comes here again and writes the same.
        self.folder.write(progress.step, write)
        self.save()
        self.shown[f"val {self.sparse.score}"] = f"{score:.2f}"
        if "sparsity" in figures:
            self.shown["sparsity"] = f"{figures['sparsity']:.2%}"
        return figures

    def save(self) -> None:
        """Write a checkpoint."""
        self.folder.save(
            {
                **asdict(self.progress),
                "made_by": self.folder.made_by,
                "facts": self.facts,
                "options": {**asdict(self.options), "compile": self.compiled},
                "model": self.task.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "sparsifier": self.sparse.state_dict(),
            }
        )

    def load(self) -> None:
        """Go back to the state of the last checkpoint; metrics that were written after it are dropped.

        Raises
        ------
        ValueError
            if no checkpoint can be read, or seed, batch, optimiser, sparsifier or what the task says of itself are not
            those of the run.
        """
        path = self.folder.path
        state = self.folder.load()
        check_contents(state, path)
        if self.options.compile is None:
            self.compiled = state["options"].get("compile", False)
        try:
            for model in (self.task.model, self.average.module):
                self.task.go_on(model, state["facts"])
            self._tell_facts()
            check_same_run(state, self.facts, self.options, path)
            check_state(self.optimizer, state["optimizer"])
            self.task.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            load_optimizer(self.optimizer, state["optimizer"])
            self.sparse.load_state_dict(state.get("sparsifier"))  # older checkpoints have no such entry
            self.progress = Progress.of(state)
        except ValueError:
            raise
        except Exception as error:  # of states of other things anything may come
            raise ValueError(f"resume: {path} belongs to another model or task: {error}") from error
        self.progress.of_length(self.options.length(self.task.epoch))
        if not (path / BEST).exists():
            self.progress.best = -math.inf  # it was removed: let the next validation write it again
        distributed.on_first(lambda: self.folder.drop_metrics_after(self.progress.step))
