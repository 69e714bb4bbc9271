"""The page of all penalties, written from their code."""

import dataclasses
import inspect
import math
import os
import re
from pathlib import Path
from typing import Any

from unrolled.penalties import Penalty
from unrolled.penalties.names import drawable_penalties, penalty_classes
from unrolled.system.files import replacing

OVERVIEW = "overview"
HEAD = """# Penalties

Written from the code by `unrolled penalties --all --page FILE`. Why a penalty is a dropout rule, and what the words
mean, is told in [The coin](coin.md).

z = |w| ≥ 0 is the magnitude of a weight or a coefficient, real or complex; s > 0 is the step of the proximal map, λ > 0
the strength.

- **value**: ρ(z).
- **threshold**: the largest |v| that prox(v, s) = argmin_z ½|z − v|² + s·ρ(z), the global minimiser, sends to 0.
- **η**: η̂(z) = z/ρ'(z), where the variational form ρ(z) = ½ min_η [z²/η + f(η)] has its minimum.
- **dropout rule**: the probability α = η̂/(η̂ + λ) of keeping w in the adaptive dropout that regularises by λ·ρ.
- **dual**: f(η) = sup_z [2ρ(z) − z²/η]; "numeric" where it is computed without a formula.

Those with a picture act on single numbers, the last ones on groups, or with weights. Pictures show α over |w|, ρ over w
and prox over v, for λ = s = 1 and the default parameters. A dotted line is a jump.
"""


def write_page(path: str | Path, figures: str | Path) -> None:
    """Write the page, with links to the folder of pictures.

    Raises
    ------
    ValueError
        if the file cannot be written.
    """
    link = os.path.relpath(figures, Path(path).parent)
    with replacing(path) as temporary:
        temporary.write_text(penalty_page(link.replace(os.sep, "/")), encoding="utf-8")


def penalty_page(figures: str) -> str:
    """The page as Markdown.

    Parameters
    ----------
    figures : str
        the folder of pictures, as the page links it.
    """
    drawable, classes = drawable_penalties(), penalty_classes()
    order = [*drawable, *(name for name in classes if name not in drawable)]
    contents = " · ".join(f"[{name}](#{name.lower()})" for name in order)
    parts = [HEAD, f"{contents}\n", f"![All penalties]({figures}/{OVERVIEW}.png)\n"]
    for name in order:
        picture = f"![{name}]({figures}/{name}.png)\n" if name in drawable else ""
        parts += [
            f"## {name}\n",
            _summary(classes[name]),
            picture,
            _formulas(classes[name]) + _parameters(classes[name]),
        ]
    return "\n".join(part for part in parts if part)


def _summary(cls: type[Penalty]) -> str:
    """The docstring up to its first section."""
    return re.split(r"\n\w+\n-+\n", inspect.getdoc(cls) or "")[0].strip() + "\n"


def _formulas(cls: type[Penalty]) -> str:
    formulas = cls.formulas
    rows = {
        "value": f"`{formulas.value}`",
        "threshold": f"`{formulas.threshold}`",
        "η": f"`{formulas.eta}`",
        "dropout rule": f"`α = {_rule(formulas.eta)}`",
        "dual": f"`{formulas.dual}`",
        "source": formulas.source,
    }
    if not cls.exact_zeros:
        rows["zeros"] = "none: small values shrink, but not to 0"
    if not cls.prox_has_step_gradient:
        rows["step"] = "cannot be learned: the proximal map does not change with it, but jumps"
    return "".join(f"- **{name}**: {text}\n" for name, text in rows.items())


def _rule(eta: str) -> str:
    """η/(η + λ) with η put into it; one with cases stays apart."""
    if re.search(r"[,;]| then | for | if | of |solves|numeric", eta):
        return f"η/(η + λ), η = {eta}"
    outside = eta
    while "(" in outside:
        outside = re.sub(r"\([^()]*\)", "", outside)
    return f"{f'({eta})' if re.search(r'[+−/]', outside) else eta} / ({eta} + λ)"


def _parameters(cls: type[Penalty]) -> str:
    lines = []
    for field in dataclasses.fields(cls):
        kind, meaning = _documented(cls, field.name)
        facts = [_range(field.metadata) if "above" in field.metadata else kind]
        if field.default is not dataclasses.MISSING:
            facts.append(f"{_number(field.default)} by default")
        lines.append(f"- parameter `{field.name}` ({', '.join(facts)})" + (f": {meaning}" if meaning else "") + "\n")
    return "".join(lines)


def _documented(cls: type[Penalty], name: str) -> tuple[str, str]:
    """What the docstring says of a parameter: its type, and its meaning on one line."""
    pattern = rf"^[\w, ]*\b{name}\b[\w, ]* : (.*)\n?((?:    .*\n?)*)"
    found = re.search(pattern, inspect.getdoc(cls) or "", re.MULTILINE)
    return (found.group(1), " ".join(found.group(2).split())) if found else ("", "")


def _range(metadata: Any) -> str:
    below = metadata["below"]
    return f"> {metadata['above']:g}" + ("" if math.isinf(below) else f" and < {below:g}")


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)
