"""Every law of a learned prior, as a test case to inherit."""

import copy
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch

from tests.networks.laws import double
from unrolled.networks import ComposedNetwork, DataStep, MapPrior, Phase, Prior, ProximalGradientPhase
from unrolled.operators import Identity
from unrolled.penalties import Penalty
from unrolled.system.recipes import build, describe

Case = Callable[..., Prior]

KINDS = {
    "gray": (1, False, {}),
    "each channel alike": (3, False, {}),
    "colours together": (3, False, {"channels": 3}),
    "complex": (1, True, {"complex_images": True}),
    "features": (8, False, {"channels": 4}),
}
"""Channels of images, whether they are complex, and how a prior for them is made."""


class PriorLaws:
    """Inherit, name the class and the cases, and every law is tested of each of them, on all kinds of images.

    A case makes a small prior of the options `channels`, `complex_images` and `ranges`. A class of priors that no test
    case names fails `test_every_prior_has_laws`.
    """

    prior_class: ClassVar[type[MapPrior]]
    cases: ClassVar[dict[str, Case]]
    starts_at_identity: ClassVar[bool] = True
    """Whether an untrained prior returns the image that it is given."""
    condition_scales: ClassVar[bool] = True
    """Whether it takes ranges of conditions."""

    def make(self, case: str, kind: str = "gray", **options):
        """A prior whose weights are all at random, and images (2, channel, 9, 11) for it; odd sides, on purpose."""
        channels, is_complex, how = KINDS[kind]
        torch.manual_seed(0)
        prior = self.cases[case](**how, **options)
        assert type(prior) is self.prior_class
        disturb(prior)
        return prior, images(channels, is_complex)

    def test_it_returns_images_of_the_shape_and_kind_that_it_is_given(self, case, kind):
        prior, z = self.make(case, kind)
        for image in (z, z[..., :6, :5], z[..., :1, :2]):
            found = prior(image)
            assert found.shape == image.shape
            assert found.dtype == image.dtype
        assert (prior(z) - z).abs().max() > 1e-3

    def test_untrained_it_is_the_identity(self, case, kind):
        if self.starts_at_identity:
            channels, is_complex, how = KINDS[kind]
            prior, z = self.cases[case](**how), images(channels, is_complex)
            torch.testing.assert_close(prior(z), z)

    def test_images_of_a_batch_and_groups_of_channels_do_not_mix(self, case, kind):
        prior, z = self.make(case, kind)
        together, group = prior(z), prior.channels
        for image in range(len(z)):
            for first in range(0, z.shape[1], group):
                part = slice(image, image + 1), slice(first, first + group)
                torch.testing.assert_close(prior(z[part]), together[part])

    def test_what_it_sees_together_mixes(self, case, kind):
        prior, z = self.make(case, kind)
        first = torch.zeros_like(z)
        first[:, :1] = z[:, :1].real if z.is_complex() else z[:, :1]
        changed = prior(z) - prior(z - 0.5 * first.square())  # and no multiple, which a normalised prior undoes
        if z.is_complex():
            assert changed.imag.abs().max() > 1e-5
        elif prior.channels > 1:
            assert changed[:, 1].abs().max() > 1e-5

    def test_it_looks_no_farther_than_it_says(self, case):
        prior, _ = self.make(case)
        if prior.reach is None:
            return
        side = 2 * prior.reach + 2 * prior.alignment + 3
        z = torch.rand(1, 1, side, side, dtype=torch.float64).requires_grad_()
        prior = prior.double()
        row = prior.reach + prior.alignment
        row += -row % prior.alignment
        for place in range(row, row + prior.alignment):
            (seen,) = torch.autograd.grad(prior(z)[0, 0, place, place], z)
            rows, columns = (seen[0, 0] != 0).any(1).nonzero(), (seen[0, 0] != 0).any(0).nonzero()
            for places in (rows, columns):
                assert int(places.min()) >= place - prior.reach
                assert int(places.max()) <= place + prior.reach

    def test_every_parameter_receives_a_gradient(self, case, kind):
        ranges = [(0.01, 0.2)] if self.condition_scales else []
        prior, z = self.make(case, kind, ranges=ranges)
        prior(z, torch.tensor([[0.03], [0.1]])).abs().square().sum().backward()
        for key, parameter in prior.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.norm() > 0, key

    def test_gradients_equal_finite_differences(self, case, kind):
        prior, z = self.make(case, kind)
        prior, z = prior.double(), double(z[:1, ..., :5, :6]).requires_grad_()
        how = {"eps": 1e-7, "atol": 1e-5, "nondet_tol": 1e-12, "fast_mode": True}
        assert torch.autograd.gradcheck(lambda z, *_: prior(z), (z, *prior.parameters()), **how)

    def test_it_follows_a_condition_that_it_was_made_for(self, case, kind):
        if not self.condition_scales:
            return
        prior, z = self.make(case, kind, ranges=[(0.01, 0.2), (0.1, 0.5)])
        told = torch.tensor([[0.02, 0.3], [0.2, 0.4]])
        found = prior(z, told)
        assert (found - prior(z, told.flip(0))).abs().amax((1, 2, 3)).min() > 1e-5
        for image in range(2):
            torch.testing.assert_close(prior(z[image : image + 1], told[image : image + 1])[0], found[image])

    def test_a_condition_is_one_before_training(self, case):
        if self.condition_scales:
            torch.manual_seed(0)
            prior, z = self.cases[case](ranges=[(0.01, 0.2)]), images(1, False)
            torch.manual_seed(0)
            plain = self.cases[case]()
            disturb(prior, "factors")
            plain.load_state_dict({k: v for k, v in prior.state_dict().items() if not k.startswith("factors.")})
            torch.testing.assert_close(prior(z, torch.tensor([[0.02], [0.15]])), plain(z))

    def test_what_it_is_not_made_for_is_refused(self, case):
        prior, z = self.make(case, "colours together")
        name = self.prior_class.__name__
        with pytest.raises(ValueError, match=rf"{name}: images must have a multiple of 3 channels, .* got 4"):
            prior(torch.rand(1, 4, 5, 5))
        with pytest.raises(ValueError, match=rf"{name}: made for real images, and given complex ones; make it with"):
            prior(z.to(torch.complex64))
        prior, z = self.make(case, "complex")
        with pytest.raises(ValueError, match=rf"{name}: made for complex images, and given real ones; make it with"):
            prior(z.real)
        if self.condition_scales:
            prior, z = self.make(case, ranges=[(0.01, 0.2)])
            with pytest.raises(ValueError, match=rf"{name}: condition must be given, \(batch, 1\)"):
                prior(z)
            with pytest.raises(ValueError, match=rf"{name}: condition must be \(2, 1\), .* got \(2, 3\)"):
                prior(z, torch.rand(2, 3))

    @pytest.mark.parametrize("value", [0, -1, 2.5, True])
    def test_channels_are_a_whole_number(self, case, value):
        with pytest.raises(ValueError, match="channels must be a whole number"):
            self.cases[case](channels=value)

    def test_bfloat16_leaves_the_image_in_its_precision(self, case, kind):
        prior, z = self.make(case, kind)
        expected = prior(z)
        with torch.autocast("cpu", torch.bfloat16):
            found = prior(z)
        assert found.dtype == z.dtype
        assert 0 < (found - expected).abs().max() < 0.1 * (expected - z).abs().max() + 0.01

    def test_in_a_network_it_is_described_made_again_and_copied(self, case, kind):
        prior, z = self.make(case, kind)
        network = ComposedNetwork(ProximalGradientPhase(prior), 2, complex_images=z.is_complex())
        again = build(describe(network), ComposedNetwork, Phase, Prior, DataStep, Penalty)
        again.load_state_dict(network.state_dict())
        operator = Identity(complex_images=z.is_complex())
        for other in (again, copy.deepcopy(network)):
            torch.testing.assert_close(other(z, operator), network(z, operator))
        assert not any(
            torch.equal(a, b) and a.std() > 0
            for a, b in zip(network.phases[0].parameters(), network.phases[1].parameters(), strict=True)
            if a.numel() > 9
        )


def images(channels: int, is_complex: bool, height: int = 9, width: int = 11):
    random = torch.Generator().manual_seed(1)
    z = torch.rand(2, channels, height, width, generator=random)
    return torch.complex(z, torch.rand(z.shape, generator=random)) if is_complex else z


def disturb(module: torch.nn.Module, but: str = "nothing", strength: float = 0.1) -> None:
    """Change all weights at random, as training does."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not name.startswith(but):
                parameter.add_(strength * torch.randn_like(parameter))
