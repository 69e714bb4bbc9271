"""Parts of a model: which are trained, and at which rates."""

import pytest
import torch
from torch import nn

import unrolled
from tests.training.small_runs import Line, fit, options, pieces
from tests.training.strategies import Plane, assert_a_crash_changes_nothing, train_plane
from unrolled.penalties import L1
from unrolled.sparsify import ProximalStep
from unrolled.training import Loop
from unrolled.training.runs.checkpoint import load_checkpoint


def changed(before, model) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("changes", "moving"),
    [
        ({"train_only": ["3.*"]}, {"3.weight", "3.bias"}),
        ({"train_only": "3.bias"}, {"3.bias"}),
        ({"freeze": ["0.*", "1.*"]}, {"3.weight", "3.bias"}),
        ({"train_only": ["*.weight"], "freeze": ["0.*"]}, {"1.weight", "3.weight"}),
        ({"freeze": ["0.weight"]}, {"0.bias", "1.weight", "1.bias", "3.weight", "3.bias"}),
    ],
)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_what_stands_still_keeps_its_bits(changes, moving, optimizer, tmp_path):
    task = Plane()
    before = state_of(task.model)
    train_plane(tmp_path, task=task, optimizer=optimizer, weight_decay=0.1, **changes)
    norm = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    stands = "1.weight" not in moving and "1.bias" not in moving
    assert changed(before, task.model) == (moving if stands else moving | norm)
    average = load_checkpoint(tmp_path / "last.pt")["average"]
    for name in set(before) - moving - norm:
        assert torch.equal(average[f"module.{name}"], before[name])
    assert all(parameter.requires_grad for parameter in task.model.parameters())  # nothing is left frozen


def test_what_was_frozen_before_stays_frozen(tmp_path):
    task = Plane()
    task.model[0].requires_grad_(False)
    before = state_of(task.model)
    train_plane(tmp_path, task=task, freeze=["0.bias", "1.*"])
    assert changed(before, task.model) == {"3.weight", "3.bias"}
    assert [name for name, each in task.model.named_parameters() if not each.requires_grad] == ["0.weight", "0.bias"]


def test_rates_are_those_of_torchs_groups(tmp_path):
    flat = {"schedule": "steps", "milestones": [0.99], "warmup": 0, "clip": None, "average": 0.0}
    found = train_plane(tmp_path, rates={"3.*": 0.1, "*.bias": 0.5}, **flat)
    task = Plane()
    named = dict(task.model.named_parameters())
    factors = {"3.weight": 0.1, "3.bias": 0.1, "0.bias": 0.5, "1.bias": 0.5}  # the first pattern counts
    optimizer = torch.optim.Adam(
        [{"params": [each], "lr": 0.05 * factors.get(name, 1.0)} for name, each in named.items()]
    )
    for step in range(12):
        task.loss(task.model.train(), task.batch(step, 8), step).backward()
        optimizer.step()
        optimizer.zero_grad()
    for one, other in zip(found.state_dict().values(), task.model.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_run_of_parts_can_be_resumed_and_keeps_them(tmp_path, monkeypatch):
    changes = {"freeze": ["0.*"], "rates": {"3.*": 0.1}}
    assert_a_crash_changes_nothing(tmp_path, monkeypatch, **changes)
    for name, other in (("freeze", []), ("rates", {"3.*": 0.5}), ("train_only", ["3.*"])):
        with pytest.raises(ValueError, match=f"resume: {name} must be that of the run"):
            train_plane(tmp_path / "killed", resume=True, **{**changes, name: other})


def test_parts_of_shipped_weights_are_trained_on(tmp_path):
    network, operator = pieces()
    before = state_of(network)
    fit(tmp_path / "run", network=network, operator=operator, training=options(train_only=["network.*.raw_*"]))
    moved = changed(before, network)
    assert moved
    assert all(".raw_" in name for name in moved)
    assert unrolled.load(tmp_path / "run" / "best.safetensors")[0].parameter_count == network.parameter_count


def test_a_sparsifier_leaves_alone_what_is_frozen(tmp_path):
    task = Plane()
    before = state_of(task.model)
    few = options(batch=8, learning_rate=0.05, freeze=["0.weight"])
    Loop(task, few, tmp_path, progress=False, sparsifier=lambda model: ProximalStep(model, L1(), 0.5)).run()
    assert torch.equal(task.model[0].weight, before["0.weight"])
    assert not torch.equal(task.model[3].weight, before["3.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": ["layers.*"]}, r"freeze: 'layers.\*' fits no parameter; there are 0.weight, 0.bias"),
        ({"train_only": ["3.weight", "4.weight"]}, "train_only: '4.weight' fits no parameter; there are 3.weight"),
        ({"rates": {"5.*": 0.1}}, r"rates: '5.\*' fits no parameter"),
        ({"train_only": ["3.*"], "freeze": ["3.*"]}, "train_only and freeze leave nothing to train"),
        ({"freeze": ["*"]}, "train_only and freeze leave nothing to train"),
        ({"rates": {"3.*": 0.0}}, r"rates must be factors > 0, at most 1e\+15, got 3.\*: 0.0"),
        ({"rates": {"3.*": "fast"}}, "rates must be factors > 0"),
        ({"rates": {"9.*": 0.1}, "freeze": ["0.*"]}, r"rates: '9.\*' fits no parameter"),
        ({"rates": None}, "rates must be factors by patterns of names, got None"),
        ({"freeze": [0]}, r"freeze must be a list of patterns of names, got \[0\]"),
        ({"train_only": None}, "train_only must be a list of patterns"),
    ],
)
def test_patterns_that_fit_nothing_are_named_with_what_there_is(changes, message, tmp_path):
    task = Plane()
    with pytest.raises(ValueError, match=f"training: {message}"):
        train_plane(tmp_path, task=task, **changes)
    assert all(parameter.requires_grad for parameter in task.model.parameters())


def test_names_of_alike_parts_are_said_once(tmp_path):
    class Deep(Line):
        def __init__(self):
            self.model = nn.Sequential(*(nn.Sequential(nn.Linear(1, 1)) for _ in range(30)))

    with pytest.raises(ValueError, match=r"there are 0.\*.weight, 0.\*.bias") as error:
        train_plane(tmp_path, task=Deep(), freeze=["w"])
    assert len(str(error.value)) < 300
