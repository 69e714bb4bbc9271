"""The sizes of what convolutions make when they begin."""

import pytest
import torch
from torch import nn

from unrolled.networks.initial_weights import of_one_size


@pytest.mark.parametrize("rectified", [True, False])
def test_what_is_made_is_as_large_as_what_it_is_made_of(rectified):
    torch.manual_seed(0)
    inputs = torch.randn(1, 256, 32, 32)
    inputs = inputs.relu() if rectified else inputs
    layer = of_one_size(nn.Conv2d(256, 256, 3), rectified)
    with torch.no_grad():
        outputs = layer(inputs).relu() if rectified else layer(inputs)
    assert outputs.square().mean() == pytest.approx(float(inputs.square().mean()), rel=0.15)
    assert not layer.bias.any()
