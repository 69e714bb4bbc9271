"""A run ends where nothing improves any more."""

import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.small_runs import Crash, Line, at_step, crash, metrics, options
from tests.training.strategies import Plane, proximal
from unrolled.training import Loop
from unrolled.training.runs.checkpoint import load_checkpoint, write_checkpoint

SCORES = [1.0, 2.0, 2.05, 1.5, float("nan"), 2.08, 3.0, 2.0, 2.0, 2.0, 2.0, 2.0]


class Scored(Line):
    """A task whose validations have stated scores, a step each."""

    def __init__(self, scores=SCORES):
        torch.manual_seed(0)
        super().__init__()
        self.scores, self.steps = scores, []

    def batch(self, step, size, part=None):
        self.steps.append(step)
        return super().batch(step, size, part)

    def validate(self, model):
        return {"fit": self.scores[self.steps[-1] if self.steps else -1]}

    def save(self, model, path, card):
        save_file({"best": torch.tensor(card["validation"]["fit"])}, path)


def run(folder, resume=False, scores=SCORES, **changes):
    task = Scored(scores)
    loop = Loop(task, options(steps=12, validations=12, **changes), folder, progress=False)
    loop.run(resume)
    return loop.progress.step


@pytest.mark.parametrize(
    ("patience", "improvement", "end"),
    [
        (None, 0.0, 12),
        (1, 0.0, 4),  # 1.5 is no better than 2.05
        (2, 0.0, 5),  # and NaN is none at all
        (3, 0.0, 10),  # 2.08 is better, then 3.0, which nothing reaches
        (3, 0.1, 5),  # 2.05 is not better by 0.1 than 2.0
        (4, 0.1, 6),
        (5, 0.1, 12),
        (1, 5.0, 2),
    ],
)
def test_it_ends_after_so_many_validations_without_improvement(patience, improvement, end, tmp_path):
    assert run(tmp_path, patience=patience, min_improvement=improvement) == end
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, end + 1))
    assert {line["steps"] for line in lines} == {12}
    best = max(score for score in SCORES[:end] if score == score)
    state = load_checkpoint(tmp_path / "last.pt")
    assert (state["step"], state["best"]) == (end, best)
    assert float(load_file(tmp_path / "best.safetensors")["best"]) == pytest.approx(best)


def test_a_killed_run_ends_where_it_would_have_ended(tmp_path, monkeypatch):
    run(tmp_path / "straight", patience=3)
    with monkeypatch.context() as patch:
        at_step(patch, 8, crash)
        with pytest.raises(Crash):
            run(tmp_path / "killed", patience=3)
    assert run(tmp_path / "killed", resume=True, patience=3) == 10
    assert metrics(tmp_path / "straight") == metrics(tmp_path / "killed")


def test_a_run_that_ended_stays_so_unless_there_is_more_patience(tmp_path):
    run(tmp_path, patience=1)
    assert run(tmp_path, resume=True, patience=1) == 4
    assert len(metrics(tmp_path)) == 4
    with pytest.warns(UserWarning, match="patience was 1 and is 2"):
        assert run(tmp_path, resume=True, patience=2) == 5
    with pytest.warns(UserWarning, match="patience was 2 and is None"):
        assert run(tmp_path, resume=True) == 12


def test_a_checkpoint_from_before_there_was_patience_goes_on(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 3, crash)
        with pytest.raises(Crash):
            run(tmp_path)
    state = load_checkpoint(tmp_path / "last.pt")
    for name in ("waited", "to_beat"):
        del state[name]
    for name in ("patience", "min_improvement", "accumulate", "train_only", "freeze", "rates"):
        del state["options"][name]
    write_checkpoint(tmp_path / "last.pt", state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(tmp_path, resume=True) == 12


def test_with_a_sparsifier_only_fine_tuning_ends_early(tmp_path):
    few = options(steps=40, validations=40, batch=8, learning_rate=1e-9, patience=2)
    loop = Loop(Plane(), few, tmp_path, progress=False, sparsifier=proximal)
    figures = loop.run()
    assert 24 <= loop.progress.step < 40  # fine tuning begins after three fifths of the steps
    assert figures["sparse_fit"] == figures["sparse_fit"]
    assert (tmp_path / "sparsity.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patience": 0}, "patience must be a number > 0"),
        ({"patience": 1.5}, "patience must be a whole number"),
        ({"min_improvement": -0.1}, "min_improvement must be in"),
        ({"min_improvement": float("nan")}, "min_improvement must be in"),
    ],
)
def test_bad_options_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        options(**changes)
