"""What is said of a program: its inputs and outputs, and whose network it is."""

import json
import reprlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.system.recipes import describe, writable
from unrolled.weights.tensors import hash_of, tensors_of

FORMAT = 1


@dataclass(frozen=True)
class Port:
    """An input or output of a program.

    Parameters
    ----------
    name : str
    shape : tuple of int or str
        a name where any number will do.
    dtype : str
    meaning : str
        what it is, and in which units.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.name:<6} {self.dtype} ({', '.join(map(str, self.shape))}): {self.meaning}"


@dataclass(frozen=True)
class Exported:
    """A program that was exported and checked.

    Attributes
    ----------
    path : Path or None
        its file.
    inputs, outputs : list of Port
    mebibytes : float
        of the numbers in it: weights, and what the operator measures with.
    difference : float
        the largest between its pictures and those of the network, where the largest magnitude of these is 1.
    facts : dict
        what its file says of it.
    program : torch.export.ExportedProgram
        what was traced.
    """

    path: Path | None
    inputs: list[Port]
    outputs: list[Port]
    mebibytes: float
    difference: float
    facts: dict[str, Any]
    program: Any = field(repr=False)

    def __str__(self) -> str:
        lines = [f"input  {port}" for port in self.inputs] + [f"output {port}" for port in self.outputs]
        lines.append(f"holds {self.mebibytes:.1f} MiB of numbers")
        lines.append(f"gives the picture of the network up to {self.difference:.1e} of its largest magnitude")
        return "\n".join(lines)


def facts_of(
    network: UnrolledNetwork,
    operator: LinearOperator,
    inputs: list[Port],
    outputs: list[Port],
    card: dict[str, Any] | None,
) -> dict[str, Any]:
    """What a file says of its program, as plain values: the card of the weights, recipes, hash, inputs and outputs.

    Raises
    ------
    ValueError
        if the card is not of plain values.
    """
    for name, fact in (card or {}).items():
        try:
            json.dumps(fact)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"card: {name} must be of plain values, got {reprlib.repr(fact)}: {error}") from error
    return {
        **(card or {}),
        "network": writable(describe(network)),
        "operator": writable(describe(operator)),
        "parameters": network.parameter_count,
        "sha256": hash_of(tensors_of(network=network, operator=operator)),
        "program_format": FORMAT,
        "inputs": [asdict(port) for port in inputs],
        "outputs": [asdict(port) for port in outputs],
        "torch": torch.__version__,
    }


def ports(
    operator: LinearOperator, y: Tensor, x: Tensor, moving: dict[int, str], pairs: bool, takes_noise: bool
) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs of a program, of examples as it takes and returns them.

    Parameters
    ----------
    operator : LinearOperator
    y, x : Tensor
        measurements and picture.
    moving : dict
        axes of y that may have any length, and their names.
    pairs : bool
        see `Program`.
    takes_noise : bool
        whether the noise level is an input.
    """
    name = type(operator).__name__
    axes = {0: moving[0]} if 0 in moving else {}
    images = axes | ({2: "height", 3: "width"} if len(moving.keys() - {0}) else {})

    def port(what: str, tensor: Tensor, names: dict[int, str], complex_numbers: bool, meaning: str) -> Port:
        shape = tuple(names.get(axis, size) for axis, size in enumerate(tensor.shape))
        last = ", last axis real and imaginary part" if pairs and complex_numbers else ""
        return Port(what, shape, str(tensor.dtype).removeprefix("torch."), meaning + last)

    measured = f"measurements by {name}, in its units, of images of which white, or the largest magnitude, is about 1"
    inputs = [port("y", y, moving, operator.complex_measurements, measured)]
    if takes_noise:
        meaning = "standard deviation of the noise in y, in the units of y"
        inputs.append(Port("noise", (axes.get(0, len(y)),), str(x.dtype.to_real()).removeprefix("torch."), meaning))
    return inputs, [port("x", x, images, operator.complex_images, "the image, in units of which white is 1")]
