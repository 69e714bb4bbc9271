"""Weights of other programs as networks of this one, by the name of their kind."""

import inspect
import re
import reprlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.system.recipes import describe, writable
from unrolled.weights.converting.deepinv_weights import (
    deepinv_dncnn,
    deepinv_drunet,
    deepinv_unet,
    deepinv_unfolded,
)
from unrolled.weights.converting.fastmri_weights import fastmri_unet, fastmri_varnet
from unrolled.weights.converting.foreign_files import ForeignWeights, read_foreign
from unrolled.weights.converting.ista_net_weights import ista_net_plus
from unrolled.weights.converting.key_mapping import listed


@dataclass(frozen=True)
class Kind:
    """A kind of checkpoint.

    Attributes
    ----------
    of : str
        whose network it is, in words.
    marks : tuple of str
        patterns of names by which a file of this kind is known: each is that of some name.
    read : callable
        (weights, **options) ↦ network, operator.
    """

    of: str
    marks: tuple[str, ...]
    read: Callable[..., tuple[UnrolledNetwork, LinearOperator]]

    @property
    def options(self) -> list[str]:
        """What may be said besides the file."""
        return list(inspect.signature(self.read).parameters)[1:]

    def fits(self, weights: ForeignWeights) -> bool:
        """Whether a file has the names of this kind."""
        return self.lacking(weights) is None

    def lacking(self, weights: ForeignWeights) -> str | None:
        """A name of this kind that a file has not, or None."""
        for mark in self.marks:
            if not any(re.fullmatch(mark, key) for key in weights.tensors):
                return mark.rpartition("?")[2].replace("\\", "")
        return None


KINDS = {
    "ista-net-plus": Kind(
        "ISTA-Net+ (ISTA-Net-PyTorch)",
        (r"fcs\.0\.conv_D", r"fcs\.0\.soft_thr", r"fcs\.0\.conv_G"),
        ista_net_plus,
    ),
    "fastmri-unet": Kind(
        "the U-Net of fastMRI",
        (r"(unet\.)?down_sample_layers\.0\.layers\.0\.weight", r"(unet\.)?up_transpose_conv\.0\.layers\.0\.weight"),
        fastmri_unet,
    ),
    "fastmri-varnet": Kind(
        "the end-to-end VarNet of fastMRI",
        (r"(varnet\.)?cascades\.0\.dc_weight", r"(varnet\.)?sens_net\.norm_unet\.unet\.conv\.layers\.0\.weight"),
        fastmri_varnet,
    ),
    "deepinv-dncnn": Kind("DnCNN of deepinv", (r"in_conv\.weight", r"out_conv\.weight"), deepinv_dncnn),
    "deepinv-drunet": Kind("DRUNet of deepinv", (r"m_head\.weight", r"m_tail\.weight"), deepinv_drunet),
    "deepinv-unet": Kind("U-Net of deepinv", (r"Conv1\.0\.weight", r"Conv_1x1\.weight"), deepinv_unet),
    "deepinv-unfolded": Kind(
        "an algorithm that deepinv unfolds with denoisers", (r"prior\.0\.denoiser\..*",), deepinv_unfolded
    ),
}
"""By the names that --as takes."""


@dataclass(frozen=True)
class Converted:
    """What became of a file.

    Attributes
    ----------
    network, operator
        in evaluation mode; `unrolled.save` writes them.
    card : dict
        whose weights they are, and how they were converted, for `unrolled.save`.
    """

    network: UnrolledNetwork
    operator: LinearOperator
    card: dict[str, Any]


def convert(
    file: str | Path,
    kind: str,
    *,
    licence: str,
    author: str | None = None,
    source: str | None = None,
    **options: Any,
) -> Converted:
    """Take the weights of a network of another program, with the same outputs.

    The file is read key by key; nothing in it is executed.

    Parameters
    ----------
    file : str or Path
        a state dictionary as `torch.save` writes it (.pkl, .pt, .pth, .ckpt), or safetensors.
    kind : str
        what it is of: one of `KINDS`.
    licence : str
        under which their author gives them away, such as "MIT"; "unknown" if you do not know it.
    author, source : str, optional
        whose they are, and where they come from; for the card.
    **options
        what the kind needs besides, see docs/convert.md.

    Returns
    -------
    Converted

    Raises
    ------
    ValueError
        if the file cannot be read, is not of this kind, has a name too many or too few or another shape, or options
        are missing, unknown or do not fit.

    Examples
    --------
    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "other.pkl"
    >>> torch.save({"module.weight": torch.zeros(3)}, file)
    >>> convert(file, "deepinv-dncnn", licence="MIT")
    Traceback (most recent call last):
        ...
    ValueError: weights: other.pkl is not DnCNN of deepinv: it has no in_conv.weight; it has weight
    """
    if kind not in KINDS:
        raise ValueError(f"as: must be one of {', '.join(KINDS)}, got {reprlib.repr(kind)}")
    if not isinstance(licence, str) or not licence.strip():
        raise ValueError(f"licence: must say under which one the weights are given away, got {licence!r}")
    chosen = KINDS[kind]
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in chosen.options:
            takes = ", ".join(chosen.options) or "none"
            raise ValueError(f"{name}: is no option of {kind}; it takes {takes}")
    weights = read_foreign(file)
    if not chosen.fits(weights):
        raise ValueError(f"weights: {weights.name} is not {chosen.of}: {_why(weights, chosen)}")
    network, operator = chosen.read(weights, **given)
    network.normalizes = False  # they were trained with operators as they are
    facts = {"kind": kind, "file": weights.name, "sha256": weights.sha256, "options": _told(given)}
    card = {
        "licence": licence.strip(),
        **({"author": author} if author is not None else {}),
        **({"source": source} if source is not None else {}),
        "converted": {**facts, "command": _command(facts), "version": version("unrolled")},
    }
    return Converted(network.eval(), operator.eval(), card)


def _why(weights: ForeignWeights, chosen: Kind) -> str:
    others = [name for name, kind in KINDS.items() if kind.fits(weights)]
    hint = f"its names are those of --as {others[0]}" if others else f"it has {listed(sorted(weights.tensors))}"
    return f"it has no {chosen.lacking(weights)}; {hint}"


def _told(options: dict[str, Any]) -> dict[str, Any]:
    """Options as a card holds them: of files their names, of operators their recipes."""
    told: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, LinearOperator):
            told[name] = writable(describe(value))
        elif isinstance(value, (str, Path)):
            told[name] = Path(value).name
        elif isinstance(value, (bool, int, float)):
            told[name] = value
        else:
            told[name] = list(value) if isinstance(value, tuple) else type(value).__name__
    return told


def _command(facts: dict[str, Any]) -> str:
    words = ["unrolled", "convert", facts["file"], "--as", facts["kind"]]
    for name, value in facts["options"].items():
        shown = value["class_path"] if isinstance(value, dict) else str(value).replace(" ", "")
        words += [f"--{name.replace('_', '-')}", shown]
    return shlex.join(words)
