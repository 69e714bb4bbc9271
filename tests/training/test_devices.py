"""Runs on each device that there is: they learn and skip what they do on the CPU, go on, and become sparse."""

import pytest
import torch

import unrolled
from tests.pairs import FULL
from tests.training.small_runs import (
    Crash,
    GradientDescent,
    at_step,
    crash,
    fit,
    metrics,
    on_gpus,
    options,
    poisoned,
    run_together,
    tensors,
)
from unrolled.penalties import L1
from unrolled.sparsify import ProximalStep
from unrolled.training.runs.checkpoint import load_checkpoint

OPTIMIZERS = {"adam": {}, "sgd": {"optimizer": "sgd", "learning_rate": 0.01}}


@pytest.mark.parametrize("name", OPTIMIZERS if FULL or torch.accelerator.is_available() else ["adam"])
def test_a_run_learns_and_skips_the_same_on_every_device(name, device, tmp_path):
    for where in {"cpu", device.type}:
        fit(tmp_path / where, loss=poisoned, training=options(**OPTIMIZERS[name]), device=where)
    states = [load_checkpoint(tmp_path / where / "last.pt") for where in ("cpu", device.type)]
    assert 2 <= states[0]["skipped"] == states[1]["skipped"]
    for part in ("model", "average", "optimizer"):
        torch.testing.assert_close(tensors(states[1][part]), tensors(states[0][part]), rtol=1e-2, atol=1e-3)


def test_a_killed_run_in_bfloat16_goes_on_on_every_device(device, tmp_path, monkeypatch):
    how = {"training": options(bfloat16=True), "loss": poisoned}
    with monkeypatch.context() as patch:
        at_step(patch, 9, crash)
        with pytest.raises(Crash):
            fit(tmp_path, **how, device=device.type)
    fit(tmp_path, **how, device=device.type, resume=True)
    assert [line["step"] for line in metrics(tmp_path)] == [4, 8, 12]
    network, _ = unrolled.load(tmp_path / "best.safetensors", device.type)
    assert all(parameter.device.type == device.type for parameter in network.parameters())


def test_a_network_becomes_sparse_on_every_device(device, tmp_path):
    figures = fit(tmp_path, sparsifier=lambda network: ProximalStep(network, L1(), target=0.5), device=device.type)[2]
    assert figures["sparsity"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.device
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU; of the CPU there is a test in test_fitting.py")
@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_run_learns_what_an_eager_one_does_on_a_gpu(tmp_path):
    for compiled in (False, True):
        training = options(compile=compiled, bfloat16=True)
        fit(tmp_path / str(compiled), network=GradientDescent(), training=training, device="cuda")
    losses = [metrics(tmp_path / str(compiled))[-1]["loss"] for compiled in (False, True)]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.device
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_learn_what_one_does(tmp_path):
    fit(tmp_path / "one", training=options(batch=4), device="cuda")
    run_together(on_gpus, tmp_path / "two")
    one, two = (load_checkpoint(tmp_path / name / "last.pt")["model"] for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-2, atol=1e-3)
