"""The sparsifier of a run: how it is made, and what is reported of it."""

import json
from collections.abc import Callable
from typing import Any

from torch import nn

from unrolled.sparsify import Sparsifier, sparsity_report
from unrolled.training.tasks.task import Task

MakeSparsifier = Callable[[nn.Module], Sparsifier]
UNKNOWN_LENGTH = 2**40
"""Steps of a run whose number of steps is not known yet: so many that no schedule gets anywhere."""


def make_sparsifier(make: MakeSparsifier, task: Task, compiled: bool) -> Sparsifier:
    """The sparsifier of a task's model.

    Raises
    ------
    ValueError
        if it cannot be made, acts on something that is not trained, or acts inside of the model where that is compiled.
    """
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


def report(
    sparsifier: Sparsifier, task: Task, step: int, figures: dict[str, float], after: dict[str, float]
) -> dict[str, Any]:
    """What `sparsity.json` says at the end of a run.

    Parameters
    ----------
    sparsifier : Sparsifier
        finalized.
    task : Task
    step : int
    figures, after : dict
        of the last validation before it was finalized, and of one after.
    """
    return {
        "step": step,
        "sparsifier": json.loads(sparsifier.recipe()),
        "before": {name: value for name, value in figures.items() if name in after},
        "after": after,
        **sparsifier.figures(),
        "strength": sparsifier.base_strength,
        "report": sparsity_report(task.sparsified, task.example()).as_dict(),
    }
