"""unrolled runs [FOLDER]"""

import math

from unrolled.cli import command_line
from unrolled.training.runs.overview import RunState, age, runs_below


def run(argv: list[str]) -> int:
    """Show runs."""
    return command_line.run("runs", show_runs, argv)


def show_runs(folder: str = "runs", /) -> None:
    """List the trainings below a folder: how far each is, its best figure, and the command that goes on with it.

    Parameters
    ----------
    folder : str
        where to look, by default runs.
    """
    states = runs_below(folder)
    if not states:
        print(f"no run has validated anything below {folder} yet")
        return
    width = max(len(str(state.folder)) for state in states)
    for state in states:
        print(f"{state.folder!s:<{width}}  {_progress(state)}  {_best(state):<28}  {_what(state)}")


def _progress(state: RunState) -> str:
    return f"{state.step:>7,} of {state.steps:>7,} steps"


def _best(state: RunState) -> str:
    if math.isnan(state.best):
        return "no figure yet"
    unit = " dB" if state.score in ("psnr", "held_out", "predicted") else ""
    return f"best {state.score} {state.best:.4g}{unit}"


def _what(state: RunState) -> str:
    if state.ended:
        return f"ended {age(state.written)}"
    if state.running:
        return f"running, about {state.left / 60:.0f} min left"
    config = state.folder / "config.yaml"
    how = f"unrolled train --config {config} --resume" if config.exists() else "resume it by the program that began it"
    return f"stopped {age(state.written)}: {how}"
