"""A run goes on only as the run that it was."""

import itertools
import json
import time

import pytest
import torch

import unrolled
from tests.training.small_runs import IMAGES, Crash, Line, at_step, crash, fit, options
from unrolled.networks import EPGN
from unrolled.training import Loop
from unrolled.training.runs.checkpoint import load_checkpoint, write_checkpoint
from unrolled.training.runs.progress import Progress
from unrolled.training.runs.run_folder import METRICS


def test_the_steps_of_a_run_by_time_are_fixed_once(tmp_path, monkeypatch):
    def run(resume):
        Loop(Line(), options(steps=None, minutes=0.01, validations=1), tmp_path, progress=False).run(resume)

    with monkeypatch.context() as patch:
        at_step(patch, 20, crash)
        with pytest.raises(Crash):
            run(resume=False)
    state = load_checkpoint(tmp_path / "last.pt")
    assert state["step"] == 20
    run(resume=True)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == state["steps"] > 20


def test_a_run_by_time_that_ended_before_its_steps_were_known_goes_on_by_steps(tmp_path, monkeypatch):
    def run(resume, **budget):
        loop = Loop(Line(), options(validations=1, **budget), tmp_path, progress=False)
        loop.run(resume)
        return loop.progress

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "learned_from", lambda self, loss: crash() if self.step == 3 else None)
        patch.setattr(Loop, "_checkpoint_is_old", lambda self: True)
        with pytest.raises(Crash):
            run(False, steps=None, minutes=1)
    assert load_checkpoint(tmp_path / "last.pt")["steps"] is None
    progress = run(True, steps=30)
    assert (progress.step, progress.steps, progress.is_over) == (30, 30, True)


def test_a_clock_that_jumps_changes_no_time_of_a_run(tmp_path, monkeypatch):
    jumps = itertools.cycle([0, 1e9, -1e9])
    monkeypatch.setattr(time, "time", lambda: 2e9 + next(jumps))
    Loop(Line(), options(), tmp_path, progress=False).run()
    assert all(0 <= line["seconds"] < 100 for line in map(json.loads, (tmp_path / METRICS).read_text().splitlines()))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"network": EPGN(2, 4)}, "network must be"),
        ({"operator": unrolled.operators.BlockCompressedSensing(ratio=0.1, block=11)}, "operator must be"),
        ({"seed": 7}, "seed must be that of the run in .*, 0, got 7"),
        ({"training": options(batch=3)}, "batch must be that of the run in .*, 2, got 3"),
    ],
)
def test_a_run_goes_on_only_with_what_it_was_started_with(changes, named, finished):
    with pytest.raises(ValueError, match=f"resume: {named}"):
        fit(finished, resume=True, **changes)


def test_what_else_changed_is_said(finished):
    with pytest.warns(UserWarning, match="resume: learning_rate was 0.001 and is 0.5"):
        fit(finished, training=options(learning_rate=0.5), resume=True)
    with pytest.warns(UserWarning, match="resume: the run keeps its 12 steps"):
        fit(finished, training=options(steps=99), resume=True)
    with pytest.warns(UserWarning, match=r"resume: the data were .* samples"):
        fit(finished, dataset=IMAGES[:2], resume=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", -1),
        ("step", 13),
        ("facts", None),
        ("options", [1]),
        ("model", 3),
        ("optimizer", {}),
        ("average", {"a": 1}),
        ("step", "4"),
    ],
)
def test_a_whole_checkpoint_with_wrong_contents_is_refused(finished, name, value):
    last = finished / "last.pt"
    write_checkpoint(last, {**load_checkpoint(last), name: value})
    with pytest.raises(ValueError, match=f"resume: .*run (is damaged: {name} is|belongs to another model or task)"):
        fit(finished, resume=True)


def test_a_whole_checkpoint_with_another_state_of_the_optimiser_is_refused(finished):
    last = finished / "last.pt"
    state = load_checkpoint(last)["optimizer"]
    group, first = state["param_groups"][0], state["state"][0]
    for entries, groups, named in (
        (
            {0: {**first, "exp_avg": torch.zeros(3)}},
            [group],
            r"exp_avg of the optimiser's state is \(3,\) and should be",
        ),
        ({0: {**first, "step": "1"}}, [group], "step of the optimiser's state is '1' and should be"),
        ({0: {"step": first["step"]}}, [group], "holds .'step'. and should hold"),
        ({99: first}, [group], "belongs to another model or task"),
        (state["state"], [], "other groups of parameters"),
        (state["state"], [{**group, "betas": "x"}], "betas is 'x' and should be"),
    ):
        write_checkpoint(last, {**load_checkpoint(last), "optimizer": {"state": entries, "param_groups": groups}})
        with pytest.raises(ValueError, match=f"resume: .*{named}"):
            fit(finished, resume=True)


def test_options_that_a_checkpoint_cannot_have_are_refused(finished):
    last = finished / "last.pt"
    state = load_checkpoint(last)
    write_checkpoint(last, {**state, "options": {**state["options"], "warmup": "long"}})
    with pytest.raises(ValueError, match="warmup must be a whole number, got 'long'"):
        fit(finished, resume=True)
