"""The whole way of a network of one's own: trained, saved, loaded, evaluated."""

import math

import pytest
import torch

import unrolled
from tests.helpers import picture
from unrolled.operators import MaskedFourier, RadialMask, Radon

OPERATORS = {
    "Radon": lambda: Radon(20, 16, 16).normalized(),
    "MaskedFourier": lambda: MaskedFourier(RadialMask(0.4), 16, 16, complex_images=True),
}


def trained_ten_steps(name, folder, make, idle=()):
    """Train what make(complex_images) gives by ten steps, and see that its weights give the same figures.

    Every parameter changes but those that are named idle.
    """
    torch.manual_seed(0)
    operator = OPERATORS[name]()
    network = make(operator.complex_images)
    before = {key: parameter.clone() for key, parameter in network.named_parameters()}
    images = [picture(20, 24, seed) for seed in range(4)]
    held_out = [picture(16, 16, 9)]
    few = unrolled.TrainingOptions(steps=10, batch=2, warmup=2, validations=2, average=0)
    figures = unrolled.fit(network, operator, images, few, validation=held_out, folder=folder / "run", progress=False)
    assert math.isfinite(figures["psnr"])
    assert {key for key, parameter in network.named_parameters() if torch.equal(parameter, before[key])} == set(idle)
    unrolled.save(folder / "w.safetensors", network, operator)
    again, its_operator = unrolled.load(folder / "w.safetensors")
    found, expected = (
        unrolled.evaluate(one, {"a": held_out[0]}, its_operator)["psnr"] for one in (again, network.eval())
    )
    assert found == pytest.approx(expected, rel=1e-5)
