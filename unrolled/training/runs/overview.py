"""How far runs are, from what they have written into their folders."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

from unrolled.training.runs.lock import is_held
from unrolled.training.runs.run_folder import METRICS

SCORES = ("psnr", "held_out", "predicted", "accuracy", "negative_loss")
"""The figures by which the best weights of a run are chosen; the first that is there."""


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Parameters
    ----------
    folder : Path
    step, steps : int
        of the last validation, and all.
    score : str
        the figure by which weights are chosen, empty if there is none.
    best : float
        its highest value, NaN if there is none.
    seconds : float
        that the steps have taken so far.
    running : bool
        whether a process holds the folder.
    written : float
        when its metrics were written last, in seconds since 1970.
    """

    folder: Path
    step: int
    steps: int
    score: str
    best: float
    seconds: float
    running: bool
    written: float

    @property
    def ended(self) -> bool:
        """Whether the last step was done."""
        return self.step >= self.steps > 0

    @property
    def left(self) -> float:
        """Seconds that the other steps take, if they are as fast; NaN before the first validation."""
        return self.seconds / self.step * (self.steps - self.step) if self.step else math.nan


def runs_below(folder: str | Path) -> list[RunState]:
    """All runs in a folder and the folders in it, those that were written last first.

    Raises
    ------
    ValueError
        if there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"folder: {folder} is no folder")
    found = [state_of(path.parent) for path in folder.rglob(METRICS)]
    return sorted(found, key=lambda state: -state.written)


def state_of(folder: Path) -> RunState:
    """How far the run in a folder is; lines of its metrics that are damaged do not count."""
    metrics, lines = folder / METRICS, list[dict[str, float]]()
    for line in metrics.read_bytes().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            lines.append(entry)
    last = lines[-1] if lines else {}
    score = next((name for name in SCORES if name in last), "")
    values = [line[score] for line in lines if isinstance(line.get(score), (int, float))] if score else []
    return RunState(
        folder,
        int(last.get("step", 0)),
        int(last.get("steps") or 0),
        score,
        max(values, default=math.nan),
        float(last.get("seconds", 0.0)),
        is_held(folder),
        metrics.stat().st_mtime,
    )


def age(written: float, now: float | None = None) -> str:
    """How long ago something was, in words."""
    minutes = max(0.0, (time.time() if now is None else now) - written) / 60
    for count, unit in ((minutes / 1440, "days"), (minutes / 60, "hours")):
        if count >= 2:
            return f"{count:.0f} {unit} ago"
    return f"{minutes:.0f} min ago"
