"""MoDL: the laws, and its equation written out by itself."""

import pytest
import torch
from torch import nn

from tests.networks.laws import NetworkLaws, double, measured
from tests.networks.training import trained_ten_steps
from unrolled.networks import MoDL


class TestMoDL(NetworkLaws):
    network_class = MoDL
    cases = {"small": lambda **options: MoDL(**{"features": 8, "depth": 3, "ridge": 0.2, **options})}
    rate = 3e-3
    implicit_options = {}


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_it_is_its_equation(kind):
    network, (operator, x) = MoDL(1, 4, 3, ridge=0.2, complex_images=kind == "complex").double(), measured(kind)
    nn.init.normal_(network.phases[0].prior.layers[-1].weight, std=0.1)
    operator, x = operator.double(), double(x)
    y = operator(x)
    (phase,) = network.phases
    assert phase.data_step.weight().item() == pytest.approx(0.2)
    start, image = network.iterates(y, operator)
    torch.testing.assert_close(
        operator.gram(image) + 0.2 * image, operator.adjoint(y) + 0.2 * phase.prior(start), rtol=1e-5, atol=1e-5
    )


def test_its_size_is_that_of_the_paper():
    # Five layers of 64 maps, of which the paper has .11 M weights.
    assert MoDL(complex_images=True).parameter_count == pytest.approx(0.113e6, rel=0.01)


@pytest.mark.parametrize("name", ["Radon", "MaskedFourier"])
def test_it_is_trained_saved_and_evaluated(name, tmp_path):
    trained_ten_steps(name, tmp_path, lambda kind: MoDL(2, 4, 2, complex_images=kind))
