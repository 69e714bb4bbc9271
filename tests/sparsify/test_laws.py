"""The laws of sparsifying: every strategy with every penalty, every kind of group and several optimisers.

Pairwise in `make test`, all combinations in `make test-full`.
"""

import copy
import io
import pickle
import weakref
from collections import Counter
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.pairs import FULL, in_turn, pairwise
from tests.penalties.cases import NAMES, default
from tests.sparsify.cases import CASES, GROUPS, OPTIMIZERS, STEPS, STRATEGIES, Run, Small, allowed, batch, make, model

# Everything may become zero here: then the largest number or group is kept, which is said.
pytestmark = pytest.mark.filterwarnings("ignore:.*would become all zero:UserWarning")


def combinations() -> list[tuple[str, str, str, str]]:
    """Strategies with optimisers and with every other kind of groups, and the penalty that was had least often."""
    if FULL:
        return pairwise(list(STRATEGIES), NAMES, list(GROUPS), list(OPTIMIZERS), allowed=allowed, whole=True)

    def fitting(strategy: str, groups: str, optimizer: str) -> list[str]:
        return [penalty for penalty in NAMES if allowed(strategy, penalty, groups, optimizer)]

    def in_its_turn(strategy: str, groups: str, optimizer: str) -> bool:
        """Of the kinds of groups every other one, besides single numbers."""
        turn = list(STRATEGIES).index(strategy) + list(GROUPS).index(groups)
        return (groups == "elements" or turn % 2 == 0) and bool(fitting(strategy, groups, optimizer))

    found, times = [], Counter[str]()
    for strategy, *others in pairwise(list(STRATEGIES), list(GROUPS), list(OPTIMIZERS), allowed=in_its_turn):
        penalty = min(fitting(strategy, *others), key=times.__getitem__)
        times[penalty] += 1
        found.append((strategy, penalty, *others))
    for penalty in (name for name in NAMES if not times[name]):
        found += [which for which in product(STRATEGIES, [penalty], GROUPS, OPTIMIZERS) if allowed(*which)][:1]
    return found


COMBINATIONS = combinations()
every_combination = pytest.mark.parametrize(("strategy", "penalty", "groups", "optimizer"), COMBINATIONS)


def with_two_optimizers() -> list[tuple[str, str, str, str]]:
    """Combinations in which every strategy meets two optimisers: what is kept of a run is the state of both."""
    wanted = set(in_turn(list(STRATEGIES), list(OPTIMIZERS), 2))
    found: dict[tuple[str, str], tuple[str, str, str, str]] = {}
    for start in range(len(GROUPS)):  # so that all kinds of groups are among them
        for combination in COMBINATIONS[start :: len(GROUPS)]:
            if (pair := (combination[0], combination[3])) in wanted:
                found.setdefault(pair, combination)
    assert found.keys() == wanted
    return list(found.values())


RESUMED = COMBINATIONS if FULL else with_two_optimizers()


def attached(found: nn.Module) -> dict[str, Any]:
    """All that can hang on a model: names, types and attributes of its modules, hooks of modules and of parameters."""
    traces: dict[str, Any] = {}
    for name, module in found.named_modules():
        own = vars(module)
        traces[name] = (
            type(module),
            sorted(own),
            sorted(own["_parameters"]),
            sorted(own["_buffers"]),
            {key: len(value) for key, value in own.items() if key.endswith(("_hooks", "_kwargs"))},
        )
    for name, parameter in found.named_parameters():
        hooks = (parameter._backward_hooks, parameter._post_accumulate_grad_hooks)
        traces[f"parameter {name}"] = type(parameter), parameter.requires_grad, parameter.is_leaf, [*map(bool, hooks)]
    return traces


def hooks_of_all_modules() -> list[int]:
    """How many entries there are in each of torch's tables of hooks that every module runs."""
    tables = vars(torch.nn.modules.module).items()
    return [len(table) for name, table in tables if name.startswith("_global_") and isinstance(table, dict)]


def outputs(found: nn.Module) -> list[torch.Tensor]:
    """In training mode, twice, and in evaluation mode."""
    images, _ = batch(99)
    with torch.no_grad():
        return [found.train()(images), found(images), found.eval()(images)]


def assert_plain(found: nn.Module, expected: list[torch.Tensor]) -> None:
    """It emits what is expected and can be trained."""
    for one, other in zip(outputs(found), expected, strict=True):
        assert torch.equal(one, other)
    images, labels = batch(98)
    optimizer = torch.optim.SGD(found.parameters(), lr=0.1)
    F.cross_entropy(found.train()(images), labels).backward()
    optimizer.step()
    assert all(parameter.grad is not None for parameter in found.parameters())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_has_a_case(strategy):
    assert STRATEGIES[strategy] in CASES, "add it to tests/sparsify/cases.py"


@pytest.mark.parametrize("strategy", [name for name, cls in STRATEGIES.items() if CASES[cls].takes_penalty])
def test_what_a_strategy_cannot_do_with_is_refused_with_a_reason(strategy):
    for penalty in NAMES:
        small = model()
        before = attached(small)
        if penalty in CASES[STRATEGIES[strategy]].refuses:
            with pytest.raises(ValueError, match=f"^{strategy}: ") as refusal:
                make(strategy, penalty, "elements", small, strength=1e-3)
            assert any(name in str(refusal.value) for name in (repr(default(penalty)), penalty))
            assert len(str(refusal.value)) > len(f"{strategy}: {default(penalty)!r}") + 20
            assert attached(small) == before
            make("ProximalStep", "L1", "elements", small)  # the model is free
        else:
            make(strategy, penalty, "elements", small)


@every_combination
def test_a_run_ends_with_exact_zeros_and_nothing_attached(strategy, penalty, groups, optimizer):
    hooks = hooks_of_all_modules()
    run = Run(strategy, penalty, groups, optimizer)
    keys, parameters = list(run.model.state_dict()), list(run.model.parameters())
    run.train(STEPS)
    assert list(run.model.state_dict()) == keys
    assert all(parameter.isfinite().all() for parameter in parameters)
    promised = run.sparsifier.sparse_weights()
    masks = run.sparsifier.finalize(keep_mask=True)
    own = dict(run.model.named_parameters())
    assert [id(parameter) for parameter in own.values()] == [id(parameter) for parameter in parameters]
    for name, values in promised.items():
        assert torch.equal(own[name], values), name
    assert sum(int((values == 0).sum()) for values in promised.values()) > 0
    assert all(values.any() for values in promised.values())  # no layer is emptied
    assert attached(run.model) == attached(model())
    # There may be fewer than before, of runs that were let go.
    assert all(after <= before for after, before in zip(hooks_of_all_modules(), hooks, strict=True))
    # Fine tuning, by the same optimiser with all that it remembers and by a new one, keeps the zeros.
    before = {name: parameter.detach().clone() for name, parameter in own.items()}
    zeros = {name: parameter == 0 for name, parameter in own.items() if name in promised}
    fresh = torch.optim.SGD(run.model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for step, tuner in enumerate([run.optimizer, run.optimizer, fresh, fresh]):
        images, labels = batch(50 + step)
        F.cross_entropy(run.model.train()(images), labels).backward()
        tuner.step()
        tuner.zero_grad()
    for name, zero in zeros.items():
        assert not own[name][zero].any(), name
    assert any(not torch.equal(parameter, before[name]) for name, parameter in own.items())
    masks.remove()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_when_it_is_dropped_nothing_stays_attached(strategy, no_collector):
    torch.optim.SGD([nn.Parameter(torch.ones(1))])  # the first one loads the compiler, which keeps who made it
    penalty = next(name for name in NAMES if allowed(strategy, name, "elements", "SGD"))
    hooks = hooks_of_all_modules()
    run = Run(strategy, penalty, "elements", "SGD")
    run.train(2)
    gone = weakref.ref(run.sparsifier)
    del run
    assert gone() is None
    assert hooks_of_all_modules() == hooks


@pytest.mark.parametrize(("strategy", "penalty", "groups", "optimizer"), RESUMED)
def test_copies_are_plain_models_and_stopped_and_resumed_it_ends_with_the_same_bits(
    strategy, penalty, groups, optimizer
):
    straight, second = (Run(strategy, penalty, groups, optimizer) for _ in range(2))
    straight.train(2)
    file = io.BytesIO()
    torch.save(straight.state(), file)
    file.seek(0)
    check_copies(straight.model)
    straight.train(2)  # the original goes on
    second.go_on_from(torch.load(file, weights_only=True))
    second.train(2)
    for one, other in zip(straight.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert straight.sparsifier.figures() == second.sparsifier.figures()
    promised = [run.sparsifier.sparse_weights() for run in (straight, second)]
    assert all(torch.equal(promised[0][name], promised[1][name]) for name in promised[0])


def check_copies(found: nn.Module) -> None:
    """Copies of all kinds are plain models, and to make them changes nothing."""
    before = [parameter.detach().clone() for parameter in found.parameters()]
    saved = io.BytesIO()
    torch.save(found, saved)
    saved.seek(0)
    copies = [
        copy.deepcopy(found),
        pickle.loads(pickle.dumps(found)),
        torch.load(saved, weights_only=False),
        torch.optim.swa_utils.AveragedModel(found).module,
    ]
    plain = model()  # never sparsified, with the same weights
    names = attached(plain).keys()
    plain.load_state_dict(found.state_dict())
    expected = outputs(plain)
    for each in copies:
        assert isinstance(each, Small)
        assert attached(each).keys() == names
        assert_plain(each, expected)
    assert all(torch.equal(one, other) for one, other in zip(before, found.parameters(), strict=True))


def test_every_penalty_is_met_by_some_strategy():
    taken = {penalty for case in CASES.values() if case.takes_penalty for penalty in {*NAMES} - case.refuses}
    assert {penalty for _, penalty, _, _ in COMBINATIONS} == taken


def test_pairs_meet_and_are_few():
    chosen = pairwise("abcd", range(5), "xyz", allowed=lambda *which: which[:2] != ("a", 3))
    assert {which[:2] for which in chosen} == {(a, b) for a in "abcd" for b in range(5)} - {("a", 3)}
    assert {which[1:] for which in chosen} == {(b, c) for b in range(5) for c in "xyz"}
    assert {which[::2] for which in chosen} == {(a, c) for a in "abcd" for c in "xyz"}
    assert len(chosen) < 30
    assert len(pairwise("abcd", range(5), whole=True)) == 20
