"""Risks without the truth: their expectation is the error, by Monte Carlo in double precision."""

import math

import pytest
import torch
from torch import nn

from tests.helpers import picture
from tests.pairs import FULL, first_of
from tests.training.losses.small import OPERATORS, Filter, measured, network, of
from unrolled.operators import ComplexGaussianNoise, GaussianNoise, Identity, PoissonNoise
from unrolled.training.losses import PURE, SURE, ConsistencyLoss

DRAWS, TOGETHER = (100, 200) if FULL else (12, 60)
"""Batches for an expectation, and images in each."""


def bias(kind: str, loss, add_noise, last=nn.Identity, noise=None) -> tuple[float, float, float]:
    """How far the mean of a loss is from that of mean |Ax̂ − Ax|² of the same noise; the standard error; and how far it
    would be without what makes it unbiased."""
    operator = OPERATORS[kind]().double()
    torch.manual_seed(0)
    net = Filter(operator.complex_images, last=last).double().requires_grad_(False)
    x = picture(8, 9, 0).expand(TOGETHER, 1, 8, 9).double() + 0.1
    clean = operator(x + 0j if operator.complex_images else x)
    where = operator.sampled(torch.ones_like(clean)).real
    differences, plain = [], []
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        y = add_noise(clean)
        error = (where * (operator(net(y, operator)) - clean)).abs().square().sum() / where.expand(clean.shape).sum()
        differences.append(loss(net, y, operator, noise=noise) - error)
        plain.append(ConsistencyLoss()(net, y, operator) - error)
    differences = torch.stack(differences)
    return differences.mean().item(), (differences.std() / math.sqrt(DRAWS)).item(), torch.stack(plain).mean().item()


@pytest.mark.parametrize(
    ("kind", "last"),
    first_of([("pixels", nn.Tanh), ("coils", nn.Tanh), ("identity", nn.Tanh), ("complex", nn.Identity)], 2),
)
def test_the_expectation_of_sure_is_the_mean_squared_error_of_what_is_measured(kind, last):
    add_noise = ComplexGaussianNoise(0.2) if OPERATORS[kind]().complex_measurements else GaussianNoise(0.2)
    found, deviation, without = bias(kind, SURE(0.2), add_noise, last)
    assert abs(found) < 4 * deviation
    assert abs(without) > 5 * deviation


def test_every_image_has_its_own_noise_level():
    levels = torch.linspace(0.05, 0.4, TOGETHER, dtype=torch.float64)
    found, deviation, _ = bias(
        "pixels", SURE(), lambda y: y + levels.view(-1, 1, 1, 1) * torch.randn_like(y), nn.Tanh, levels
    )
    assert abs(found) < 4 * deviation
    mean = levels.square().mean().sqrt().item()
    found, deviation, _ = bias(
        "pixels", SURE(2 * mean), lambda y: y + levels.view(-1, 1, 1, 1) * torch.randn_like(y), nn.Tanh
    )
    assert abs(found) > 10 * deviation  # of a level that is wrong


@pytest.mark.parametrize("kind", first_of(["pixels", "identity"]))
def test_the_expectation_of_pure_is_that_of_counts(kind):
    found, deviation, without = bias(kind, PURE(0.05), PoissonNoise(0.05))
    assert abs(found) < 4 * deviation
    assert abs(without) > 5 * deviation


def test_consistency_is_the_mean_over_what_is_measured():
    net, operator, _, y = measured("pixels")
    y = y + 1  # also where nothing is measured
    image = net(y, operator)
    seen = operator.mask.bool()
    expected = (image - y)[..., seen].square().mean()
    torch.testing.assert_close(ConsistencyLoss()(net, y, operator), expected)


def test_risks_are_never_in_16_bits():
    net, operator, _, y = measured("pixels")
    net, operator, y = net.float(), operator.float(), y.float()
    found = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(SURE(0.1)(net, y, operator))
    assert torch.equal(*found)


def test_what_the_task_knows_of_the_noise_counts():
    net, operator, _, y = measured("pixels")
    torch.manual_seed(0)
    expected = SURE(0.1)(net, y, operator)
    torch.manual_seed(0)
    assert torch.equal(SURE()(net, y, operator, noise=0.1), expected)


class Dropout(nn.Dropout):
    def __init__(self):
        super().__init__(0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SURE(0), "SURE: sigma must be a finite number > 0, got 0"),
        (lambda: SURE(0.1, step=0), "SURE: step must be a finite number > 0, got 0"),
        (lambda: PURE(-1), "PoissonNoise: gain must be a finite number > 0, got -1"),
        (lambda: SURE()(*of("pixels")), "SURE: needs the noise level of the measurements; give sigma"),
        (lambda: SURE(0.1)(*of("pixels"), noise=0.2), "SURE: sigma is 0.1, and the noise .* has the level 0.2"),
        (lambda: SURE()(*of("pixels"), noise=torch.ones(2)), "SURE: noise must be one level, or one for each of 3"),
        (lambda: PURE(0.1)(*of("complex")), "PURE: counts are real, and MaskedFourier measures complex numbers"),
        (
            lambda: SURE(0.1)(network(last=Dropout), torch.ones(1, 1, 4, 4).double(), Identity()),
            "SURE: networks that draw random numbers, as dropout does, have no derivative",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
