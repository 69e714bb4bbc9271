"""A device may decide by itself whether a batch is learned from; the host then looks at the numbers one step late.

It is so on CUDA. Here the same is done on the CPU, whose fused optimisers can be told on the device, too.
"""

import pytest
import torch
from torch.utils import deterministic

from tests.helpers import NeverWaits
from tests.pairs import FULL
from tests.training.small_runs import (
    HELD_OUT,
    IMAGES,
    Line,
    assert_a_crash_does_no_harm,
    fit,
    metrics,
    options,
    pieces,
    poisoned,
    tensors,
)
from unrolled.data import RandomCrops
from unrolled.training import Loop, ReconstructionTask, TrainingError, loop, optimizers
from unrolled.training.runs.checkpoint import load_checkpoint
from unrolled.training.updates import UpdatesOnDevice

OPTIMIZERS = {
    "adam": {},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.01},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.01},
    "sgd without momentum": {"optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.0},
}


@pytest.fixture
def late(monkeypatch):
    """The device decides."""
    monkeypatch.setattr(loop, "can_decide", lambda *_: True)


@pytest.mark.parametrize("name", OPTIMIZERS if FULL else ["adam", "sgd"])
def test_what_the_device_decides_is_what_the_host_decides(name, tmp_path, monkeypatch):
    training = options(**OPTIMIZERS[name])
    with monkeypatch.context() as patch:  # the same kernels, but the host decides
        patch.setattr(loop, "make_optimizer", lambda *a, fused: optimizers.make_optimizer(*a, fused=True))
        fit(tmp_path / "host", loss=poisoned, training=training)
    monkeypatch.setattr(loop, "can_decide", lambda *_: True)
    fit(tmp_path / "device", loss=poisoned, training=training)
    states = [load_checkpoint(tmp_path / where / "last.pt") for where in ("host", "device")]
    assert 2 <= states[0]["skipped"] == states[1]["skipped"]
    assert states[0]["smooth_loss"] == states[1]["smooth_loss"]
    for part in ("model", "optimizer"):
        assert all(map(torch.equal, tensors(states[0][part]), tensors(states[1][part])))
    torch.testing.assert_close(tensors(states[0]["average"]), tensors(states[1]["average"]))
    for one, other in zip(metrics(tmp_path / "host"), metrics(tmp_path / "device"), strict=True):
        assert other == pytest.approx(one, rel=1e-5)


def test_a_killed_run_goes_on_bit_for_bit_and_another_device_may_take_over(late, tmp_path, monkeypatch):
    assert_a_crash_does_no_harm(tmp_path, monkeypatch)
    for late_now in (False, True):  # and back
        monkeypatch.setattr(loop, "can_decide", lambda *_, late=late_now: late)
        (tmp_path / "run" / "last.pt").write_bytes((tmp_path / "run" / "previous.pt").read_bytes())
        fit(tmp_path / "run", loss=poisoned, resume=True)
        state = load_checkpoint(tmp_path / "run" / "last.pt")
        assert state["optimizer"]["param_groups"][0]["fused"] is (True if late_now else None)
        torch.testing.assert_close(state["model"], load_checkpoint(tmp_path / "straight" / "last.pt")["model"])


def test_many_in_a_row_stop_the_run_one_step_late(late, tmp_path):
    calls = []

    def loss(image, truth):
        calls.append(1)
        return (image - truth).square().mean() * (float("nan") if len(calls) > 6 else 1)

    with pytest.raises(TrainingError, match=r"at step 8, and 3 batches .* keeps the checkpoint of step 0"):
        fit(tmp_path / "run", loss=loss, training=options(validations=1, nan_limit=3))
    assert len(calls) == 10
    assert load_checkpoint(tmp_path / "run" / "last.pt")["skipped"] == 0


class Spoiled(Line):
    """The first batches are bad, and so is another one."""

    def __init__(self):
        self.model = torch.nn.Sequential(torch.nn.BatchNorm1d(1), torch.nn.Linear(1, 1))

    def batch(self, step, size, part=None):
        return super().batch(step, size) * (float("nan") if step in (0, 1, 5) else 1)

    def validate(self, model):
        return {"fit": 0.0}


def test_bad_batches_leave_no_trace_in_memories_that_do_not_exist_yet(late, tmp_path, monkeypatch):
    monkeypatch.setattr(deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)  # memory that nothing was written to is NaN
    try:
        task = Spoiled()
        Loop(task, options(optimizer="sgd"), tmp_path, progress=False).run()
    finally:
        torch.use_deterministic_algorithms(False)
    assert task.model[0].num_batches_tracked == 9
    assert all(torch.isfinite(value).all() for value in task.model.state_dict().values())
    assert load_checkpoint(tmp_path / "last.pt")["average"]["n_averaged"] == 9


@pytest.mark.device
def test_no_step_waits_for_the_device(late, tmp_path):
    task = ReconstructionTask(*pieces(), RandomCrops(IMAGES, 22), [HELD_OUT[0][:, :33, :44]])
    run = Loop(task, options(bfloat16=True), tmp_path, progress=False)
    assert isinstance(run.updates, UpdatesOnDevice)
    with NeverWaits():
        for _ in range(3):
            run._one_step(lambda batch, step: task.loss(task.model, batch, step))
    assert run.progress.smooth_loss > 0
    assert [outcome.step for outcome in run.updates.settle()] == [2]
