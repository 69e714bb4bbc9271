"""The network that carries features: the laws, its equations written out by themselves, and its conditions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.laws import NetworkLaws, double, measured
from tests.networks.priors.laws import disturb, images
from tests.networks.training import trained_ten_steps
from unrolled.networks import FeaturePGN, GradientStep
from unrolled.operators import Dense, Identity
from unrolled.penalties import L1


def small(**options):
    return FeaturePGN(**{"features": 6, "blocks": 1, **options})


class TestFeaturePGN(NetworkLaws):
    network_class = FeaturePGN
    cases = {
        "at half the resolution": small,
        "at the whole, shrinking, told the noise": lambda **options: small(
            **{"scale": 1, "penalty": L1(), "noise_range": (0.01, 0.2), **options}
        ),
        "with proximal steps": lambda **options: small(**{"proximal": True, "step": 0.3, **options}),
    }

    rate = 2e-3

    def contracting(self, network):
        super().contracting(network)
        with torch.no_grad():
            network.phases[0].gate.mul_(0.2)
            if isinstance(network.phases[0].step, GradientStep):
                network.phases[0].step.raw_weight.fill_(0.2915)  # a step of .85


def written_out(x, carried, y, operator, phase):
    """One phase on images of one channel and of even sides, at half the resolution."""

    def apart(image):
        """Four pixels as four maps, those of the real part first."""
        parts = [image.real, image.imag] if image.is_complex() else [image]
        return torch.cat([part[..., i::2, j::2] for part in parts for i in range(2) for j in range(2)], 1)

    def convolve(layer, maps):
        return F.conv2d(maps, layer.weight, layer.bias, padding=1)

    g = operator.adjoint(operator(x) - y)
    v = x - F.softplus(phase.step.raw_weight) * g
    z = convolve(phase.first, torch.cat([torch.cat([apart(v), apart(g)], 1)], 1))
    z = z + phase.gate[:, None, None] * carried
    for block in phase.blocks:
        z = z + convolve(block.second, convolve(block.first, z).clamp(min=0))
    maps, change = convolve(phase.last, z), torch.zeros_like(v)
    for k in range(4):
        whole = torch.complex(maps[:, k], maps[:, 4 + k]) if v.is_complex() else maps[:, k]
        change[:, 0, k // 2 :: 2, k % 2 :: 2] = whole
    return v + change, z


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_it_is_its_equations(kind):
    network, operator, x = TestFeaturePGN().make("at half the resolution", kind, blocks=2)
    network, operator, x = network.double(), operator.double(), double(x)
    x = x[..., :32] if kind == "real" else x
    operator = Identity() if kind == "real" else operator
    y = operator(x) + 0.1
    start, *found = network.iterates(y, operator)
    pixels = 8 if kind == "complex" else 4
    parts = [start.real, start.imag] if kind == "complex" else [start]
    z = torch.cat([part[..., i::2, j::2] for part in parts for i in range(2) for j in range(2)], 1)
    image, z = start, torch.cat([z, z], 1)[:, :6] if pixels < 6 else z[:, :6]
    for phase, expected in zip(network.phases, found, strict=True):
        image, z = written_out(image, z, y, operator, phase)
        torch.testing.assert_close(expected, image)
    network.phases[1].gate.data.zero_()
    assert (network(y, operator) - image).abs().max() > 1e-6  # what is carried has an effect


def test_its_size_and_that_untrained_it_descends_the_gradient():
    of_a_phase = 9 * 8 * 64 + 64 + 2 * 2 * (9 * 64 * 64 + 64) + 9 * 64 * 4 + 4 + 64 + 1
    assert FeaturePGN().parameter_count == 6 * of_a_phase
    operator, x = measured("real")
    y = operator(x)
    network = small(phases=2, step=0.5)
    expected = network.first_image(y, operator)
    for _ in range(2):
        expected = expected - 0.5 * operator.adjoint(operator(expected) - y)
    torch.testing.assert_close(network(y, operator), expected)


def test_untrained_with_proximal_steps_it_solves_in_every_phase():
    torch.manual_seed(0)
    matrix, x = torch.randn(20, 36, dtype=torch.float64), torch.rand(2, 1, 6, 6, dtype=torch.float64)
    operator = Dense(matrix / torch.linalg.matrix_norm(matrix, ord=2), 6, 6).double()
    y, ridge = operator(x), 0.3
    network = small(phases=2, proximal=True, step=ridge).double()
    a, normal = operator.matrix, operator.matrix.T @ operator.matrix + ridge * torch.eye(36, dtype=torch.float64)
    expected = network.first_image(y, operator).flatten(1)
    for _ in range(2):
        expected = torch.linalg.solve(normal, (y.flatten(1) @ a + ridge * expected).T).T
    torch.testing.assert_close(network(y, operator).flatten(1), expected, rtol=1e-5, atol=1e-6)
    # Few steps of conjugate gradients come nearer the more there are, and leave what explains y as it is.
    operator, errors = operator @ Identity(), []  # without a closed form
    for iterations in (1, 3, 9):
        few = small(phases=2, proximal=True, step=ridge, iterations=iterations).double()
        errors.append(float((few(y, operator).detach().flatten(1) - expected).norm()))
        torch.testing.assert_close(few.phases[0].step(x, y, operator), x)
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.05 * errors[0]
    maps = small(phases=1, proximal=True).phases[0].first.in_channels
    assert maps == 12  # the image, the gradient and the correction, in four maps each


@pytest.mark.parametrize(("channels", "together", "scale"), [(3, 3, 2), (4, 2, 2), (3, 1, 3)])
def test_channels_that_are_seen_together_have_features_of_their_own(channels, together, scale):
    x = images(channels, False)  # of odd sides
    network = small(phases=2, channels=together, scale=scale)
    disturb(network)
    found = network(x, Identity())
    for first in range(0, channels, together):
        part = slice(first, first + together)
        torch.testing.assert_close(network(x[:, part], Identity()), found[:, part])
    with pytest.raises(ValueError, match=r"FeatureGradientPhase: images must have a multiple of 5 channels.* got"):
        small(channels=5)(x, Identity())


def test_the_noise_level_scales_what_every_part_adds():
    x = images(2, False)
    network = small(phases=1, penalty=L1(), noise_range=(0.01, 0.2))
    disturb(network)
    (phase,) = network.phases
    assert phase.factors(torch.tensor([[0.05]])).shape == (1, 3)
    noise = torch.tensor([0.02, 0.2])
    together = network(x, Identity(), noise=noise)
    for here in (slice(0, 1), slice(1, 2)):
        torch.testing.assert_close(network(x[here], Identity(), noise=noise[here]), together[here])
    nn.init.zeros_(phase.factors.last.weight)
    nn.init.zeros_(phase.step.factors.last.weight)
    torch.testing.assert_close(network(x, Identity(), noise=0.02), network(x, Identity(), noise=0.2))


def test_bad_arguments_are_refused_by_name():
    for key, value in {"phases": 0, "features": 0, "blocks": 0, "scale": 0, "channels": 0, "step": -1.0}.items():
        with pytest.raises(ValueError, match=f": {key} must be"):
            small(**{key: value})
    with pytest.raises(ValueError, match="FeatureGradientPhase: iterations are of proximal steps, got 3 without"):
        small(iterations=3)


@pytest.mark.parametrize("name", [pytest.param("Radon", marks=pytest.mark.full), "MaskedFourier"])
def test_it_is_trained_saved_and_evaluated(name, tmp_path):
    trained_ten_steps(name, tmp_path, lambda kind: small(phases=2, complex_images=kind))
