"""The variational network: the laws, and its equation written out by itself."""

import pytest
import torch
import torch.nn.functional as F

from tests.networks.laws import NetworkLaws, double, measured
from tests.networks.training import trained_ten_steps
from unrolled.networks import VariationalNetwork


class TestVariationalNetwork(NetworkLaws):
    network_class = VariationalNetwork
    cases = {
        "small": lambda **options: VariationalNetwork(**{"filters": 6, "size": 5, "functions": 11, **options}),
    }
    rate = 2e-2

    def contracting(self, network):
        with torch.no_grad():
            network.phases[0].data_step.raw_weight.fill_(0.2915)  # a step of .85
            for weights in network.phases[0].prior.activation.parameters():
                weights.mul_(0.05)


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_it_is_its_equation(kind):
    network, (operator, x) = TestVariationalNetwork().make("small", kind, phases=1)[0].double(), measured(kind)
    operator, x = operator.double(), double(x)
    y, (phase,) = operator(x), network.phases
    step = F.softplus(phase.data_step.raw_weight)
    start, image = network.iterates(y, operator)
    # The prior is x less the sum over the filters; its own equation is tested where it is defined.
    filtered = start - phase.prior(start)
    assert filtered.abs().max() > 1e-3
    torch.testing.assert_close(image, start - step * operator.adjoint(operator(start) - y) - filtered)


def test_its_size_is_that_of_the_paper():
    # 10 phases of 48 filters of 11² of the real and of the imaginary part, 31 weights of each activation, and a step.
    assert VariationalNetwork(complex_images=True).parameter_count == 131_050 == 10 * (48 * (2 * 121 + 31) + 1)


@pytest.mark.parametrize("name", [pytest.param("Radon", marks=pytest.mark.full), "MaskedFourier"])
def test_it_is_trained_saved_and_evaluated(name, tmp_path):
    trained_ten_steps(name, tmp_path, lambda kind: VariationalNetwork(2, 4, 3, 5, complex_images=kind))
