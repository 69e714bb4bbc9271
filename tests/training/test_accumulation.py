"""The gradient of a batch, part by part: that of the whole."""

import functools
from contextlib import contextmanager

import pytest
import torch

from tests.training.small_runs import (
    DoubleTask,
    Line,
    assert_same_end,
    crash_and_resume,
    fit,
    metrics,
    options,
    run_together,
    tensors,
)
from unrolled.training import Loop, distributed
from unrolled.training.runs.checkpoint import load_checkpoint


class Wide(Line):
    """A line by batches of which parts can be drawn; some are spoiled on request."""

    spoiled = False

    def __init__(self):
        torch.manual_seed(0)
        self.model = torch.nn.Linear(1, 1).double()
        self.seen = []

    def batch(self, step, size, part=None):
        self.seen.append((step, part))
        x = torch.randn(size, 1, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        bad = self.spoiled and step in (3, 7)
        x[-1] *= float("nan") if bad else 1  # in the last part alone
        return x if part is None else x[part.start : part.stop]


def trained(folder, task=None, resume=False, **changes):
    task = task or Wide()
    Loop(task, options(**{"batch": 12, "learning_rate": 0.05, "clip": 0.5, **changes}), folder, progress=False).run(
        resume
    )
    return task


def assert_alike(one, other, tolerance=1e-12):
    states = [load_checkpoint(folder / "last.pt") for folder in (one, other)]
    for part in ("model", "average", "optimizer"):
        for a, b in zip(tensors(states[0][part]), tensors(states[1][part]), strict=True):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    for a, b in zip(metrics(one), metrics(other), strict=True):
        assert a == pytest.approx(b, rel=1e-9)


@pytest.mark.parametrize("count", [2, 3, 12])
def test_it_is_the_larger_batch(count, tmp_path):
    whole = trained(tmp_path / "whole", schedule="steps", milestones=[0.5])
    parted = trained(tmp_path / "parted", schedule="steps", milestones=[0.5], accumulate=count)
    assert_alike(tmp_path / "whole", tmp_path / "parted")
    assert {part for _, part in whole.seen} == {None}
    size = 12 // count
    assert [part for step, part in parted.seen if step == 5] == [
        range(first, first + size) for first in range(0, 12, size)
    ]


def test_a_part_that_is_spoiled_spoils_the_step(tmp_path):
    for name, count in (("whole", 1), ("parted", 4)):
        task = Wide()
        task.spoiled = True
        trained(tmp_path / name, task, accumulate=count)
    assert_alike(tmp_path / "whole", tmp_path / "parted")
    assert metrics(tmp_path / "parted")[-1]["skipped"] == 2


def test_a_killed_run_goes_on_bit_for_bit_and_with_other_parts(tmp_path, monkeypatch):
    often = options(accumulate=2, checkpoint_minutes=1e-9)
    fit(tmp_path / "straight", training=often)
    crash_and_resume(functools.partial(fit, tmp_path / "run", training=often), monkeypatch)
    assert_same_end(tmp_path / "straight", tmp_path / "run")
    (tmp_path / "run" / "last.pt").write_bytes((tmp_path / "run" / "previous.pt").read_bytes())
    with pytest.warns(UserWarning, match="resume: accumulate was 2 and is 1"):
        fit(tmp_path / "run", training=options(checkpoint_minutes=1e-9), resume=True)


def whole_and_parted(folder):
    """A run of two processes in float64, each of which accumulates two parts; `alone` if there is one process."""
    with distributed.joined(torch.device("cpu")):
        task, name = DoubleTask(), "together" if distributed.size() > 1 else "alone"
        parts = 2 if distributed.size() > 1 else 1
        few = options(batch=8, steps=6, validations=2, accumulate=parts, checkpoint_minutes=60)
        Loop(task, few, folder / name, progress=False).run()


@pytest.mark.full
def test_two_processes_of_two_parts_are_one_of_one(tmp_path):
    whole_and_parted(tmp_path)
    run_together(whole_and_parted, tmp_path)
    assert_alike(tmp_path / "alone", tmp_path / "together", 1e-9)


def test_gradients_are_exchanged_in_the_last_part_alone(tmp_path, monkeypatch):
    held, exchanged = [], []

    class Wrapped:
        @contextmanager
        def no_sync(self):
            held.append(True)
            yield
            held.pop()

        def __call__(self, batch, step):
            exchanged.append(not held)
            return task.loss(task.model, batch, step)

    task = Wide()
    run = Loop(task, options(batch=12, accumulate=3), tmp_path, progress=False)
    for _ in range(2):
        run._one_step(distributed._Together([Wrapped()]))
    assert exchanged == [False, False, True] * 2


def test_parts_that_are_not_equal_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="accumulate must divide batch, 12, into equal parts, got 5"):
        options(batch=12, accumulate=5)
    with pytest.raises(ValueError, match="accumulate must be a number > 0"):
        options(accumulate=0)
    monkeypatch.setattr(distributed, "size", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert distributed.parts(12, 3) == [range(6, 8), range(8, 10), range(10, 12)]
    with pytest.raises(ValueError, match="accumulate must divide the 6 samples of a process into equal parts, got 4"):
        distributed.parts(12, 4)
