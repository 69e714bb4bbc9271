"""Networks from parts: the laws, and that all parts fit each other."""

import pytest
import torch

from tests.networks.laws import NetworkLaws, measured
from unrolled.networks import (
    AlgorithmPhase,
    ComposedNetwork,
    DataConsistencyPhase,
    GradientStep,
    Prior,
    ProximalGradientPhase,
    ProximalStep,
    ResidualCNN,
)
from unrolled.operators import CartesianMask, MaskedFourier, Radon


def composed(phase, phases, data_step=None, ranges=(), complex_images=False, **options):
    prior = ResidualCNN(8, 2, complex_images=complex_images, ranges=ranges)
    noise_range = ranges[0] if ranges else None
    part = phase(prior, data_step)
    return ComposedNetwork(part, phases, complex_images=complex_images, noise_range=noise_range, **options)


class TestComposedNetwork(NetworkLaws):
    network_class = ComposedNetwork
    implicit_options = {"shared": True, "phases": 100}  # where the phases with data consistency have converged
    cases = {
        "proximal gradient": lambda phases=2, **options: composed(ProximalGradientPhase, phases, **options),
        "data consistency, told the noise": lambda phases=2, **options: composed(
            DataConsistencyPhase,
            phases,
            ProximalStep(0.2, ranges=[(0.01, 0.2)]),
            [(0.01, 0.2)],
            **options,
        ),
    }

    rate = 1.5e-3

    def contracting(self, network):
        super().contracting(network)
        with torch.no_grad():
            network.phases[0].data_step.raw_weight.fill_(0.2915)  # a step of .85


def test_phases_have_weights_of_their_own_or_share_them():
    phase = ProximalGradientPhase(ResidualCNN(4, 2))
    own, shared = ComposedNetwork(phase, 3), ComposedNetwork(phase, 3, shared=True)
    assert own.parameter_count == 3 * shared.parameter_count
    first, second, third = (each.prior.layers[0].weight for each in own.phases)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    assert len(shared.sequence) == 3


def test_parts_for_other_images_are_refused():
    with pytest.raises(ValueError, match="complex_images is True, and that of its ResidualCNN is False"):
        ComposedNetwork(ProximalGradientPhase(ResidualCNN(4, 2)), 2, complex_images=True)
    with pytest.raises(ValueError, match="phase must be of the class Phase, got ResidualCNN"):
        ComposedNetwork(ResidualCNN(4, 2), 2)


def test_a_condition_that_was_not_given_is_refused_in_the_first_call():
    operator, x = measured("real")
    for part, where in (
        (ProximalGradientPhase(ResidualCNN(4, 2, ranges=[(0.01, 0.1)])), "ResidualCNN"),
        (ProximalGradientPhase(ResidualCNN(4, 2), GradientStep(ranges=[(0.01, 0.1)])), "GradientStep"),
    ):
        with pytest.raises(ValueError, match=rf"{where}: condition must be given, .* made with noise_range"):
            ComposedNetwork(part, 2)(operator(x), operator)


class Half(Prior):
    def forward(self, z, condition=None):
        return z[..., ::2, ::2]


class Magnitude(Prior):
    def forward(self, z, condition=None):
        return z.abs()


@pytest.mark.parametrize(
    ("prior", "kind", "message"),
    [
        (Half(), "real", r"given, torch.float32 \(3, 1, 22, 33\), got torch.float32 \(3, 1, 11, 17\)"),
        (Magnitude(), "complex", r"given, torch.complex64 .*, got torch.float32"),
    ],
)
def test_a_prior_that_returns_other_images_is_refused_in_the_first_call(prior, kind, message):
    operator, x = measured(kind)
    network = ComposedNetwork(ProximalGradientPhase(prior), 2, complex_images=kind == "complex")
    with pytest.raises(ValueError, match=f"ProximalGradientPhase: the prior {type(prior).__name__} must .* {message}"):
        network(operator(x), operator)


class Forgetful(AlgorithmPhase):
    def begin(self, x, y, operator):
        return x, x

    def forward(self, state, y, operator, condition=None):
        return (state[0],)


def test_a_phase_that_returns_another_state_is_refused_in_the_first_call():
    operator, x = measured("real")
    with pytest.raises(ValueError, match=r"Forgetful: must return a state like the one that it is given, .* got \["):
        ComposedNetwork(Forgetful(ResidualCNN(4, 2)), 2)(operator(x), operator)


def test_closed_forms_are_demanded_where_that_is_asked_for():
    phase = ProximalGradientPhase(ResidualCNN(4, 2), ProximalStep(closed_form=True))
    fourier, x = MaskedFourier(CartesianMask(2), 16, 16), torch.rand(1, 1, 16, 16)
    network = ComposedNetwork(phase, 2)
    y = fourier(x)
    exact = network(y, fourier)
    phase.data_step.closed_form = network.phases[1].data_step.closed_form = False
    torch.testing.assert_close(exact, network(y, fourier))
    phase.data_step.closed_form = True
    radon = Radon(10, 16, 16)
    with pytest.raises(ValueError, match=r"needs \(AᴴA \+ λ\)⁻¹ in closed form, which .* has not"):
        network(radon(x), radon)
