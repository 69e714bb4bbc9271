"""What the laws of sparsifying run over: every strategy, with every penalty and every kind of group that it takes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from tests.helpers import concrete_subclasses
from tests.penalties.cases import NAMES, default
from unrolled import sparsify
from unrolled.penalties import Blocks, Each, Filters, Grouped, InputChannels, Penalty
from unrolled.sparsify import AttentionHeads, Sparsifier
from unrolled.sparsify.groups import penalty_of
from unrolled.sparsify.selection import select_weights
from unrolled.system.devices import seed_generators

STEPS = 10


class Small(nn.Module):
    """Convolutions with and without groups, a norm, linear layers, attention: 232 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.by_channel = nn.Conv2d(4, 4, 2, groups=4)
        self.linear = nn.Linear(8, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.by_channel(F.relu(self.norm(self.conv(x)))).flatten(2)[:, :, :8]
        x = F.relu(self.linear(x))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(x.mean(1))


def model() -> Small:
    """The model as it is before any step."""
    before = torch.get_rng_state()
    seed_generators(0)
    small = Small()
    torch.set_rng_state(before)
    return small


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Images, (8, 1, 6, 6), and their labels, a function of the step."""
    generator = torch.Generator().manual_seed(step)
    labels = torch.arange(8) % 3
    return torch.randn(8, 1, 6, 6, generator=generator) + labels[:, None, None, None], labels


def _of_convolutions(name: str, parameter: nn.Parameter, module: nn.Module):
    return Filters() if isinstance(module, nn.Conv2d) else None


def _heads(name: str, parameter: nn.Parameter, module: nn.Module):
    return {"in_proj_weight": AttentionHeads(2, stacked=3), "out_proj.weight": AttentionHeads(2, output=True)}.get(
        name.removeprefix("attention.")
    )


GROUPS: dict[str, dict[str, Any]] = {
    "elements": {},
    "filters": {"groups": Filters()},
    "input channels": {"groups": InputChannels(), "exclude": "by_channel"},
    "kernels": {"groups": Each((0, 1)), "include": "*conv*"},
    "blocks": {"groups": Blocks((2, 2)), "include": ["linear", "attention.in_proj_weight"]},
    "heads": {"groups": _heads},
    "a function": {"groups": _of_convolutions},
}
"""By name, what a strategy is told of groups."""

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda parameters: SGD(parameters, lr=0.02, momentum=0.9, weight_decay=1e-3, nesterov=True),
    "Adam": lambda parameters: Adam(parameters, lr=0.02, amsgrad=True),
    "AdamW": lambda parameters: AdamW(parameters, lr=0.02, fused=True),
    "RMSprop": lambda parameters: RMSprop(parameters, lr=0.005),
}

NO_ZEROS = frozenset(name for name in NAMES if not default(name).exact_zeros)
INFINITE_SLOPE = frozenset({"L0", "Lp"})
EVERYTHING = frozenset(NAMES)


@dataclass(frozen=True)
class Case:
    """How a strategy is made, what it refuses, and how strong it has to be for zeros within ten steps.

    Attributes
    ----------
    refuses : frozenset of str
        penalties with which it cannot be made; what it cannot be told at all is not among them.
    takes_penalty, takes_groups : bool
    options : mapping
    strength : str
        "prox": that which sends a third of the numbers or groups to 0 at once, for a step of `scale`;
        "dropout": that at which a third of them is hardly ever kept; or "given": `scale` itself.
    scale : float
    weaker : mapping
        by penalty, what this strength is multiplied with, where plain descent would overshoot zero.
    learning_rate : float
        of what is learned besides the weights.
    """

    refuses: frozenset[str] = NO_ZEROS
    takes_penalty: bool = True
    takes_groups: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    strength: str = "prox"
    scale: float = 0.02
    weaker: Mapping[str, float] = field(default_factory=dict)
    learning_rate: float = 1.0


# What dropout does not do with: it keeps 0 as often as all else, or has no slope; for the others 0 is kept less often.
_NOT_REWEIGHTED = frozenset({"L0", "Ridge", "rule with a jump"})

CASES: dict[type[Sparsifier], Case] = {
    sparsify.AdaProx: Case(_NOT_REWEIGHTED, strength="dropout"),
    sparsify.AdaptiveDropout: Case(_NOT_REWEIGHTED, strength="dropout"),
    sparsify.CGES: Case(takes_penalty=False, strength="given", scale=2.0),
    sparsify.HardConcreteGates: Case(
        EVERYTHING - {"HardConcrete"}, options={"initial_keep": 0.09}, strength="given", scale=0.1
    ),
    sparsify.MagnitudePruning: Case(
        takes_penalty=False, options={"target": 0.5, "steps": STEPS}, strength="given", scale=math.nan
    ),
    sparsify.NetworkSlimming: Case(takes_groups=False, strength="given", scale=20.0),
    sparsify.PenaltyLoss: Case(NO_ZEROS | INFINITE_SLOPE),
    sparsify.ProximalStep: Case(),
    sparsify.ReweightedTikhonov: Case(
        _NOT_REWEIGHTED, strength="dropout", weaker={"HardConcrete": 0.1, "ScaledArctan": 0.3}
    ),
    sparsify.SparseGroupLasso: Case(scale=100.0, options={"group_strength": 1e-3}),
    sparsify.VariableSplitting: Case(scale=100.0),
    sparsify.VariationalNoise: Case(
        EVERYTHING - {"VariationalDropout", "VariationalDropoutFit"},
        options={"initial": 0.0},
        strength="given",
        scale=1e-3,
        learning_rate=0.01,
    ),
}
"""Every strategy; one without a case is an error."""

STRATEGIES = {cls.__name__: cls for cls in concrete_subclasses(Sparsifier)}


def make(strategy: str, penalty: str, groups: str, of: nn.Module, **changes: Any) -> Sparsifier:
    """A strategy on a model, strong enough for zeros within ten steps."""
    cls = STRATEGIES[strategy]
    case = CASES[cls]
    told = dict(GROUPS[groups]) if case.takes_groups else {}
    arguments = {**case.options, **told, **changes}
    if case.takes_penalty:
        arguments["penalty"] = default(penalty)
    if "target" not in arguments and "strength" not in arguments:
        arguments["strength"] = case.scale if case.strength == "given" else _strength(case.strength, penalty, groups)
        arguments["strength"] *= case.weaker.get(penalty, 1) / (case.scale if case.strength == "prox" else 1)
    return cls(of, **arguments)


def allowed(strategy: str, penalty: str, groups: str, optimizer: str) -> bool:
    """Whether this can be combined, one representative for each argument that a strategy does not have."""
    case = CASES[STRATEGIES[strategy]]
    if strategy == "CGES" and groups in ("heads", "a function"):  # it wants a group for every number
        return False
    if penalty not in EVERYTHING - case.refuses if case.takes_penalty else penalty != "L1":
        return False
    return case.takes_groups or groups == "elements"


@cache
def _strength(kind: str, penalty: str, groups: str) -> float:
    """The strength that makes a third of the numbers or groups zero at once, by the definition of threshold or α."""
    found = []
    told = dict(GROUPS[groups])
    grouping = told.pop("groups", None)
    for weight in select_weights(model(), **told):
        rho, factors = penalty_of(weight, default(penalty), grouping), 1.0
        magnitudes = weight.parameter.detach().double().abs()
        if isinstance(rho, Grouped):
            magnitudes = rho.grouping.norm(magnitudes)
            factors = torch.as_tensor(rho.grouping.size(weight.parameter.shape)).double().sqrt()
        found.append((_least(kind, penalty, magnitudes) / factors).flatten())
    return float(torch.cat(found).quantile(1 / 3))


def _least(kind: str, penalty: str, magnitudes: Tensor) -> Tensor:
    """The least strength at which numbers of these magnitudes become 0."""
    if kind == "dropout":
        return 60 * default(penalty).eta(magnitudes.clamp(min=0.05))
    steps, thresholds = _table(penalty)
    return steps[torch.searchsorted(thresholds, magnitudes).clamp(max=len(steps) - 1)]


@cache
def _table(penalty: str) -> tuple[Tensor, Tensor]:
    steps = torch.logspace(-6, 3, 200, dtype=torch.float64)
    rho: Penalty = default(penalty)
    return steps, rho.threshold(steps).cummax(0).values


class Run:
    """A small model, an optimiser, a sparsifier, and the loop of five lines."""

    def __init__(self, strategy: str, penalty: str, groups: str, optimizer: str, device: str | torch.device = "cpu"):
        self.model, self.device = model().to(device), device
        self.sparsifier: Sparsifier = make(strategy, penalty, groups, self.model)
        learned = {"params": self.sparsifier.parameters(), "lr": CASES[STRATEGIES[strategy]].learning_rate}
        parts = [{"params": list(self.model.parameters())}, *([learned] if learned["params"] else [])]
        self.optimizer: Optimizer = OPTIMIZERS[optimizer](parts)
        self.step = 0

    def train(self, steps: int) -> None:
        for _ in range(steps):
            seed_generators(self.step)  # as the training loop does: noise is a function of the step
            images, labels = (part.to(self.device) for part in batch(self.step))
            loss = F.cross_entropy(self.model(images), labels) + self.sparsifier.loss()
            assert loss.isfinite()
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.sparsifier.step(self.optimizer)
            self.step += 1

    def state(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "sparsifier": self.sparsifier}
        return {name: part.state_dict() for name, part in parts.items()} | {"step": self.step}

    def go_on_from(self, state: dict[str, Any]) -> None:
        for name in ("model", "optimizer", "sparsifier"):
            getattr(self, name).load_state_dict(state[name])
        self.step = state["step"]
