"""Images are trained with every loss; those that learn from measurements never see one."""

import math

import pytest
import torch

import unrolled
from tests.helpers import picture
from tests.training.losses.small import network
from tests.training.small_runs import HELD_OUT, IMAGES, fit, options, pieces
from unrolled.data import RandomCrops
from unrolled.networks import EPGN, ISTANetPlus
from unrolled.operators import (
    BlockCompressedSensing,
    ComplexGaussianNoise,
    GaussianNoise,
    Inpainting,
    MaskedFourier,
    RadialMask,
)
from unrolled.training import ReconstructionTask
from unrolled.training.losses import SSDU, SURE, EquivariantImaging, L1Loss


def task(loss, operator=None, noise=None, net=None):
    operator = Inpainting(keep=0.5, height=22, width=22) if operator is None else operator
    net = network(operator.complex_images).float() if net is None else net
    return ReconstructionTask(net, operator, RandomCrops(IMAGES, 22, 0), [picture(22, 22)], loss, noise=noise)


def loss_of(made, batch=None):
    torch.manual_seed(0)
    return made.loss(made.model, made.batch(0, 2) if batch is None else batch, 0)


def test_names_weights_and_classes_are_the_loss():
    x = task(None).batch(0, 2)
    for name, by_hand in (
        ("l1", lambda image: (image - x).abs().mean()),
        ({"mse": 2, "l1": 0.5}, lambda image: 2 * (image - x).square().mean() + 0.5 * (image - x).abs().mean()),
        (L1Loss(), lambda image: (image - x).abs().mean()),
        (lambda image, truth: (image - truth).abs().amax(), lambda image: (image - x).abs().amax()),
    ):
        made = task(name)
        image = made.model(x)
        torch.testing.assert_close(loss_of(made), by_hand(image))


@pytest.mark.parametrize("net", [EPGN(1, 2), ISTANetPlus(1, 2)])
def test_the_mean_squared_error_by_name_is_what_is_minimised_by_default(net):
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    assert torch.equal(loss_of(task("mse", net=net)), loss_of(task(None, net=net)))


@pytest.mark.parametrize("loss", [SSDU(), "sure", EquivariantImaging(fidelity=SURE())])
@pytest.mark.parametrize("kind", ["real", "complex"])
def test_a_loss_of_measurements_sees_no_image(kind, loss, monkeypatch):
    if kind == "real":
        made = task(loss, noise=GaussianNoise(0.1))
    else:
        operator = MaskedFourier(RadialMask(0.4), 22, 22, complex_images=True)
        made = task(loss, operator, ComplexGaussianNoise(0.1))
    measure, seen = made.model.measure, []

    def measured(x, *more):
        seen.append(measure(x, *more))
        x.fill_(math.nan)  # from here on there is no truth
        torch.manual_seed(7)
        return seen[0]

    monkeypatch.setattr(made.model, "measure", measured)
    found = loss_of(made)
    found.backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in made.model.parameters())
    # It is the loss of these measurements, with the noise level that the task knows.
    torch.manual_seed(7)
    assert torch.equal(found, made.own_loss(made.model.network, *seen, made.model.operator, noise=0.1))


def test_a_run_without_an_image_goes_on_with_its_loss_only(tmp_path):
    operator = Inpainting(keep=0.5, height=22, width=22)
    made = {"network": EPGN(1, 4), "operator": operator, "loss": "ssdu", "training": options(steps=4)}
    fit(tmp_path / "run", **made)
    assert unrolled.load(tmp_path / "run" / "best.safetensors")
    fit(tmp_path / "run", **made, resume=True)
    with pytest.raises(ValueError, match=r"resume: loss must be that of the run in .*SSDU.*, got None"):
        fit(tmp_path / "run", **{**made, "loss": None}, resume=True)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("l2", "loss: must be one of mse"),
        ("ssdu", "SSDU: needs an operator whose measurements are samples"),
        ("sure", "SURE: needs the noise level"),
        (SURE(0.1), None),
    ],
)
def test_a_loss_that_cannot_be_had_is_refused_before_anything_is_written(loss, message, tmp_path):
    net, operator = pieces()
    if message is None:
        operator = BlockCompressedSensing(ratio=0.25, block=11, learned=True)
        message = "loss: SURE learns from measurements, so they cannot be learned too; freeze"
    with pytest.raises(ValueError, match=message):
        fit(tmp_path / "run", network=net, operator=operator, loss=loss, validation=HELD_OUT)
    assert not list(tmp_path.glob("run/*.pt"))
