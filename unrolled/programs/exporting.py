"""A network with its operator written as one program, which is checked before its file is there."""

import copy
import json
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.operators.intake import numbers_of, taken
from unrolled.operators.linear_map import check_images
from unrolled.programs.facts import Exported, facts_of, ports
from unrolled.programs.onnx_files import check_installed, onnx_runner, write_onnx
from unrolled.programs.program import Program
from unrolled.system.files import as_path, check_writable, replacing
from unrolled.system.scalars import whole_numbers
from unrolled.weights.networks import check_parts

if TYPE_CHECKING:
    from torch.export import ExportedProgram

ENDINGS = (".pt2", ".onnx")

CARD = "unrolled.json"
"""The name under which the facts lie in a `.pt2` file."""

Run = Callable[[list[Tensor]], Tensor]


def export(
    network: UnrolledNetwork,
    operator: LinearOperator,
    path: str | Path | None = None,
    *,
    size: tuple[int, int] | None = None,
    channels: int = 1,
    example: Any = None,
    any_size: bool = False,
    tolerance: float = 1e-4,
    card: dict[str, Any] | None = None,
) -> Exported:
    """Write a network with its operator as one program of the measurements y, and of the noise level where it is told.

    Batches may have any size, unless the operator measures one of its own. What is written is loaded and compared with
    the network, on other images than it was traced with, before the file gets its name.

    Parameters
    ----------
    network, operator
        of any device; the program is traced on the CPU.
    path : str or Path, optional
        `.pt2`, for `torch.export.load` and its C++ counterpart, or `.onnx`, which needs the extra `onnx`; by default
        nothing is written.
    size : (height, width), optional
        of the images, in pixels; not needed where the operator knows it.
    channels : int
        of the images, likewise.
    example : Tensor or array, optional
        measurements, instead of size and channels.
    any_size : bool
        whether the program takes measurements of images of other sizes too; for operators that measure them.
    tolerance : float
        the most by which a picture of the program may differ from that of the network, where the largest magnitude of
        that is 1.
    card : dict, optional
        facts to be written into the file, of plain values, such as the card of the weights.

    Returns
    -------
    Exported
        names, shapes and units of inputs and outputs, and how close its pictures are; in words by `print`.

    Raises
    ------
    ValueError
        for an unknown ending, a missing extra, a size that the operator does not measure, a network that cannot be
        traced, arithmetic that ONNX does not have, or a program whose pictures are others.
    """
    check_parts(network, operator)
    if network is None or operator is None:
        raise ValueError("export: needs a network and an operator, got None")
    if path is not None:
        path = as_path("path", path)
        if path.suffix not in ENDINGS:
            raise ValueError(f"path: must end in {' or '.join(ENDINGS)}, got {str(path)!r}")
        if path.suffix == ".onnx":
            check_installed()
        check_writable(path)
    facts_of(network, operator, [], [], card)  # what cannot be said is refused before the work
    pairs = path is not None and path.suffix == ".onnx"
    shape = _image_shape(operator, size, channels, example)
    network, operator = copy.deepcopy(network).eval().cpu(), copy.deepcopy(operator).eval().cpu()
    program = Program(network, operator, pairs).eval()
    moving = _moving(operator, shape, any_size)
    with torch.no_grad():
        y = _measured(operator, shape, operator.batch or 2)
        # The first call also makes what is computed once, such as the norm and the estimate.
        x = program(*_arguments(program, y))
        inputs, outputs = ports(operator, program.given(y), x, moving, pairs, network.takes_noise)
        traced = _traced(program, _arguments(program, y), moving)
        facts = facts_of(network, operator, inputs, outputs, card)
        compared = partial(_difference, program, network, operator, shape, moving, tolerance)
        if path is None:
            difference = compared(lambda arguments: traced.module()(*arguments))
        else:
            with replacing(path) as temporary:
                if pairs:
                    write_onnx(temporary, traced, moving, facts)
                    run = onnx_runner(temporary)
                else:
                    run = _write_and_load(temporary, traced, facts)
                difference = compared(run)
    return Exported(path, inputs, outputs, _mebibytes(traced), difference, facts, traced)


def _image_shape(
    operator: LinearOperator, size: tuple[int, int] | None, channels: int, example: Any
) -> tuple[int, int, int]:
    """(channel, height, width) of the images of which measurements are to be taken."""
    if example is not None:
        if size is not None:
            raise ValueError("export: give size or example, not both")
        y = taken(operator, "measurements", example)
        with torch.no_grad():
            found = operator.adjoint(y).shape
        return found[1], found[2], found[3]
    own = operator.image_shape
    if size is None and own is None:
        raise ValueError(
            f"export: {type(operator).__name__} measures images of any size: give size, (height, width), or an example "
            "of measurements"
        )
    sides = own[1:] if size is None and own is not None else whole_numbers(size, 2)
    count = whole_numbers([own[0] if own is not None and own[0] else channels], 1)
    if sides is None or count is None:
        raise ValueError(
            f"export: size must be (height, width) and channels a number, all >= 1, got {size!r} and {channels!r}"
        )
    return check_images(operator, (count[0], *sides))


def _moving(operator: LinearOperator, shape: tuple[int, int, int], any_size: bool) -> dict[int, str]:
    """The axes of measurements that may have any length, and their names."""
    moving = {} if operator.batch is not None else {0: "batch"}
    if not any_size:
        return moving
    if operator.image_shape is not None:
        raise ValueError(
            f"export: any_size must be False for {type(operator).__name__}, which measures images of "
            f"{' × '.join(map(str, operator.image_shape[1:]))} pixels alone"
        )
    own = operator.measurement_shape(shape)
    for axis, name in ((1, "rows"), (2, "columns")):
        other = operator.measurement_shape(_larger(operator, shape, axis))
        moving |= {number + 1: name for number, (a, b) in enumerate(zip(own, other, strict=True)) if a != b}
    return moving


def _larger(operator: LinearOperator, shape: tuple[int, int, int], *axes: int) -> tuple[int, int, int]:
    channel, height, width = (side + 3 * operator.multiple * (axis in axes) for axis, side in enumerate(shape))
    return channel, height, width


def _measured(operator: LinearOperator, shape: tuple[int, int, int], batch: int, seed: int = 0) -> Tensor:
    """Measurements of random images."""
    kind, _ = numbers_of(operator)
    kind = kind.to_complex() if operator.complex_images else kind
    x = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(seed)).to(kind)
    y: Tensor = operator(x if not x.is_complex() else x * torch.tensor(0.6 + 0.8j, dtype=kind))
    return y.contiguous()  # the tracer takes other strides for variable ones, which it cannot write


def _arguments(program: Program, y: Tensor) -> list[Tensor]:
    """Measurements and, if it takes it, the noise level, as a program takes them."""
    network = program.network
    if not network.takes_noise:
        return [program.given(y)]
    low, high = network.noise_range or (0.01, 0.05)
    return [program.given(y), torch.linspace(low, high, len(y) + 2, dtype=y.real.dtype)[1:-1].contiguous()]


def _traced(program: Program, arguments: list[Tensor], moving: dict[int, str]) -> "ExportedProgram":
    what = f"{type(program.network).__name__} with {type(program.operator).__name__}"
    axes = dict.fromkeys(moving, torch.export.Dim.DYNAMIC)
    shapes = [axes, {0: axes[0]} if 0 in axes else None][: len(arguments)]
    try:
        with _quietly():
            return torch.export.export(program, tuple(arguments), dynamic_shapes=shapes, strict=True)
    except Exception as error:  # whatever stands in the way
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"export: {what} cannot be traced into one program: {reason:.300}") from error


def _write_and_load(path: Path, traced: "ExportedProgram", facts: dict[str, Any]) -> Run:
    # In the graphs of loops the stack of modules holds classes, where the file takes their names.
    for part in traced.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule) and part is not traced.graph_module:
            for node in part.graph.nodes:
                node.meta.pop("nn_module_stack", None)
    with _quietly():
        torch.export.save(traced, path, extra_files={CARD: json.dumps(facts)})
        loaded = torch.export.load(path).module()
    return lambda arguments: loaded(*arguments)


def _difference(
    program: Program,
    network: UnrolledNetwork,
    operator: LinearOperator,
    shape: tuple[int, int, int],
    moving: dict[int, str],
    tolerance: float,
    run: Run,
) -> float:
    """The largest between pictures of a written program and those of the network, for other images."""
    worst = 0.0
    cases = [(shape, operator.batch or 1, 1), (shape, operator.batch or 3, 2)]
    if len(moving.keys() - {0}):
        cases.append((_larger(operator, shape, 1, 2), operator.batch or 2, 3))
    for sides, batch, seed in cases:
        y = _measured(operator, sides, batch, seed)
        arguments = _arguments(program, y)
        expected = network(y, operator, noise=arguments[1] if network.takes_noise else None)
        found = program.returned(run(arguments))
        difference = float((found - expected).abs().max() / expected.abs().max())
        if not difference <= tolerance:  # also of NaN
            raise ValueError(
                f"export: the program's picture differs from that of the network by {difference:.1e} of its largest "
                f"magnitude, and tolerance is {tolerance:g}"
            )
        worst = max(worst, difference)
    return worst


def _mebibytes(traced: "ExportedProgram") -> float:
    held = [*traced.state_dict.values(), *traced.constants.values()]
    return math.fsum(part.nbytes for part in held if isinstance(part, Tensor)) / 2**20


@contextmanager
def _quietly() -> Iterator[None]:
    """Without warnings of what tracing meets inside of torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
