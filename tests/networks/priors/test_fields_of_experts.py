"""Fields of experts: the laws, and the gradient of the energy that they are a step down."""

import math

import numpy as np
import pytest
import torch

from tests.networks.priors.laws import PriorLaws, disturb, images
from unrolled.networks import FieldsOfExperts
from unrolled.networks.channelwise import apart
from unrolled.networks.priors.fields_of_experts import folded, mirrored


class TestFieldsOfExperts(PriorLaws):
    prior_class = FieldsOfExperts
    cases = {
        "normalized": lambda **options: FieldsOfExperts(4, size=5, functions=9, **options),
        "free": lambda **options: FieldsOfExperts(3, size=3, functions=6, extent=0.7, normalized=False, **options),
    }


def made(normalized: bool = True, **options):
    torch.manual_seed(0)
    prior = FieldsOfExperts(4, size=5, functions=7, extent=0.8, normalized=normalized, **options).double()
    disturb(prior)
    return prior


@pytest.mark.parametrize("options", [{}, {"normalized": False, "channels": 3}, {"complex_images": True}], ids=str)
def test_it_is_a_step_down_its_energy(options):
    """ψ is an integral of Gaussians; the mirror is NumPy's, and convolutions are sums of products."""
    prior = made(**options)
    z = images(3, "complex_images" in options, 6, 5)
    z = apart(z, prior.channels).double().requires_grad_()
    size, weight = 5, prior.activation.weight
    places = [torch.from_numpy(np.pad(np.arange(side), size // 2, mode="symmetric")) for side in z.shape[2:]]
    patches = z[:, :, places[0]][..., places[1]].unfold(2, size, 1).unfold(3, size, 1)
    responses = torch.einsum("bchwij, fcij -> bfhw", patches, prior.kernels())
    sigma = 2 * 0.8 / 6
    centres = torch.linspace(-0.8, 0.8, 7, dtype=torch.float64)
    steps = torch.erf((responses.unsqueeze(-1) - centres) / (2**0.5 * sigma))
    energy = sigma * math.sqrt(math.pi / 2) * torch.einsum("bfhwj, fj ->", steps, weight)
    (gradient,) = torch.autograd.grad(energy, z)
    assert gradient.abs().max() > 0.01
    torch.testing.assert_close(prior.on_maps(z, None), z - gradient)


@pytest.mark.parametrize("beyond", [0, 2, 5, 17])
def test_what_lies_beyond_is_numpy_symmetric_padding_and_is_folded_by_the_adjoint(beyond):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 5, generator=random, dtype=torch.float64)
    padded = mirrored(x, beyond)
    expected = np.pad(x.numpy(), [(0, 0), (0, 0), (beyond, beyond), (beyond, beyond)], mode="symmetric")
    torch.testing.assert_close(padded, torch.from_numpy(expected), rtol=0, atol=0)
    v = torch.randn(padded.shape, generator=random, dtype=torch.float64)
    torch.testing.assert_close((padded * v).sum(), (x * folded(v, beyond)).sum())


def test_filters_are_normal_whatever_the_weights_are():
    for prior in (made(), made(complex_images=True)):
        kernels = prior.kernels()
        torch.testing.assert_close(kernels.mean((2, 3)), torch.zeros_like(kernels[:, :, 0, 0]))
        torch.testing.assert_close(kernels.square().sum((1, 2, 3)), torch.ones(4, dtype=torch.float64))
        disturbed = prior.filters.detach().clone()
        with torch.no_grad():
            prior.filters.copy_(3 * disturbed + 0.7)
        torch.testing.assert_close(prior.kernels(), kernels)
        with torch.no_grad():
            prior.filters[1] = 0.2
        assert not prior.kernels()[1].any()


def test_brightness_is_left_as_it_is():
    prior, z = made(), torch.rand(1, 1, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(prior(z + 3), prior(z) + 3)


def test_a_condition_scales_step_and_responses():
    prior, z = made(ranges=[(0.01, 0.2)]), images(1, False).double()
    told = torch.tensor([[0.02], [0.2]], dtype=torch.float64)
    step, width = prior.factors(told).view(2, 2, 1, 1, 1).unbind(1)
    plain = made()
    plain.load_state_dict({key: value for key, value in prior.state_dict().items() if not key.startswith("factors.")})
    torch.testing.assert_close(prior(z, told), z + step * width * (plain(z / width) - z / width))


def test_its_size_is_that_of_the_variational_network():
    # Of Hammernik and others: ten phases of 48 complex filters of 11×11, 31 weights for each, and one weight of the
    # data make 131,050 parameters.
    prior = FieldsOfExperts(complex_images=True)
    assert 10 * (sum(parameter.numel() for parameter in prior.parameters()) + 1) == 131_050


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": 0}, "filters must be a whole number"),
        ({"size": 4}, "size must be odd, and >= 3 if filters are normalized, got 4"),
        ({"size": 1}, "size must be odd, and >= 3"),
        ({"size": 2, "normalized": False}, "size must be odd, got 2"),
    ],
)
def test_bad_arguments_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=f"FieldsOfExperts: {message}"):
        FieldsOfExperts(**options)


def test_without_normalization_a_filter_may_be_one_pixel():
    prior, z = FieldsOfExperts(3, size=1, normalized=False), images(1, False)
    assert prior.reach == 0
    torch.testing.assert_close(prior(z), z)
