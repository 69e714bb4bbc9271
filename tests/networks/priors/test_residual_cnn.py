"""The residual network: the laws, and its equation written out by itself."""

import pytest
import torch
import torch.nn.functional as F

from tests.networks.priors.laws import PriorLaws
from unrolled.networks import ResidualCNN


class TestResidualCNN(PriorLaws):
    prior_class = ResidualCNN
    cases = {
        "three layers": lambda **options: ResidualCNN(features=6, depth=3, **options),
        "two, without bias": lambda **options: ResidualCNN(features=5, depth=2, bias=False, **options),
    }


def test_it_is_its_equation():
    prior, z = TestResidualCNN().make("three layers")
    first, second, third = prior.layers
    inner = F.relu(F.conv2d(z, first.weight, first.bias, padding=1))
    inner = F.relu(F.conv2d(inner, second.weight, second.bias, padding=1))
    torch.testing.assert_close(prior(z), z + F.conv2d(inner, third.weight, third.bias, padding=1))


@pytest.mark.parametrize(("key", "value"), [("features", 0), ("depth", 1), ("depth", 2.5)])
def test_bad_arguments_are_refused_by_name(key, value):
    with pytest.raises(ValueError, match=f"ResidualCNN: {key} must be"):
        ResidualCNN(**{key: value})
