"""A batch whose loss or gradient is not finite changes nothing but the count of such batches."""

import pytest
import torch

import unrolled
from tests.training.small_runs import (
    Line,
    assert_a_crash_does_no_harm,
    fit,
    metrics,
    options,
    pieces,
    poisoned,
    tensors,
)
from unrolled.training import Loop, TrainingError
from unrolled.training.runs.checkpoint import load_checkpoint


def test_a_batch_of_nan_changes_nothing_but_the_count(tmp_path, monkeypatch):
    unchanged, one_step = [], Loop._one_step

    def watched(self, loss_of):
        def all_tensors():
            return tensors([self.task.model.state_dict(), self.average.state_dict(), self.optimizer.state_dict()])

        before, skipped, step = [tensor.clone() for tensor in all_tensors()], self.progress.skipped, self.progress.step
        one_step(self, loss_of)
        assert self.progress.step == step + 1
        same = len(before) == len(all_tensors()) and all(map(torch.equal, before, all_tensors()))
        assert same == (self.progress.skipped == skipped + 1)
        unchanged.append(same)

    monkeypatch.setattr(Loop, "_one_step", watched)
    fit(tmp_path / "run", loss=poisoned)
    assert 2 <= sum(unchanged) <= 10
    assert metrics(tmp_path / "run")[-1]["skipped"] == sum(unchanged)


def test_skipped_batches_are_counted_alike_after_a_resume(tmp_path, monkeypatch):
    assert_a_crash_does_no_harm(tmp_path, monkeypatch)


def test_many_in_a_row_stop_the_run_and_the_last_good_weights_stay(tmp_path):
    calls = []

    def loss(image, truth):
        calls.append(1)
        return (image - truth).square().mean() * (float("nan") if len(calls) > 6 else 1)

    with pytest.raises(
        TrainingError, match=r"loss became nan at step 8, and 3 batches .* keeps the checkpoint of step 6"
    ):
        fit(tmp_path / "run", loss=loss, training=options(validations=1, nan_limit=3, checkpoint_minutes=1e-9))
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    assert (state["step"], state["skipped"]) == (6, 0)
    assert all(torch.isfinite(tensor).all() for tensor in tensors(state["model"]))


def test_a_gradient_of_nan_is_skipped_too(tmp_path):
    calls = []

    class Poisoned(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            calls.append(1)
            return gradient * (float("nan") if len(calls) == 4 else 1)  # in the step before a validation

    def loss(image, truth):
        return (Poisoned.apply(image) - truth).square().mean()

    fit(tmp_path / "run", loss=loss)
    assert [line["skipped"] for line in metrics(tmp_path / "run")] == [1, 1, 1]
    unrolled.load(tmp_path / "run" / "best.safetensors")
    calls.clear()
    with pytest.raises(TrainingError, match="norm of the gradient became nan at step 3"):
        fit(tmp_path / "strict", loss=loss, training=options(nan_limit=1))


def test_a_network_that_gives_nan_in_bfloat16_for_a_while_goes_on(tmp_path):
    network, operator = pieces()
    calls = []

    def spoil(module, inputs, output):
        calls.append(1)
        return output * float("nan") if module.training and 6 < len(calls) < 9 else output

    network.register_forward_hook(spoil)
    fit(tmp_path / "run", network=network, operator=operator, training=options(bfloat16=True))
    assert metrics(tmp_path / "run")[-1]["skipped"] == 2
    assert all(torch.isfinite(tensor).all() for tensor in tensors(load_checkpoint(tmp_path / "run" / "last.pt")))


def test_a_validation_of_nan_is_not_the_best_and_does_not_hide_the_best(tmp_path):
    class Blind(Line):
        def validate(self, model):
            return {"fit": float("nan")} if not list(tmp_path.glob("metrics.jsonl")) else super().validate(model)

    Loop(Blind(), options(), tmp_path, progress=False).run()
    assert metrics(tmp_path)[0]["fit"] is None
    assert load_checkpoint(tmp_path / "last.pt")["best"] == max(line["fit"] for line in metrics(tmp_path)[1:])
    assert (tmp_path / "best.safetensors").exists()


def test_a_skipped_batch_leaves_no_trace_in_running_statistics(tmp_path):
    class Normalised(Line):
        def __init__(self):
            self.model = torch.nn.Sequential(torch.nn.BatchNorm1d(1), torch.nn.Linear(1, 1))

        def batch(self, step, size, part=None):
            return super().batch(step, size) * (float("nan") if step == 5 else 1)

        def validate(self, model):
            return {"fit": 0.0}

    task = Normalised()
    Loop(task, options(), tmp_path, progress=False).run()
    assert task.model[0].num_batches_tracked == 11
    assert all(torch.isfinite(value).all() for value in task.model.state_dict().values())
