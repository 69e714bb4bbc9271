"""What each strategy of sparsifying adds to a step of training, beside peers; and what compacting a network gains.

    python -m benchmarks.sparsify --peers --json docs/performance/sparsify.json

ResNet-20 on batches of CIFAR's size. All variants of one optimiser take turns in one process, so do the dense and the
compacted network. The peers need `pip install 'unrolled[compare,compact]'`.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from benchmarks import command
from benchmarks.machine import interleaved
from unrolled.classifiers.residual import CifarResNet
from unrolled.penalties import L0, L1, Filters, LogSum, TransformedL1
from unrolled.sparsify import (
    CGES,
    AdaProx,
    AdaptiveDropout,
    HardConcreteGates,
    MagnitudePruning,
    NetworkSlimming,
    PenaltyLoss,
    ProximalStep,
    ReweightedTikhonov,
    SparseGroupLasso,
    Sparsifier,
    VariableSplitting,
    VariationalNoise,
    compact,
)
from unrolled.system.memory import keep_freed_memory

BATCH, SIDE, CLASSES, DEPTH = 64, 32, 10, 20
STRENGTH = 1e-6  # so weak that the network stays what it is while it is timed
LONG = 100_000  # steps of a run that is never finished
BARE = "bare optimiser"
DEVICE = torch.device("cpu")
Step = Callable[[], Any]
Prepared = tuple[Callable[[], Tensor], Callable[[Optimizer], Any], Sequence[Tensor]]
"""What is added to the loss, what follows the optimiser's step, and what the optimiser learns besides the model."""

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "SGD": lambda parameters: SGD(parameters, lr=1e-4, momentum=0.9, weight_decay=1e-4),
    "Adam": lambda parameters: Adam(parameters, lr=1e-5),
}

STRATEGIES: dict[str, Callable[[nn.Module], Sparsifier]] = {
    "ProximalStep, l1": lambda model: ProximalStep(model, L1(), STRENGTH),
    "ProximalStep, l0": lambda model: ProximalStep(model, L0(), STRENGTH),
    "ProximalStep, transformed l1": lambda model: ProximalStep(model, TransformedL1(), STRENGTH),
    "ProximalStep, l1 of filters": lambda model: ProximalStep(model, L1(), STRENGTH, groups=Filters()),
    "ProximalStep, l0, with a target": lambda model: ProximalStep(model, L0(), target=0.9, steps=LONG),
    "VariableSplitting, l0": lambda model: VariableSplitting(model, L0(), STRENGTH),
    "VariableSplitting, l0, with a target": lambda model: VariableSplitting(model, L0(), target=0.9, steps=LONG),
    "SparseGroupLasso, transformed l1": lambda model: SparseGroupLasso(model, TransformedL1(), STRENGTH),
    "CGES": lambda model: CGES(model, STRENGTH),
    "PenaltyLoss, l1": lambda model: PenaltyLoss(model, L1(), STRENGTH),
    "ReweightedTikhonov, log-sum": lambda model: ReweightedTikhonov(model, LogSum(), STRENGTH),
    "AdaProx, log-sum": lambda model: AdaProx(model, LogSum(), STRENGTH),
    "AdaptiveDropout, log-sum": lambda model: AdaptiveDropout(model, LogSum(), STRENGTH),
    "VariationalNoise, additive": lambda model: VariationalNoise(model, strength=STRENGTH),
    "VariationalNoise, plain": lambda model: VariationalNoise(model, strength=STRENGTH, parametrisation="plain"),
    "HardConcreteGates of filters": lambda model: HardConcreteGates(
        model, strength=STRENGTH, initial_keep=0.95, groups=Filters()
    ),
    "MagnitudePruning, every 10 steps": lambda model: MagnitudePruning(model, 0.9, steps=LONG, every=10),
    "NetworkSlimming, l1": lambda model: NetworkSlimming(model, L1(), STRENGTH),
}


def network() -> nn.Module:
    """ResNet-20, or of another depth, always with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CifarResNet(CLASSES, DEPTH, shortcut="convolution")


def images(batch: int) -> tuple[Tensor, Tensor]:
    """A batch of noise, and labels."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, SIDE, SIDE, generator=generator), torch.arange(batch) % CLASSES


def sparsified(model: nn.Module, make: Callable[[nn.Module], Sparsifier]) -> Prepared:
    """A strategy, as it is used in training."""
    sparsifier = make(model)
    return sparsifier.loss, sparsifier.step, sparsifier.parameters()


def masked(model: nn.Module) -> Prepared:
    """Half of the weights are zero and kept so: what `finalize(keep_mask=True)` costs in fine tuning."""
    sparsifier = MagnitudePruning(model, 0.5, steps=1)
    with torch.no_grad():
        for weight in sparsifier.weights:
            weight.parameter.mul_(weight.parameter.abs() > weight.parameter.abs().median())
    sparsifier.finalize(keep_mask=True)
    return _nothing, lambda optimizer: None, []


def _nothing() -> Tensor:
    return torch.zeros(())


def step_of(
    model: nn.Module,
    optimizer: Callable[[Any], Optimizer],
    prepared: Prepared,
    batch: tuple[Tensor, Tensor],
    wrap: Callable[[Optimizer, nn.Module], Any] | None = None,
) -> Step:
    """One step of training."""
    loss_now, after, learned = prepared
    made = optimizer([{"params": list(model.parameters())}, *([{"params": list(learned)}] if learned else [])])
    stepping = made if wrap is None else wrap(made, model)
    x, y = batch

    def step() -> None:
        loss = F.cross_entropy(model(x), y) + loss_now()
        loss.backward()
        stepping.step()
        stepping.zero_grad()
        after(made)

    return step


def several(step: Step, count: int) -> Step:
    """So many steps: some strategies do more in one of ten than in the others."""

    def run() -> None:
        for _ in range(count):
            step()

    return run


def variants(optimizer: str, batch: int, peers: bool) -> dict[str, Step]:
    """Every variant of training with one optimiser, each on a network of its own."""
    make, data = OPTIMIZERS[optimizer], images(batch)
    found = {}
    model = network()
    found[BARE] = step_of(model, make, (_nothing, lambda optimizer: None, []), data)
    for name, strategy in STRATEGIES.items():
        model = network()
        found[name] = step_of(model, make, sparsified(model, strategy), data)
    model = network()
    found["zeros kept after finalize"] = step_of(model, make, masked(model), data)
    if peers:
        from benchmarks.peers import sparsifiers

        for name, prepare in sparsifiers(STRENGTH, data[0][:1]).items():
            model = network()
            prepared, wrap = prepare(model)
            found[name] = step_of(model, make, prepared, data, wrap)
    return found


def overhead(batch: int, steps: int, rounds: int, peers: bool) -> list[dict[str, Any]]:
    """Milliseconds a step, and times as long as the bare optimiser takes."""
    rows = []
    for optimizer in OPTIMIZERS:
        runs = {name: several(step, steps) for name, step in variants(optimizer, batch, peers).items()}
        timed = interleaved(runs, DEVICE, rounds)
        for name, seconds in timed.items():
            each = {quartile: 1000 * value / steps for quartile, value in seconds.items()}
            ratio = seconds["median"] / timed[BARE]["median"]
            rows.append({"optimizer": optimizer, "variant": name, "milliseconds": each, "ratio": ratio})
    return rows


def half_dead() -> nn.Module:
    """ResNet-20 with every second filter, and what belongs to it, at zero."""
    model = network()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
                for parameter in module.parameters(recurse=False):
                    parameter[::2] = 0
    return model


def compaction(batches: Sequence[int], steps: int, rounds: int) -> list[dict[str, Any]]:
    """The network with half of its filters dead as it is, and compacted: answers, and steps of training."""
    dense = half_dead()
    small = compact(dense, images(2)[0])
    assert isinstance(small, nn.Module)
    x = images(8)[0]
    with torch.no_grad():
        difference = float((small.eval()(x) - dense.eval()(x)).abs().max())
    assert difference < 1e-4, difference
    counts = {"dense": count(dense), "compacted": count(small)}
    rows = []
    for batch in batches:
        runs = _answers({"dense": dense, "compacted": small}, batch, steps)
        rows += _compared("inference", batch, interleaved(runs, DEVICE, rounds), steps, counts)
    alone: Prepared = (_nothing, lambda optimizer: None, [])
    trained = {}
    for name, model in (("dense", dense), ("compacted", small)):
        step = step_of(copy.deepcopy(model).train(), OPTIMIZERS["SGD"], alone, images(batches[-1]))
        trained[name] = several(step, steps)
    return rows + _compared("training", batches[-1], interleaved(trained, DEVICE, rounds), steps, counts)


def count(model: nn.Module) -> int:
    """The parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def _answers(models: Mapping[str, nn.Module], batch: int, steps: int) -> dict[str, Step]:
    x = images(batch)[0]

    def answer(model: nn.Module) -> Step:
        def run() -> None:
            with torch.inference_mode():
                model(x)

        return several(run, steps)

    return {name: answer(model.eval()) for name, model in models.items()}


def _compared(
    task: str, batch: int, timed: dict[str, dict[str, float]], steps: int, counts: Mapping[str, int]
) -> list[dict[str, Any]]:
    return [
        {
            "task": task,
            "batch": batch,
            "network": name,
            "parameters": counts[name],
            "milliseconds": {quartile: 1000 * value / steps for quartile, value in seconds.items()},
            "speedup": timed["dense"]["median"] / seconds["median"],
        }
        for name, seconds in timed.items()
    ]


def tables(result: dict[str, Any]) -> str:
    """Both tables, each with a line about it."""
    found = {(row["variant"], row["optimizer"]): row for row in result["overhead"]}
    optimizers = list(dict.fromkeys(row["optimizer"] for row in result["overhead"]))
    lines = [
        f"Milliseconds of a training step of ResNet-20, batch {result['batch']}; in brackets times as long as the same "
        "optimiser alone.",
        "",
        "| | " + " | ".join(optimizers) + " |",
        "|---|" + "---|" * len(optimizers),
    ]
    for name in dict.fromkeys(row["variant"] for row in result["overhead"]):
        rows = [found[name, optimizer] for optimizer in optimizers]
        cells = [f"{row['milliseconds']['median']:.1f} ({row['ratio']:.2f}×)" for row in rows]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "ResNet-20 with half of its filters dead, as it is and after `compact`: milliseconds, and how many times as "
        "fast.",
        "",
        "| | dense | compacted | |",
        "|---|---|---|---|",
    ]
    pairs = {(row["task"], row["batch"], row["network"]): row for row in result["compaction"]}
    for task, batch in dict.fromkeys(key[:2] for key in pairs):
        dense, small = pairs[task, batch, "dense"], pairs[task, batch, "compacted"]
        lines.append(
            f"| {task}, batch {batch} | {dense['milliseconds']['median']:.1f} | {small['milliseconds']['median']:.1f} "
            f"| {small['speedup']:.2f}× |"
        )
    before, after = (row["parameters"] for row in result["compaction"][:2])
    return "\n".join([*lines, "", f"Parameters: {before:,} before, {after:,} after."])


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--steps", type=int, default=10, help="of training in a round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peers", action="store_true", help="also those of other libraries")
    options = parser.parse_args()
    keep_freed_memory()
    result = {
        "batch": options.batch,
        "steps": options.steps,
        "rounds": options.rounds,
        "overhead": overhead(options.batch, options.steps, options.rounds, options.peers),
        "compaction": compaction((1, options.batch), options.steps, options.rounds),
    }
    print(tables(result))
    command.write(options.json, result)


if __name__ == "__main__":
    main()
