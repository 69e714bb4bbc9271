"""One run from a task to its folder: what training of every kind shares."""

import warnings
from pathlib import Path
from typing import Any

from unrolled.system.files import write_json
from unrolled.training import distributed
from unrolled.training.loop import Loop
from unrolled.training.options import TrainingOptions
from unrolled.training.runs.lock import locked
from unrolled.training.runs.run_folder import may_go_on
from unrolled.training.runs.surroundings import environment
from unrolled.training.sparse import MakeSparsifier
from unrolled.training.tasks.task import Task


def train(
    task: Task,
    training: TrainingOptions,
    *,
    folder: str | Path,
    seed: int = 0,
    resume: bool = False,
    progress: bool = True,
    card: dict[str, Any] | None = None,
    sparsifier: MakeSparsifier | None = None,
) -> dict[str, float]:
    """Train a task's model, and leave it with the weights of the end, in evaluation mode.

    Parameters
    ----------
    task : Task
        its model on the device that trains it.
    training : TrainingOptions
    folder : str or Path
        of the run: metrics, checkpoints, weights, curve, environment. One that already holds a run is refused unless
        that is resumed.
    seed : int
        of torch's random numbers in every step.
    resume : bool
        go on from the folder's last checkpoint; if it holds none yet, start, with a warning.
    progress : bool
    card : dict, optional
        facts to save with the weights.
    sparsifier : callable module → Sparsifier, optional
        makes the strategy that acts on the task's model, see `Loop`.

    Returns
    -------
    dict
        figures of the last validation

    Raises
    ------
    ValueError, KeyboardInterrupt
        as `Loop.run`.

    Notes
    -----
    Started by torchrun, several processes train together; each makes its task inside of `distributed.joined`.
    """
    folder = Path(folder)
    with distributed.joined(next(task.model.parameters()).device), locked(folder):
        goes_on = may_go_on(folder, resume)
        machine = environment()
        loop = Loop(task, training, folder, {"environment": machine, **(card or {})}, progress, seed, sparsifier)
        distributed.on_first(lambda: write_json(folder / "environment.json", machine))
        figures = loop.run(goes_on)
        task.model.load_state_dict(loop.sparse.model.state_dict())
        task.model.eval()
        distributed.on_first(lambda: _draw_curve(folder, task.score))
    return figures


def _draw_curve(folder: Path, score: str) -> None:
    """Draw `curve.png` from `metrics.jsonl`; without matplotlib only a warning."""
    try:
        from unrolled.figures.training_curves import training_curve
    except ImportError:
        warnings.warn("curve.png needs matplotlib: pip install 'unrolled[plots]'", stacklevel=2)
        return
    training_curve(folder, score)
