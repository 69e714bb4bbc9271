"""A run goes on only as the run that it was."""

import pytest

import unrolled
from tests.training.small_runs import IMAGES, Crash, Line, at_step, crash, fit, options
from unrolled.networks import EPGN
from unrolled.training import Loop
from unrolled.training.runs.checkpoint import load_checkpoint, write_checkpoint


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
    [("facts", None), ("options", [1]), ("model", 3), ("optimizer", {}), ("average", {"a": 1}), ("step", "4")],
)
def test_a_whole_checkpoint_with_wrong_contents_is_refused(finished, name, value):
    last = finished / "last.pt"
    write_checkpoint(last, {**load_checkpoint(last), name: value})
    with pytest.raises(ValueError, match=f"resume: .*run (is damaged: {name} is|belongs to another model or task)"):
        fit(finished, resume=True)
