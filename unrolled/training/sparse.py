"""What a sparsifier changes in a run, and a run without one, which is asked the same and does nothing."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.sparsify import Sparsifier, sparsity_report
from unrolled.training import distributed
from unrolled.training.average import Average
from unrolled.training.random_numbers import seed_step
from unrolled.training.runs.run_folder import BEST, SPARSE, RunFolder
from unrolled.training.tasks.task import Task

MakeSparsifier = Callable[[nn.Module], Sparsifier]
UNKNOWN_LENGTH = 2**40
"""Steps of a run whose number of steps is not known yet: so many that no schedule gets anywhere."""


class DenseTraining:
    """No sparsifier: weights are averaged from the first step, the average is validated, and the best is kept.

    Parameters
    ----------
    task : Task
    average : Average
        of the task's model.

    Attributes
    ----------
    score : str
        the figure by which weights are the best.
    learned : sequence of Parameter
        what is learned besides the model.
    acts_in_forward : bool
        whether something acts while the model runs, so that it cannot be compiled.
    """

    learned: Sequence[nn.Parameter] = ()
    acts_in_forward = False

    def __init__(self, task: Task, average: Average):
        self.task, self.average, self.score = task, average, task.score

    @property
    def recipe(self) -> str | None:
        """How the sparsifier is made; a run goes on only with the same one."""
        return None

    @property
    def averages(self) -> bool:
        """Whether weights are averaged now."""
        return True

    @property
    def model(self) -> nn.Module:
        """The model that is validated and saved: the averaged one, or, while nothing is averaged, the trained one."""
        module = self.average.module if self.averages else self.task.model
        assert isinstance(module, nn.Module)
        return module

    @contextmanager
    def attached(self) -> Iterator[None]:
        """While the run lasts; afterwards nothing of the sparsifier is left on the model."""
        yield

    def tell_length(self, steps: int | None) -> None:
        """Say how many steps the run has, if that is known."""

    def checkpointed(self) -> list[Tensor]:
        """Tensors of the size of those that a checkpoint holds besides model, average and optimiser."""
        return []

    def penalised(self, loss: Tensor) -> Tensor:
        """The loss of the task with that of the sparsifier."""
        return loss

    def step(self, optimizer: Optimizer, step: int) -> None:
        """Act, after a step of the optimiser."""

    def figures(self) -> dict[str, float]:
        """The figures of a validation."""
        return self.task.validate(self.model.eval())

    def save_weights(self, folder: RunFolder, step: int, figures: dict[str, float], best: bool) -> None:
        """Write the weights of a validation, if they are to be kept."""
        if best:
            folder.save_weights(BEST, self.model, step, figures)

    def finish(self, folder: RunFolder, step: int, figures: dict[str, float]) -> dict[str, float]:
        """Leave the model as it is to be used, write what tells of it, and return the figures with those of the end."""
        return figures

    def state_dict(self) -> dict[str, Any] | None:
        """The state of the sparsifier for a checkpoint; None if there is none."""
        return None

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Take the state of a checkpoint."""


class SparseTraining(DenseTraining):
    """A sparsifier acts on the model.

    Each validation looks at the model as it is, and at the model as it would be with its zeros. Weights are averaged
    from where fine tuning begins, when the zeros stand still.

    Parameters
    ----------
    task, average
        as for `DenseTraining`; the average is made before the sparsifier's hooks are on the model.
    make : callable module → Sparsifier
    compiled : bool
        whether the model must be compiled.
    seed : int
        of the random numbers that the sparsifier draws.

    Raises
    ------
    ValueError
        if the sparsifier cannot be made, acts on something that is not trained, or acts inside of a model that is
        compiled.
    """

    def __init__(self, task: Task, average: Average, make: MakeSparsifier, compiled: bool, seed: int):
        super().__init__(task, average)
        self.seed, self.score = seed, f"sparse_{task.score}"
        distributed.take_over(task.model)
        seed_step(seed, 0, together=True)
        self.sparsifier = _made(make, task, compiled)
        self.learned, self.acts_in_forward = self.sparsifier.parameters(), self.sparsifier.acts_in_forward

    @property
    def recipe(self) -> str | None:
        return self.sparsifier.recipe()

    @property
    def averages(self) -> bool:
        return self.sparsifier.masks is not None

    @contextmanager
    def attached(self) -> Iterator[None]:
        try:
            yield
        finally:
            if not self.sparsifier.finalized:
                self.sparsifier.release()

    def tell_length(self, steps: int | None) -> None:
        self.sparsifier.steps = steps or UNKNOWN_LENGTH

    def checkpointed(self) -> list[Tensor]:
        tensors: list[Tensor] = [*self.learned]
        for weight in self.sparsifier.weights:
            # What is kept of a weight may appear only in the first step; and there is a mask in fine tuning.
            tensors += [*(weight.extra.values() or [weight.parameter]), weight.parameter.detach() != 0]
        return tensors

    def penalised(self, loss: Tensor) -> Tensor:
        return loss + self.sparsifier.loss()

    def step(self, optimizer: Optimizer, step: int) -> None:
        seed_step(self.seed, step, together=True)
        self.sparsifier.step(optimizer)

    def figures(self) -> dict[str, float]:
        figures = sparse = super().figures()
        if not self.averages:
            with self.sparsifier.as_finalized():
                sparse = self.task.validate(self.model)
            self.model.train()
        return {**figures, self.score: sparse[self.task.score], **self.sparsifier.figures()}

    def save_weights(self, folder: RunFolder, step: int, figures: dict[str, float], best: bool) -> None:
        with nullcontext() if self.averages else self.sparsifier.as_finalized():
            folder.save_weights(SPARSE, self.model, step, figures)

    def finish(self, folder: RunFolder, step: int, figures: dict[str, float]) -> dict[str, float]:
        self.sparsifier.finalize()
        after = self.task.validate(self.model.eval())
        ended = {**figures, self.score: after[self.task.score]}
        facts = {
            "step": step,
            "sparsifier": json.loads(self.sparsifier.recipe()),
            "before": {name: value for name, value in ended.items() if name in after},
            "after": after,
            **self.sparsifier.figures(),
            "strength": self.sparsifier.base_strength,
            "report": sparsity_report(self.task.sparsified, self.task.example()).as_dict(),
        }

        def write() -> None:
            folder.save_weights(SPARSE, self.model, step, ended)
            folder.save_facts("sparsity.json", facts)

        folder.write(step, write)
        return ended

    def state_dict(self) -> dict[str, Any] | None:
        return self.sparsifier.state_dict()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        self.sparsifier.load_state_dict(state or {})


def _made(make: MakeSparsifier, task: Task, compiled: bool) -> Sparsifier:
    """The sparsifier of a task's model, or a ValueError that says why there can be none."""
    if not callable(make):
        raise ValueError(
            "sparsifier must be a function that makes one of a module, such as "
            f"lambda network: ProximalStep(network, L1(), target=0.9), got {make!r:.99}"
        )
    made = make(task.sparsified)
    if not isinstance(made, Sparsifier):
        raise ValueError(f"sparsifier: the function must return a Sparsifier, got {made!r:.99}")
    trained = {id(parameter) for parameter in task.model.parameters()}
    strangers = [weight.name for weight in made.weights if id(weight.parameter) not in trained]
    problem = None
    if strangers:
        problem = f"sparsifier: it acts on {strangers[0]}, which is not a parameter of the model that is trained"
    elif compiled and made.acts_in_forward:
        problem = f"sparsifier: {type(made).__name__} acts while the model runs; train it with compile=False"
    if problem:
        made.release()
        raise ValueError(problem)
    return made
