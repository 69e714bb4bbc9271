"""How many numbers a second the proximal maps shrink, beside torch's soft shrinkage, a copy, and other libraries.

    python -m benchmarks.prox --peers --json docs/performance/prox.json

Everything of one table is timed in turn in one process. The peers need `pip install 'unrolled[compare]'`; without
`--no-compile` the compiler of torch needs one of C++, and some minutes for the first run; later ones find its results.
"""

import argparse
import inspect
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import unrolled.penalties
from benchmarks import command
from benchmarks.machine import interleaved
from unrolled.penalties import SeparablePenalty
from unrolled.penalties.numeric import NumericPenalty
from unrolled.system.memory import keep_freed_memory

STEP = 0.3
COPY, SHRINK = "copy", "soft shrinkage of torch"
FEATURES = (8, 32, 66, 66)  # the maps between the convolutions of EPGN, on 8 crops of 66×66
DEVICE = torch.device("cpu")
FEWER = 64  # times as few numbers for the maps that are found numerically
Map = Callable[[Tensor], Tensor]
Runs = dict[tuple[str, ...], tuple[Callable[[], Any], int]]  # what is timed, and how many numbers it takes


def penalties() -> dict[str, SeparablePenalty]:
    """Every separable penalty that can be made without arguments, by its name."""
    classes = (getattr(unrolled.penalties, name) for name in unrolled.penalties.__all__)
    return {
        cls.__name__: cls()
        for cls in classes
        if inspect.isclass(cls)
        and issubclass(cls, SeparablePenalty)
        and not inspect.isabstract(cls)
        and all(parameter.default is not parameter.empty for parameter in inspect.signature(cls).parameters.values())
    }


def maps() -> dict[str, Map]:
    """What is timed, by name: two marks to measure by, and the proximal map of every penalty."""
    found: dict[str, Map] = {COPY: torch.clone, SHRINK: lambda v: F.softshrink(v, STEP)}
    return found | {name: lambda v, p=penalty: p.prox(v, STEP) for name, penalty in penalties().items()}


def compiled(function: Map) -> Map:
    """The function, compiled; from a copy of its code, for the compiler keeps only so many results for one code."""
    code = function.__code__.replace()
    own = types.FunctionType(code, function.__globals__, None, function.__defaults__, function.__closure__)
    return torch.compile(own, fullgraph=True, dynamic=False)


def forms(function: Map, penalty: SeparablePenalty | None, compile_it: bool) -> dict[str, Map]:
    """A map as it is, and compiled, unless it is found numerically: that depends on the data."""
    compile_it = compile_it and function is not torch.clone and not isinstance(penalty, NumericPenalty)
    return {"eager": function} | ({"compiled": compiled(function)} if compile_it else {})


def numbers_for(penalty: SeparablePenalty | None, v: Tensor) -> Tensor:
    """The numbers that a penalty's map is timed with."""
    return v.flatten()[: -(-v.numel() // FEWER)] if isinstance(penalty, NumericPenalty) else v


def forward(function: Map, v: Tensor) -> tuple[Callable[[], None], int]:
    """A run of the map alone."""

    def run() -> None:
        with torch.no_grad():
            function(v)

    return run, v.numel()


def backward(function: Map, v: Tensor, *learned: Tensor) -> tuple[Callable[[], None], int]:
    """A run of the map and of its gradients."""
    v, gradient = v.clone().requires_grad_(), torch.randn_like(v)
    return lambda: torch.autograd.grad(function(v), (v, *learned), gradient, allow_unused=True) and None, v.numel()


def alone(v: Tensor, rounds: int, compile_it: bool) -> list[dict[str, Any]]:
    """Every map with its step as a number: forward, and with its gradient in v."""
    runs: Runs = {}
    for name, function in maps().items():
        penalty = penalties().get(name)
        some = numbers_for(penalty, v)
        for form, made in forms(function, penalty, compile_it).items():
            runs[name, form, "forward"] = forward(made, some)
            if name != COPY:
                runs[name, form, "and backward"] = backward(made, some)
    return rows(runs, ("map", "form", "what"), rounds)


def beside_peers(v: Tensor, rounds: int, compile_it: bool) -> list[dict[str, Any]]:
    """The maps that other libraries have too, with one thread, as those have; each on the numbers it is made for."""
    from benchmarks.peers import proximal_maps

    runs: Runs = {}
    for name, (penalty, peers) in proximal_maps(STEP).items():
        for kind in (torch.float32, torch.float64):
            x = v.to(kind)
            exact, array = penalty.prox(x, STEP).numpy(), x.numpy()
            for form, made in forms(lambda v, p=penalty: p.prox(v, STEP), penalty, compile_it).items():
                runs[name, form, str(kind).removeprefix("torch.")] = forward(made, x)
            for peer, function in peers.items():
                difference = np.abs(function(array) - exact).max()
                assert difference < (2e-4 if kind is torch.float32 else 1e-10), (name, peer, kind, difference)
                runs[name, peer, str(kind).removeprefix("torch.")] = (lambda f=function, a=array: f(a), array.size)
    return rows(runs, ("map", "form", "type"), rounds)


def in_a_network(shape: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """Every penalty that is not numeric on feature maps, forward and backward, with a learned step per channel."""
    runs: Runs = {}
    for kind in (torch.float32, torch.bfloat16):
        v = torch.randn(shape).to(kind, memory_format=torch.channels_last)
        for name, penalty in penalties().items():
            if penalty.prox_has_step_gradient and not isinstance(penalty, NumericPenalty):
                step = torch.full((shape[1], 1, 1), STEP, dtype=kind, requires_grad=True)
                run = backward(lambda v, p=penalty, s=step: p.prox(v, s), v, step)
                runs[name, str(kind).removeprefix("torch.")] = run
    return rows(runs, ("map", "type"), rounds)


def rows(runs: Runs, keys: tuple[str, ...], rounds: int) -> list[dict[str, Any]]:
    """Time the runs in turn: millions of numbers a second of each."""
    found = []
    timed = interleaved({key: run for key, (run, _) in runs.items()}, DEVICE, rounds)  # type: ignore[misc]
    for key, seconds in timed.items():
        speed = {quartile: runs[key][1] / seconds[quartile] / 1e6 for quartile in ("low", "median", "high")}
        found.append(dict(zip(keys, key, strict=True)) | {"millions_per_second": speed})
    return found


def measure(numbers: int, shape: tuple[int, ...], rounds: int, compile_it: bool, peers: bool) -> dict[str, Any]:
    """All figures, as plain values."""
    threads = torch.get_num_threads()
    v = 2 * torch.randn(numbers, generator=torch.Generator().manual_seed(0))
    result: dict[str, Any] = {"numbers": numbers, "step": STEP, "features": list(shape), "rounds": rounds}
    result["alone"] = alone(v, rounds, compile_it)
    result["in_a_network"] = in_a_network(shape, rounds)
    if peers:
        torch.set_num_threads(1)
        result["beside_peers"] = beside_peers(v, rounds, compile_it)
        torch.set_num_threads(threads)
    return result


def tables(result: dict[str, Any]) -> str:
    """All tables, each with a line about it."""
    parts = [
        f"Millions of float32 numbers a second, of {result['numbers'] / 1e6:.1f} million normal ones with deviation 2, "
        f"step {result['step']}; in brackets times as long as `F.softshrink` in the same column.",
        _table(
            result["alone"],
            lambda row: f"{row['form']}, {row['what']}",
            lambda column: (SHRINK, *column.split(", ")),
            ("map", "form", "what"),
        ),
        f"Feature maps of {'×'.join(map(str, result['features']))}, channels last, forward and backward with a learned "
        "step per channel; in brackets times as long as l1.",
        _table(result["in_a_network"], lambda row: row["type"], lambda column: ("L1", column), ("map", "type")),
    ]
    if "beside_peers" in result:
        parts += [
            "The compiled maps of skglm and those of pyproximal, one thread; in brackets times as long as skglm.",
            _table(
                result["beside_peers"],
                lambda row: f"{row['form']}, {row['type']}",
                lambda column: ("", "skglm", column.split(", ")[1]),
                ("map", "form", "type"),
            ),
        ]
    return "\n\n".join(parts)


def _table(
    rows: list[dict[str, Any]],
    column_of: Callable[[dict[str, Any]], str],
    mark_of: Callable[[str], tuple[str, ...]],
    keys: tuple[str, ...],
) -> str:
    """Maps against columns; `mark_of` says, by its keys, what a column is compared with ("" for the map itself)."""
    speeds = {tuple(row[key] for key in keys): row["millions_per_second"]["median"] for row in rows}
    found = {(row["map"], column_of(row)): row["millions_per_second"]["median"] for row in rows}
    columns = list(dict.fromkeys(column_of(row) for row in rows))
    lines = ["| million/s | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name in dict.fromkeys(row["map"] for row in rows):
        cells = []
        for column in columns:
            mark, *rest = mark_of(column)
            speed, compared = found.get((name, column)), speeds.get((mark or name, *rest))
            ratio = f" ({compared / speed:.2f}×)" if speed and compared else ""
            cells.append(f"{speed:,.{0 if speed >= 10 else 2}f}{ratio}" if speed else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--numbers", type=int, default=2**21)
    parser.add_argument("--features", type=int, nargs=4, default=FEATURES, help="batch, channels, height, width")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--peers", action="store_true", help="also skglm and pyproximal")
    options = parser.parse_args()
    keep_freed_memory()
    result = measure(options.numbers, tuple(options.features), options.rounds, options.compile, options.peers)
    print(tables(result))
    command.write(options.json, result)


if __name__ == "__main__":
    main()
