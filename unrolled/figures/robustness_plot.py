"""PSNR against perturbations of the measurements."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from unrolled.system.files import replacing


def robustness_curves(path: str | Path, result: dict[str, Any], titles: dict[str, str], network: str) -> None:
    """Draw the tests of `unrolled.reconstruction.perturbations.robustness`, each in a panel of its own.

    Parameters
    ----------
    path : str or Path
        of the picture.
    result : dict
        of tests, each with "values", "network" and methods.
    titles : dict
        what is changed in each test.
    network : str
        its name.
    """
    figure = Figure(figsize=(4 * len(result), 3.6), layout="constrained")
    for axes, (test, rows) in zip(figure.subplots(1, len(result), squeeze=False)[0], result.items(), strict=True):
        values = rows["values"]
        named = any(isinstance(value, str) for value in values)
        places = list(range(len(values))) if named else values
        for name, figures in rows.items():
            if name != "values":
                axes.plot(places, figures, "o" if named else "o-", label=network if name == "network" else name)
        if named:
            axes.set_xticks(places, values, rotation=20)
            axes.margins(x=0.2)
        axes.set_xlabel(titles[test])
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("PSNR (dB)")
    figure.axes[0].legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
