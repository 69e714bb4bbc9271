"""Optimisers and schedules: what is asked for, and that a run with any of them can be resumed."""

import itertools
import json

import pytest
import torch
from torch import nn

from tests.training.small_runs import options
from tests.training.strategies import Plane, assert_a_crash_changes_nothing, scaled, train_plane
from unrolled import TrainingOptions
from unrolled.training import Loop
from unrolled.training.optimizers import make_optimizer
from unrolled.training.options import CLOCKS
from unrolled.training.runs.checkpoint import load_checkpoint, write_checkpoint

NAMES = ("adam", "adamw", "sgd")


def test_by_default_it_is_adam_as_torch_has_it():
    model = Plane().model
    made, plain = make_optimizer(options(), model, []), torch.optim.Adam(model.parameters(), lr=1e-3)
    assert type(made) is torch.optim.Adam
    assert made.state_dict() == plain.state_dict()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"optimizer": "adamw"}, lambda parameters: torch.optim.AdamW(parameters, weight_decay=0.1)),
        ({"optimizer": "adam"}, lambda parameters: torch.optim.Adam(parameters, weight_decay=0.1)),
        ({"optimizer": "sgd"}, lambda parameters: torch.optim.SGD(parameters, momentum=0.9, weight_decay=0.1)),
        (
            {"optimizer": "sgd", "momentum": 0.5, "nesterov": True},
            lambda parameters: torch.optim.SGD(parameters, momentum=0.5, nesterov=True, weight_decay=0.1),
        ),
    ],
)
def test_a_run_is_that_of_torchs_optimiser(changes, expected, tmp_path):
    flat = {"schedule": "steps", "milestones": [0.99], "warmup": 0, "clip": None, "average": 0.0, "learning_rate": 0.05}
    found = train_plane(tmp_path, weight_decay=0.1, decay_all=True, **flat, **changes)
    task = Plane()
    optimizer = expected(task.model.parameters())
    for group in optimizer.param_groups:
        group["lr"] = 0.05
    for step in range(12):
        task.loss(task.model.train(), task.batch(step, 8), step).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(map(torch.equal, found.state_dict().values(), task.model.state_dict().values()))


def test_decay_spares_biases_norms_and_single_numbers():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LayerNorm((2, 4, 4)), nn.Linear(4, 1), nn.PReLU())
    learned = [nn.Parameter(torch.ones(2, 2))]
    model[3].bias.requires_grad = False
    groups = make_optimizer(options(weight_decay=0.1), model, learned).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [(group["weight_decay"], [names.get(id(parameter)) for parameter in group["params"]]) for group in groups]
    spared = ["0.bias", "1.weight", "1.bias", "2.weight", "2.bias", "4.weight"]
    assert found == [(0.1, ["0.weight", "3.weight"]), (0.0, spared), (0.0, [None])]
    everything = make_optimizer(options(weight_decay=0.1, decay_all=True), model, learned).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in everything] == [(0.1, 8), (0.0, 1)]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_any_optimiser_can_be_resumed(name, tmp_path, monkeypatch):
    changes = {"optimizer": name, "weight_decay": 0.01, "schedule": "steps", "milestones": [0.3, 0.7]}
    assert_a_crash_changes_nothing(tmp_path, monkeypatch, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "sgd"}, "optimizer must be that of the run in .*, adam, got sgd"),
        ({"weight_decay": 0.1}, r"weight_decay must be that of the run in .*, 0\.0, got 0\.1"),
        ({"momentum": 0.5}, r"momentum must be that of the run in .*, 0\.9, got 0\.5"),
    ],
)
def test_a_run_keeps_its_optimiser(changes, message, tmp_path):
    train_plane(tmp_path)
    with pytest.raises(ValueError, match=f"resume: {message}"):
        train_plane(tmp_path, resume=True, **changes)


def test_another_schedule_is_said(tmp_path):
    train_plane(tmp_path)
    with pytest.warns(UserWarning, match=r"schedule was cosine and is steps; milestones was \[\] and is \[0.5\]"):
        train_plane(tmp_path, resume=True, schedule="steps", milestones=(0.5,))


def test_a_checkpoint_from_before_these_options_can_be_resumed(tmp_path):
    train_plane(tmp_path)
    state = load_checkpoint(tmp_path / "last.pt")
    for name in ("optimizer", "momentum", "nesterov", "weight_decay", "decay_all", "schedule", "milestones", "factor"):
        del state["options"][name]
    del state["facts"]["sparsifier"], state["sparsifier"]
    write_checkpoint(tmp_path / "last.pt", state)
    train_plane(tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"optimizer must be that of the run in .*, adam, got adamw"):
        train_plane(tmp_path, resume=True, optimizer="adamw")


def test_the_linear_schedule_falls_in_a_line():
    schedule = TrainingOptions(steps=110, learning_rate=1.0, warmup=10, final_rate=0.2, schedule="linear")
    rates = torch.tensor([schedule.rate(step, 110) for step in range(10, 111)], dtype=torch.float64)
    torch.testing.assert_close(rates, torch.linspace(1, 0.2, 101, dtype=torch.float64))
    assert schedule.rate(0, 110) == pytest.approx(1 / 11)


def test_the_schedule_of_steps_falls_at_its_milestones():
    schedule = TrainingOptions(
        epochs=1, learning_rate=1.0, warmup=2, schedule="steps", milestones=[0.1, 0.5], factor=0.5
    )
    rates = [schedule.rate(step, 30) for step in range(30)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert rates[2:] == [1.0] + 12 * [0.5] + 15 * [0.25]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "lion"}, "optimizer must be 'adam' or 'adamw' or 'sgd', got 'lion'"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"nesterov": True}, "nesterov needs the optimizer 'sgd' and a momentum > 0"),
        ({"nesterov": True, "optimizer": "sgd", "momentum": 0.0}, "nesterov needs"),
        ({"weight_decay": -1.0}, r"weight_decay must be in \[0, 1e\+15\], got -1.0"),
        ({"weight_decay": float("nan")}, "weight_decay must be"),
        ({"schedule": "exponential"}, "schedule must be 'cosine' or 'linear' or 'steps', got 'exponential'"),
        ({"schedule": "steps"}, r"milestones belong to the schedule 'steps', which needs at least one: got \[\]"),
        ({"milestones": [0.5]}, r"milestones belong .* got \[0.5\] with the schedule 'cosine'"),
        ({"schedule": "steps", "milestones": [0.5, 0.2]}, r"milestones must rise .*, got \[0.5, 0.2\]"),
        ({"schedule": "steps", "milestones": [0.5, 1.0]}, r"in \(0, 1\), got \[0.5, 1.0\]"),
        ({"schedule": "steps", "milestones": [100, 150]}, r"parts of the run in \(0, 1\), got \[100, 150\]"),
        ({"factor": 1.0}, r"factor must be in \(0, 1\), got 1.0"),
    ],
)
def test_bad_options_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        options(**changes)


@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_trains_with_a_sparsifier(name, tmp_path):
    few = options(steps=12, batch=8, learning_rate=0.05, optimizer=name, weight_decay=0.01)
    figures = Loop(Plane(), few, tmp_path, progress=False, sparsifier=scaled).run()
    assert 0.3 < figures["sparsity"] < 0.7


def test_minutes_are_those_of_the_clock_that_is_asked_for(tmp_path, monkeypatch):
    """By a clock that goes on by a second whenever it is looked at, a step and a validation take one each."""
    seconds = itertools.count()
    monkeypatch.setitem(CLOCKS, "process", lambda: next(seconds))
    plan = TrainingOptions(minutes=1, clock="process", batch=2, validations=2)
    task = Plane()
    Loop(task, plan, tmp_path, progress=False).run()
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["steps"] == 60 - 2
    assert last["seconds"] == 60
    with pytest.raises(ValueError, match="clock must be 'wall' or 'process', got 'sun'"):
        TrainingOptions(minutes=1, clock="sun")
