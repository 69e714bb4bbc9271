"""The folder of a run: its checkpoints, the weights to use, and a line of metrics for every validation."""

import json
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from unrolled.system.files import (
    append_line,
    check_regular,
    check_writable,
    finite,
    remove_temporary,
    replacing,
    write_json,
)
from unrolled.training import distributed
from unrolled.training.runs.checkpoint import LAST, PREVIOUS, Checkpoints, to_resume
from unrolled.training.runs.lock import FolderLost
from unrolled.training.tasks.task import Task

BEST = "best.safetensors"
SPARSE = "sparse.safetensors"
METRICS = "metrics.jsonl"
CURVE = "curve.png"
RESULTS = (LAST, PREVIOUS, METRICS, BEST, SPARSE, "sparsity.json", "result.json", CURVE)
"""What a run writes from its first checkpoint on."""

MARKS = {"config.yaml": "# Written by unrolled", "environment.json": '"unrolled":'}
"""What it writes before its first checkpoint, and the text in each by which it is known."""


class TrainingError(ValueError):
    """Training cannot go on; what was reached is kept."""


def may_go_on(folder: Path, resume: bool) -> bool:
    """Whether a run in a folder goes on from a checkpoint; a folder that is not for this run is refused."""

    def decide() -> bool:
        goes_on = to_resume(folder, resume)
        check_folder(folder, goes_on)
        return goes_on

    return distributed.on_first(decide)


def check_folder(folder: Path, goes_on: bool) -> None:
    """Raise ValueError if a folder is not one for a run: nothing that another made is written over.

    Parameters
    ----------
    folder : Path
    goes_on : bool
        whether the run in the folder goes on; one that begins finds there no more than what is left of a run that
        ended before its first checkpoint.
    """
    _check_files(folder, (*RESULTS, *MARKS))
    if goes_on:
        return
    if Checkpoints(folder).exist():
        raise ValueError(f"folder: {folder} already holds a run; resume it or choose another folder")
    for name in (*RESULTS, *MARKS):
        path = folder / name
        if path.exists() and not (name in MARKS and MARKS[name].encode() in path.read_bytes()):
            raise ValueError(
                f"folder: {folder} holds {name}, which a run that begins there would replace; move it away, or choose "
                "another folder"
            )


def _check_files(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        try:
            check_regular(folder / name)
        except OSError as error:
            raise ValueError(f"folder: {folder / name} cannot be used: {error}") from error


def remove_run(folder: Path, made_by: str, names: Sequence[str]) -> None:
    """Remove files of a run, and its checkpoints, if these say that a certain command made it.

    Raises
    ------
    ValueError
        if the checkpoint is of something else or cannot be read, or if there is none but files of these names; nothing
        is removed then.
    """
    checkpoints = Checkpoints(folder)
    _check_files(folder, (*RESULTS, *names))
    if checkpoints.exist() and checkpoints.load().get("made_by") != made_by:
        raise ValueError(f"folder: {folder} holds a run that {made_by} did not make; choose another folder")
    found = [name for name in names if (folder / name).exists()]
    if found and not checkpoints.exist():
        raise ValueError(f"folder: {folder} holds {found[0]}, and no {made_by} that made it; choose another folder")
    for name in (*found, PREVIOUS, LAST):  # last of all that by which they are known
        (folder / name).unlink(missing_ok=True)


class RunFolder:
    """The files of one run.

    Parameters
    ----------
    path : Path
    task : Task
        which writes the weights.
    card : dict
        facts that are saved with the weights; "made_by", the command that trains, is saved with the checkpoints too.
    """

    def __init__(self, path: Path, task: Task, card: dict[str, Any]):
        self.path, self.task, self.card = path, task, card
        self.made_by = str(card.get("made_by", ""))
        self.checkpoints = Checkpoints(path)
        self.saved_step, self.saved_at = 0, -math.inf

    def check(self, checkpoint: int) -> None:
        """Raise ValueError for all that would otherwise be noticed only when the first results are to be written.

        Parameters
        ----------
        checkpoint : int
            bytes of one checkpoint.
        """
        check_writable(self.path / LAST)
        remove_temporary(self.path)
        needed = 3 * checkpoint - self.checkpoints.size()  # two that stay, and one that is being written
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise ValueError(
                f"folder: {self.path} has {free / 1e6:.1f} MB free, and the checkpoints need {needed / 1e6:.1f} MB"
            )

    def write(self, step: int, action: Callable[[], None]) -> None:
        """Let the first process write files; if it cannot, a TrainingError stops all of them."""

        def attempt() -> None:
            try:
                action()
            except FolderLost as error:
                raise TrainingError(f"training: stopped at step {step}: {error}") from error
            except Exception as error:  # every way of writing files has errors of its own
                raise TrainingError(
                    f"training: stopped at step {step}, for results could not be written: {error}; "
                    f"{self.path} keeps the checkpoint of step {self.saved_step}"
                ) from error

        distributed.on_first(attempt)

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint."""
        self.write(state["step"], lambda: self.checkpoints.save(state))
        self._note_saved(state["step"])

    def load(self) -> dict[str, Any]:
        """The last checkpoint that is whole.

        Raises
        ------
        ValueError
            if none can be read.
        """
        state = distributed.on_first(self.checkpoints.load)
        self._note_saved(state["step"])
        return state

    def _note_saved(self, step: int) -> None:
        self.saved_step, self.saved_at = step, time.monotonic()

    @property
    def checkpoint_minutes(self) -> float:
        """The age of the last checkpoint."""
        return (time.monotonic() - self.saved_at) / 60

    def save_weights(self, name: str, model: nn.Module, step: int, figures: dict[str, float]) -> None:
        """Write the weights of a model, with the figures of its validation."""
        self.task.save(model, self.path / name, {**self.card, "step": step, "validation": finite(figures)})

    def save_facts(self, name: str, facts: dict[str, Any]) -> None:
        """Write a JSON file."""
        write_json(self.path / name, facts)

    def add_metrics(self, line: dict[str, Any]) -> None:
        """Append a line of metrics, and wait until it is on the disk."""
        append_line(self.path / METRICS, json.dumps(finite(line), allow_nan=False))

    def drop_metrics_after(self, step: int) -> None:
        """Remove lines of metrics that are later than a step, or damaged; of the latter a warning tells."""
        metrics = self.path / METRICS
        if not metrics.is_file():
            return
        lines = metrics.read_bytes().splitlines()
        steps = [_step_of(line) for line in lines]
        damaged = [number for number, found in enumerate(steps[:-1], 1) if found == math.inf]
        if damaged:  # of the last line a kill may have left a part
            warnings.warn(f"resume: {metrics}: damaged lines are left out: {damaged}", stacklevel=2)
        kept = [line + b"\n" for line, found in zip(lines, steps, strict=True) if found <= step]
        with replacing(metrics) as temporary:
            temporary.write_bytes(b"".join(kept))


def _step_of(line: bytes) -> float:
    """The step of a line of metrics; infinity for a line that is damaged or was cut short by a kill."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf
    return step if isinstance(step, int) else math.inf
