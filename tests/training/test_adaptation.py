"""Adapting to measurements without truth: what is learned, what is held out, and what is kept."""

import math

import numpy as np
import pytest
import torch

import unrolled
from tests.helpers import picture
from unrolled.cli import main
from unrolled.data import embedded_images
from unrolled.metrics import psnr
from unrolled.networks import FeaturePGN
from unrolled.operators import BlockCompressedSensing, Blur, Inpainting, MotionKernel, Radon
from unrolled.operators.measurement_parts import split
from unrolled.training import TrainingOptions
from unrolled.training.adaptation import DOMAIN, AdaptationTask
from unrolled.training.losses import SURE, MSELoss, SplittingLoss
from unrolled.weights.card import read_card

HOLES = Inpainting(keep=0.5, height=48, width=48)


def network(**more):
    """As if it had been trained for something else: what it adds is wrong."""
    torch.manual_seed(0)
    net = FeaturePGN(phases=2, features=8, blocks=1, **more)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return net


def few(steps=4, **more):
    return TrainingOptions(steps=steps, batch=1, validations=2, warmup=1, **more)


def test_it_learns_from_one_image_and_never_sees_it(tmp_path):
    truth = embedded_images("test")["camera"][None, :, 60:108, 80:128]
    y = HOLES(truth)
    net = network()
    before = unrolled.reconstruct(y=y, network=net, operator=HOLES)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    found = unrolled.adapt(net, y, HOLES, training=few(60, learning_rate=2e-3, average=0.9), progress=False)
    assert found.kept
    assert found.after > found.before + 0.5
    after = unrolled.reconstruct(y=y, network=found.network, operator=HOLES)
    assert float(psnr(after, truth)) > float(psnr(before, truth)) + 0.3
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())  # the given one stays


def test_what_makes_predictions_worse_is_not_kept(tmp_path):
    y = HOLES(picture(48, 48)[None])
    net, out = network(), tmp_path / "adapted.safetensors"
    found = unrolled.adapt(net, y, HOLES, training=few(3, learning_rate=3.0), out=out, progress=False)
    assert not found.kept
    assert found.network is net
    assert found.after < found.before
    assert not out.exists()
    kept = unrolled.adapt(net, y, HOLES, training=few(30, learning_rate=2e-3, average=0.5), out=out, progress=False)
    assert kept.kept
    loaded, operator = unrolled.load(out)
    torch.testing.assert_close(loaded(y, operator), kept.network(y, HOLES))
    assert read_card(out)["adapted"] == {"before": kept.before, "after": kept.after, "images": 1}


@pytest.mark.parametrize("operator", [HOLES, Radon(9, 24, 24), BlockCompressedSensing(ratio=0.5, block=12)], ids=str)
def test_what_is_held_out_is_given_to_no_step(operator):
    x = torch.stack([picture(*(operator.image_shape or (0, 24, 24))[1:], seed) for seed in range(3)])
    y = operator(x)
    task = AdaptationTask(network(), operator, y, None, SplittingLoss(moved=0.0), 0.2, seed=4)
    shown, hidden = split(operator, y, 0.2, np.random.default_rng((DOMAIN, 4)))
    score = task.validate(task.model)["predicted"]
    by_hand = []
    with torch.no_grad():
        for one in y.split(1):
            error = hidden.operator(task.model.network(shown.of(one), shown.operator)) - hidden.of(one)
            by_hand.append(-10 * math.log10(float(error.square().sum() / hidden.of(one).square().sum())))
    assert score == pytest.approx(np.mean(by_hand), abs=1e-4)
    # The loss is the same whatever stands in the held-out part.
    torch.manual_seed(1)
    loss = task.loss(task.model, task.batch(0, 2), 0)
    changed = AdaptationTask(
        task.model.network, operator, y + 5 * (y != 0), None, SplittingLoss(moved=0.0), 0.2, seed=4
    )
    changed.seen = task.seen
    torch.manual_seed(1)
    torch.testing.assert_close(changed.loss(task.model, task.batch(0, 2), 0), loss)
    assert task.batch(1, 2).tolist() == [2, 0]


def test_noise_is_stated_or_estimated_and_told():
    truth = embedded_images("test")["camera"][None, :, :132, :132]
    operator = Blur(MotionKernel(5, 20))
    y = operator(truth) + 0.05 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    seen = []

    class Watched(FeaturePGN):
        def condition(self, y, operator, noise, norm=1.0):
            seen.append(noise)
            return super().condition(y, operator, noise, norm)

    for stated, expected in ((0.07, 0.07), (None, 0.05)):
        seen.clear()
        torch.manual_seed(0)
        net = Watched(phases=1, features=4, blocks=1, noise_range=(0.0, 0.1))
        unrolled.adapt(net, y, operator, noise=stated, training=few(2), progress=False)
        told = [float(level) for level in seen if level is not None]
        assert told == pytest.approx([expected] * len(told), rel=0.15)
        assert len(told) > 4


def test_bad_arguments_are_refused_before_anything_is_trained(tmp_path):
    y = HOLES(picture(48, 48)[None])
    for more, message in (
        ({"loss": MSELoss()}, "loss: must be one that needs no true images, got MSELoss"),
        ({"loss": SURE()}, "sigma"),
        ({"hold_out": 1.5}, r"share must be in \(0, 1\), got 1.5"),
        ({"out": tmp_path}, "cannot write"),
        ({"scale": "white"}, "scale"),
    ):
        with pytest.raises(ValueError, match=message):
            unrolled.adapt(network(), y, HOLES, training=few(), progress=False, **more)
    for more, message in (({"part": 0.0}, "part must be in"), ({"moved": -1.0}, "moved must be a finite number >= 0")):
        with pytest.raises(ValueError, match=f"SplittingLoss: {message}"):
            SplittingLoss(**more)


def test_the_command(tmp_path, capsys):
    weights, out = tmp_path / "w.safetensors", tmp_path / "adapted.safetensors"
    unrolled.save(weights, network(), HOLES, {"operators": {}})
    truth = picture(48, 60)[None]
    operator = Inpainting(keep=0.6, height=48, width=60)
    np.save(tmp_path / "y.npy", operator(truth).numpy())
    argv = ["adapt", "--measured", str(tmp_path / "y.npy"), "--weights", str(weights), "--out", str(out)]
    argv += ["--operator=Inpainting", "--operator.keep=0.6", "--minutes=0.03", "--learning-rate=3e-3", "--moved=0"]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert "held-out measurements are predicted with" in said
    assert ("wrote" in said) == out.exists()
    assert main([*argv, "--hold-out=2"]) == 1
    assert "share must be in (0, 1), got 2" in capsys.readouterr().err
