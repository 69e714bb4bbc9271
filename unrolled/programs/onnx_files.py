"""Programs as ONNX files."""

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.export import ExportedProgram

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")

LARGEST = 2**31 - 2**20
"""Bytes that one file of ONNX may hold."""

UNKNOWN = {
    "grid_sampler_2d_backward": "the adjoint of bilinear sums along rays; one with sums='joseph' is a matrix",
    "linalg_cholesky_ex": "a factorisation of a matrix",
    "linalg_inv_ex": "an inverse of a matrix",
    "linalg_eigh": "eigenvectors of a matrix",
}
"""What has no counterpart in ONNX, and where it is from."""


def check_installed() -> None:
    """Raise ValueError unless the libraries are there that write and run ONNX."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise ValueError(f"export: ONNX needs {' and '.join(missing)}: pip install 'unrolled[onnx]'")


def write_onnx(path: Path, traced: "ExportedProgram", moving: dict[int, str], facts: dict[str, Any]) -> None:
    """Write a traced program as ONNX, with facts among its metadata.

    Parameters
    ----------
    path : Path
    traced : torch.export.ExportedProgram
    moving : dict
        axes of the measurements that may have any length, and their names.
    facts : dict
        of plain values.

    Raises
    ------
    ValueError
        if ONNX has not the arithmetic, or the file would be too large.
    """
    used = {str(node.target).removeprefix("aten.").partition(".")[0] for node in traced.graph.nodes}
    for name, origin in UNKNOWN.items():
        if name in used:
            raise _unknown(f"{name}, {origin}")
    if _loops_over_complex_numbers(traced.graph_module):
        raise _unknown("loops over complex numbers, such as conjugate gradients that end when they have converged")
    size = sum(part.nbytes for part in [*traced.state_dict.values(), *traced.constants.values()] if _is_tensor(part))
    if size > LARGEST:
        raise ValueError(f"export: a file of ONNX holds at most 2 GiB, and the program has {size / 2**30:.1f}; {PT2}")
    try:
        with _quietly():
            converted = torch.onnx.export(
                traced,
                dynamo=True,
                verbose=False,
                input_names=[port["name"] for port in facts["inputs"]],
                output_names=[port["name"] for port in facts["outputs"]],
            )
    except Exception as error:  # of the converter, which has many
        raise _unknown(cause_of(error)) from error
    assert converted is not None
    y = next(node for node in traced.graph.nodes if node.op == "placeholder" and node.name == "y")
    symbols = {str(y.meta["val"].shape[axis]): name for axis, name in moving.items()}
    _name_axes(converted.model, symbols)
    converted.model.metadata_props["unrolled"] = json.dumps(facts)
    for name in ("licence", "sha256"):
        if name in facts:
            converted.model.metadata_props[name] = str(facts[name])
    converted.model.doc_string = "\n".join(
        f"{port['name']}: {port['meaning']}" for port in [*facts["inputs"], *facts["outputs"]]
    )
    converted.save(path, external_data=False)


def onnx_runner(path: Path) -> Callable[[list[Tensor]], Tensor]:
    """A function of the arguments of a program, by which onnxruntime runs its file.

    Raises
    ------
    ValueError
        if onnxruntime refuses it.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has errors of its own
        raise ValueError(f"export: onnxruntime refuses the program: {error!s:.300}; {PT2}") from error
    names = [given.name for given in session.get_inputs()]

    def run(arguments: list[Tensor]) -> Tensor:
        arrays = {name: tensor.numpy() for name, tensor in zip(names, arguments, strict=True)}
        return torch.from_numpy(session.run(None, arrays)[0])

    return run


PT2 = "a .pt2 file holds it"


def _unknown(what: str) -> ValueError:
    return ValueError(f"export: the program cannot be written as ONNX, which has no form of {what}; {PT2}")


def cause_of(error: BaseException) -> str:
    """The operation at which a conversion failed."""
    text, cause = "", error
    while cause is not None:
        text, cause = f"{text} {cause}", cause.__cause__  # type: ignore[assignment]
    found = re.search(r"op='(?:aten\.)?(\w+)|target=torch\.ops\.aten\.(\w+)", text)
    if found is None:
        return f"a part of it: {' '.join(text.split()):.200}"
    return (found[1] or found[2]) + " of complex numbers" * ("complex-valued" in text)


def _name_axes(model: Any, symbols: dict[str, str]) -> None:
    """Give axes of any length their names, instead of those of the tracer."""
    import onnx_ir

    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    for value in values:
        if value.shape is None:
            continue
        for axis, side in enumerate(value.shape):
            if isinstance(side, onnx_ir.SymbolicDim) and side.value is not None:
                name = str(side.value)
                for symbol, ours in symbols.items():
                    name = re.sub(rf"\b{symbol}\b", ours, name)
                value.shape[axis] = name


@contextmanager
def _quietly() -> Iterator[None]:
    """Without warnings, and without what the converter notes of its own steps."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _loops_over_complex_numbers(program: torch.fx.GraphModule) -> bool:
    """Whether a loop is given complex numbers, or makes some, as Fourier transforms do."""
    loops = [node for node in program.graph.nodes if node.target is torch.ops.higher_order.while_loop]
    parts = [getattr(program, part.target) for loop in loops for part in loop.args[:2]]
    values = [node.meta.get("val") for part in parts for node in part.graph.nodes]
    return any(_is_tensor(value) and value.is_complex() for value in values)


def _is_tensor(part: Any) -> bool:
    return isinstance(part, Tensor)
