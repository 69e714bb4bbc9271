"""What removing dead groups gains: the sparse classifiers of a study made smaller, compared, counted and timed.

python -m benchmarks.papers.compacted --folder runs/groups --json docs/papers/compacted.json

Each network is compacted, and answers to the same noise are compared. Then both take turns, many rounds of them; what
is said of speed are the quartiles of the ratios of neighbours in time.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import command
from benchmarks.machine import in_turn, quartiles
from unrolled.sparsify import compact, sparsity_report
from unrolled.system.memory import keep_freed_memory
from unrolled.weights.classifiers import load_classifier

BATCHES = (1, 100)
LARGE = 100  # images that answers are compared on


def speedups(runs: Mapping[str, Callable[[], Any]], rounds: int, repeats: int = 1) -> dict[str, dict[str, Any]]:
    """Time several things in turn, on the CPU.

    Parameters
    ----------
    runs : mapping
        name → what is run. The first one is what the others are compared with.
    rounds : int
    repeats : int
        how many times a run is repeated in its turn.

    Returns
    -------
    dict
        name → "milliseconds" of a run and "speedup", how many times as fast as the first one was in the same round:
        median and quartiles of each.
    """
    seconds = in_turn({name: _repeated(run, repeats) for name, run in runs.items()}, torch.device("cpu"), rounds)
    first = next(iter(seconds.values()))
    return {
        name: {
            "milliseconds": quartiles([1000 * value / repeats for value in own]),
            "speedup": quartiles([reference / value for reference, value in zip(first, own, strict=True)]),
        }
        for name, own in seconds.items()
    }


def _repeated(run: Callable[[], Any], repeats: int) -> Callable[[], None]:
    def runs() -> None:
        for _ in range(repeats):
            run()

    return runs


def smaller(network: nn.Module, shape: Sequence[int]) -> tuple[nn.Module, dict[str, Any]]:
    """A network compacted, and what is left of it.

    Parameters
    ----------
    network : Module
        in evaluation mode.
    shape : sequence of int
        of an image.

    Returns
    -------
    Module
    dict
        "weights": name → shape of each that is left; "inputs": name → how many of its inputs it reads; "parameters" and
        "multiplications" of an image, before and after; "difference": the largest one of answers to noise, as a part of
        the largest answer.
    """
    example = noise(2, shape)
    small = compact(network, example)
    before, after = (sparsity_report(model, example[:1]) for model in (network, small))
    x = noise(LARGE, shape)
    with torch.inference_mode():
        wanted, got = network(x), small(x)
    return small, {
        "weights": {layer.name: list(layer.shape) for layer in after.layers},
        "inputs": {layer.name: layer.alive_inputs for layer in after.layers},
        "parameters": [report.total.weights + report.other_parameters for report in (before, after)],
        "multiplications": [report.total.macs for report in (before, after)],
        "difference": float((wanted - got).abs().max() / wanted.abs().max()),
    }


def noise(batch: int, shape: Sequence[int]) -> Tensor:
    """Standardised images of noise, always the same."""
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))


def timed(models: Mapping[str, nn.Module], shape: Sequence[int], batches: Sequence[int], rounds: int) -> list[dict]:
    """Answers of several models in turn, for batches of each size."""
    found = []
    for batch in batches:
        x = noise(batch, shape)
        runs = {name: _answer(model, x) for name, model in models.items()}
        found.append({"batch": batch, **speedups(runs, rounds, repeats=max(1, 50 // batch))})
    return found


def _answer(model: nn.Module, x: Tensor) -> Callable[[], None]:
    @torch.inference_mode()
    def run() -> None:
        model(x)

    return run


def measured(path: Path, batches: Sequence[int], rounds: int) -> dict[str, Any]:
    """All figures of the network in a file of weights."""
    classifier = load_classifier(path)
    shape = len(classifier.mean), *classifier.size
    small, facts = smaller(classifier.network, shape)
    return {**facts, "speed": timed({"sparse": classifier.network, "compacted": small}, shape, batches, rounds)}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A row for each network."""
    batches = [speed["batch"] for speed in rows[0]["speed"]]
    heads = ["run", "parameters", "multiplications", "difference", *(f"batch {batch}" for batch in batches)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        sizes = [f"{row[key][0]:,} → {row[key][1]:,}" for key in ("parameters", "multiplications")]
        speeds = [speed["compacted"]["speedup"] for speed in row["speed"]]
        times = [f"{each['median']:.2f}× ({each['low']:.2f} … {each['high']:.2f})" for each in speeds]
        cells = [row["run"], *sizes, f"{row['difference']:.0e}", *times]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of a study, with a folder for each run")
    parser.add_argument("--only", nargs="+", metavar="RUN-SEED", help="some of its runs; by default all sparse ones")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--rounds", type=int, default=51)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    paths = sorted(options.folder.glob("*/sparse.safetensors"))
    paths = [path for path in paths if options.only is None or path.parent.name in options.only]
    if not paths:
        parser.error(f"--folder: {options.folder} has no run with sparse.safetensors among those asked for")
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    rows = [{"run": path.parent.name, **measured(path, options.batches, options.rounds)} for path in paths]
    print(table(rows))
    command.write(options.json, {"threads": options.threads, "rounds": options.rounds, "runs": rows})


if __name__ == "__main__":
    main()
