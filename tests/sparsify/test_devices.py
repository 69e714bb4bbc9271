"""Strategies stay on the device of the weights, and ask it for no value but where they say so: run on `meta`.

What is asked for is left out here: checks of penalties when a strategy is made, which weights would be emptied
(`answers`, once in a step), the search for a strength (the share of zeros, once in ten steps at most), the first
strength of a run with a target, and, for groups under a target, the order in which they become 0.
"""

import pytest
import torch
from torch.optim import SGD, Adam

from tests.helpers import OnMeta
from tests.pairs import FULL, pairwise
from tests.penalties.cases import NAMES
from tests.sparsify.cases import CASES, GROUPS, STEPS, STRATEGIES, Run, allowed, make, model
from unrolled.sparsify import Sparsifier
from unrolled.sparsify.machinery import capture, hooks, survivors

PENALTIES = {"HardConcreteGates": "HardConcrete", "VariationalNoise": "VariationalDropoutFit"}
SEARCHES = ("ProximalStep", "VariableSplitting", "SparseGroupLasso")
"""Those that with a target ask for values at every step."""

KINDS = list(GROUPS) if FULL else ["elements", "heads"]
"""Of groups: numbers, and parts that two weights share. Penalties are tested with each."""


def can_be_run(strategy, groups, told, kind):
    """Whether a strategy takes these groups, and how strong it is can be told so without a search."""
    penalty = PENALTIES.get(strategy, "L1") if CASES[STRATEGIES[strategy]].takes_penalty else "L0"
    without = ("MagnitudePruning",) if told == "strength" else SEARCHES
    return strategy not in without and allowed(strategy, penalty, groups, "SGD")


pytestmark = pytest.mark.device


@pytest.fixture
def without_answers(monkeypatch):
    """Nothing is emptied, no penalty is refused, and the first strength is what it is."""
    monkeypatch.setattr(survivors, "answers", lambda questions: [True for _ in questions])
    monkeypatch.setattr(capture, "answers", lambda questions: [False for _ in questions])
    monkeypatch.setattr(hooks.WeightHooks, "_generator", lambda *_: torch.Generator())  # there is none for meta
    for name in ("network_slimming", "penalty_loss"):
        monkeypatch.setattr(f"unrolled.sparsify.strategies.{name}.first_strength", lambda *_: 0.1)
    monkeypatch.setattr("unrolled.sparsify.machinery.dropout_rule.KeepProbability.check", lambda *_: None)
    monkeypatch.setattr(STRATEGIES["PenaltyLoss"], "check_penalty", lambda *_: None)
    monkeypatch.setattr(STRATEGIES["PenaltyLoss"], "make_control", lambda *_: None)


def run(sparsifier: Sparsifier, small, optimizer) -> None:
    """Two steps, without values."""
    for _ in range(2):
        with OnMeta():
            loss = small(torch.empty(8, 1, 6, 6, device="meta")).sum() + sparsifier.loss()
            assert loss.is_meta
            loss.backward()
        optimizer.step()  # Adam counts its steps on the CPU
        with OnMeta():
            sparsifier.step(optimizer)
    with OnMeta():
        for weight in sparsifier.weights:
            for found in (sparsifier.sparse(weight), sparsifier.ranking(weight), *weight.extra.values()):
                assert found.is_meta
    assert sparsifier.step_count == 2
    assert all(parameter.is_meta for parameter in sparsifier.parameters())


@pytest.mark.usefixtures("without_answers")
@pytest.mark.parametrize(
    ("strategy", "groups", "told", "kind"),
    pairwise(list(STRATEGIES), KINDS, ["strength", "target"], [SGD, Adam], allowed=can_be_run, whole=FULL),
)
def test_with_a_strength_or_a_target(strategy, groups, told, kind):
    small = model().to("meta")
    strong = {"strength": 0.1} if told == "strength" else {"target": 0.5, "steps": 10}
    sparsifier = make(strategy, PENALTIES.get(strategy, "L1"), groups, small, **strong)
    run(sparsifier, small, kind([*small.parameters(), *sparsifier.parameters()], lr=0.1))


@pytest.mark.usefixtures("without_answers")
@pytest.mark.parametrize("options", [{"update": "joint"}, {"noise": "gaussian"}, {"parametrisation": "plain"},
                                     {"parametrisation": "local"}, {"cutoff": 0.1}])  # fmt: skip
def test_with_each_way_that_a_strategy_can_be_told(options, monkeypatch):
    strategy = {"update": "ReweightedTikhonov", "noise": "AdaptiveDropout", "parametrisation": "VariationalNoise",
                "cutoff": "PenaltyLoss"}[next(iter(options))]  # fmt: skip
    monkeypatch.setattr(STRATEGIES["ReweightedTikhonov"], "check_penalty", lambda *_: None)
    small = model().to("meta")
    penalty = "LogSum" if strategy == "ReweightedTikhonov" else PENALTIES.get(strategy, "L1")
    sparsifier = make(strategy, penalty, "elements", small, strength=0.1, **options)
    run(sparsifier, small, Adam([*small.parameters(), *sparsifier.parameters()], lr=0.1))


@pytest.mark.filterwarnings("ignore:.*would become all zero:UserWarning")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_weights_become_zero_on_every_device(strategy, device):
    penalty = next(name for name in NAMES if allowed(strategy, name, "elements", "SGD"))
    run = Run(strategy, penalty, "elements", "SGD", device)
    run.train(STEPS)
    run.go_on_from(run.state())
    assert run.sparsifier.sparsity() > 0
    run.sparsifier.finalize()
    for parameter in run.model.parameters():
        assert parameter.device.type == device.type
        assert parameter.isfinite().all()
