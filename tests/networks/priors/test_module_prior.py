"""Any module as a prior."""

import math

import pytest
import torch
from torch import nn

from tests.networks.priors.laws import images
from unrolled.networks import ComposedNetwork, ModulePrior, ProximalGradientPhase, ResidualCNN, as_prior
from unrolled.operators import Identity


class Told(nn.Module):
    def forward(self, z, sigma):
        return z / (1 + sigma.view(-1, 1, 1, 1))


def test_a_prior_stays_what_it_is():
    prior = ResidualCNN(4, 2)
    assert as_prior(prior) is prior


@pytest.mark.parametrize(("channels", "is_complex"), [(1, False), (3, False), (2, True)])
def test_a_module_is_called_with_real_images(channels, is_complex):
    module, z = nn.Conv2d(2 if is_complex else 1, 2 if is_complex else 1, 3, padding=1), images(channels, is_complex)
    found = ModulePrior(module, complex_images=is_complex)(z)
    for channel in range(channels):
        one = z[:, channel : channel + 1]
        expected = module(torch.cat([one.real, one.imag], dim=1)) if is_complex else module(one)
        whole = torch.complex(expected[:, :1], expected[:, 1:]) if is_complex else expected
        torch.testing.assert_close(found[:, channel : channel + 1], whole)


def test_a_denoiser_is_told_a_noise_level_that_is_learned_and_follows_the_condition():
    z = images(3, False)
    prior = ModulePrior(Told(), sigma=0.5)
    torch.testing.assert_close(prior(z), z / 1.5)
    prior(z).sum().backward()
    assert prior.raw_sigma.grad.abs() > 0
    told = ModulePrior(Told(), sigma=0.5, ranges=[(0.01, 0.2)])
    nn.init.normal_(told.factors.last.weight)
    condition = torch.tensor([[0.02], [0.2]])
    factors = told.factors(condition)[:, 0].view(2, 1, 1, 1)
    torch.testing.assert_close(told(z, condition), z / (1 + 0.5 * factors))


def test_what_a_module_returns_is_looked_at():
    z = images(1, False)
    for module, got in ((nn.MaxPool2d(2), r"\(2, 1, 4, 5\)"), (nn.LSTM(11, 11), "tuple")):
        with pytest.raises(ValueError, match=rf"prior: {type(module).__name__} must return images .* got {got}"):
            ModulePrior(module)(z if got[0] == "\\" else z[:, 0])


def test_bad_arguments_are_refused_by_name():
    for make, message in (
        (lambda: as_prior("unet"), "prior: must be a module that maps images to images, got 'unet'"),
        (lambda: ModulePrior(Told(), sigma=0.0), "ModulePrior: sigma must be a finite number > 0, got 0.0"),
        (lambda: ModulePrior(Told(), sigma=math.inf), "ModulePrior: sigma must be a finite number > 0, got inf"),
        (lambda: ModulePrior(nn.Identity(), ranges=[(0.1, 0.2)]), "sigma must be given"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_phases_copy_a_module_of_your_own():
    network = ComposedNetwork(ProximalGradientPhase(nn.Conv2d(1, 1, 3, padding=1)), 3)
    first, *others = (phase.prior.module.weight for phase in network.phases)
    assert all(torch.equal(first, other) and first is not other for other in others)
    assert network(images(2, False), Identity()).shape == (2, 2, 9, 11)
