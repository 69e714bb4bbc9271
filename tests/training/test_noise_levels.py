"""Training with noise of which every image has a level of its own."""

import json

import pytest
import torch

import unrolled
from tests.training.small_runs import HELD_OUT, IMAGES, assert_same_end, crash_and_resume, fit, options
from unrolled.data import RandomCrops
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing, GaussianNoise, PoissonNoise, VaryingGaussianNoise
from unrolled.training import ReconstructionTask
from unrolled.training.losses import SURE
from unrolled.weights.card import read_card

LEVELS = VaryingGaussianNoise(0.02, 0.3)


def told(noise_range=(0.01, 0.5)):
    torch.manual_seed(0)
    return EPGN(1, 4, noise_range=noise_range)


def task(network, noise=LEVELS, units=1.0, **more):
    operator, held_out = BlockCompressedSensing(ratio=0.25, block=11), [HELD_OUT[0][:, :33, :44]] * 3
    operator = operator if units == 1 else units * operator
    return ReconstructionTask(network, operator, RandomCrops(IMAGES, 22), held_out, noise=noise, **more)


def test_each_image_has_its_level_and_the_network_is_told_it(monkeypatch):
    made = task(told(), seed=5)
    images, levels = made.batch(3, 6)
    assert torch.equal(levels, LEVELS.levels(5, 3, range(6)))
    part, its = made.batch(3, 6, range(2, 4))
    assert torch.equal(part, images[2:4])
    assert torch.equal(its, levels[2:4])
    seen = []
    monkeypatch.setattr(EPGN, "condition", lambda self, y, operator, noise, norm: seen.append((y, noise)))
    made.loss(made.model, (images, levels), 3)
    (y, noise), *_ = seen
    assert torch.equal(noise, levels)
    spread = (y - made.model.operator(images)).flatten(1).std(1)
    torch.testing.assert_close(spread, levels, rtol=0.3, atol=0)


def test_relative_levels_mean_the_same_for_operators_in_any_units(monkeypatch):
    relative = VaryingGaussianNoise(LEVELS.low, LEVELS.high, relative=True)
    made = task(told(), relative, units=50.0, seed=5)
    images, levels = made.batch(3, 6)
    seen = []
    condition = EPGN.condition
    monkeypatch.setattr(
        EPGN,
        "condition",
        lambda self, y, operator, noise, norm: (
            seen.append((y, noise, norm)) or condition(self, y, operator, noise, norm)
        ),
    )
    made.loss(made.model, (images, levels), 3)
    (y, noise, norm), *_ = seen
    assert norm == 50
    torch.testing.assert_close(noise / norm, levels)
    plain = task(told(), relative, seed=5)
    spread = (y / norm - plain.model.operator(images)).flatten(1).std(1)
    torch.testing.assert_close(spread, levels, rtol=0.3, atol=0)
    assert made.validate(made.model)["start_psnr"] == pytest.approx(plain.validate(plain.model)["start_psnr"], abs=1e-3)


def test_validation_is_at_levels_spread_evenly(monkeypatch):
    made, seen = task(told()), []
    condition = EPGN.condition
    monkeypatch.setattr(
        EPGN,
        "condition",
        lambda self, y, operator, noise, norm=1.0: seen.append(noise) or condition(self, y, operator, noise, norm),
    )
    figures = made.validate(made.model)
    told_levels = [float(level) for level in seen if level is not None]  # the start is told none
    assert told_levels == pytest.approx([LEVELS.quantile(part) for part in (1 / 6, 3 / 6, 5 / 6)])
    assert figures == made.validate(made.model)


def test_a_network_that_takes_none_is_told_nothing_and_a_fixed_level_is_told_too():
    plain = task(EPGN(1, 4))
    plain.loss(plain.model, plain.batch(0, 2), 0).backward()
    fixed = task(told(), GaussianNoise(0.1))
    assert fixed.model.told() == 0.1
    assert task(EPGN(1, 4), GaussianNoise(0.1)).model.told() is None
    assert isinstance(fixed.batch(0, 2), torch.Tensor)


def test_a_killed_run_goes_on_bit_for_bit_and_its_weights_say_their_levels(tmp_path, monkeypatch):
    often = options(checkpoint_minutes=1e-9)
    fit(tmp_path / "straight", network=told(), noise=LEVELS, training=often)
    crash_and_resume(
        lambda **more: fit(tmp_path / "run", network=told(), noise=LEVELS, training=often, **more), monkeypatch
    )
    assert_same_end(tmp_path / "straight", tmp_path / "run")
    for other in (VaryingGaussianNoise(0.02, 0.4), GaussianNoise(0.1)):
        with pytest.raises(ValueError, match="resume: noise must be that of the run"):
            fit(tmp_path / "run", network=told(), noise=other, training=often, resume=True)
    best = tmp_path / "run" / "best.safetensors"
    assert unrolled.load(best)[0].noise_range == (0.01, 0.5)
    assert json.loads(read_card(best)["noise"])["init_args"] == {
        "low": 0.02,
        "high": 0.3,
        "spread": "logarithmic",
        "relative": False,
    }


@pytest.mark.parametrize(
    ("noise", "got"),
    [
        (None, "got none"),
        (GaussianNoise(0.6), r"got .*GaussianNoise.*, 0.6 … 0.6"),
        (VaryingGaussianNoise(0.001, 0.3), r"got .*, 0.001 … 0.3"),
        (PoissonNoise(0.1), "got .*PoissonNoise"),
        (lambda y: y, "got .*lambda"),
    ],
)
def test_a_range_of_levels_that_is_not_that_of_the_noise_is_refused(noise, got):
    message = rf"noise: must be white, of levels within the noise_range=\(0.01, 0.5\) of EPGN, .*{got}"
    with pytest.raises(ValueError, match=message):
        task(told(), noise)


@pytest.mark.parametrize("network", [told, lambda: EPGN(1, 4)], ids=["told", "not told"])
def test_a_loss_is_told_the_level_of_each_image(network, monkeypatch):
    made, seen = task(network(), loss="sure"), []
    level = SURE._level
    monkeypatch.setattr(SURE, "_level", lambda self, y, noise: seen.append(noise) or level(self, y, noise))
    images, levels = made.batch(0, 3)
    assert made.loss(made.model, (images, levels), 0).isfinite()
    assert seen
    assert all(torch.equal(noise, levels) for noise in seen)
    with pytest.raises(ValueError, match=r"SURE: sigma is 0.1, and the noise of the measurements has the level"):
        task(network(), loss=SURE(0.1))
