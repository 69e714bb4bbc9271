"""Learned activations: their equation, their gradients, and what they keep in memory."""

import pytest
import torch

from unrolled.networks.priors.radial_basis import RadialBasisActivation


def activation(features: int = 3, functions: int = 7, extent: float = 0.8) -> RadialBasisActivation:
    torch.manual_seed(0)
    layer = RadialBasisActivation(features, functions, extent)
    torch.nn.init.normal_(layer.weight)
    return layer


def test_it_is_a_sum_of_gaussians():
    layer, v = activation().double(), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    centres = torch.tensor([-0.8, -1.6 / 3, -0.8 / 3, 0.0, 0.8 / 3, 1.6 / 3, 0.8], dtype=torch.float64)
    bumps = torch.exp(-(((v.unsqueeze(-1) - centres) * 3 / 0.8) ** 2) / 2)
    expected = (bumps * layer.weight.view(1, 3, 1, 1, 7)).sum(-1)
    torch.testing.assert_close(layer(v), expected)
    with torch.no_grad():
        torch.testing.assert_close(layer(v), expected)


def test_its_gradients_are_right_twice():
    layer, v = activation(2, 4).double(), torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    apply = lambda v, _: layer(v)  # noqa: E731
    assert torch.autograd.gradcheck(apply, (v, layer.weight))
    assert torch.autograd.gradgradcheck(apply, (v, layer.weight))


def test_it_keeps_no_more_than_its_input():
    layer, v = activation(functions=31), torch.randn(2, 3, 16, 16, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda x: x):
        layer(v)
    assert sum(kept) == v.numel() + layer.weight.numel()


def test_half_precision_is_summed_in_single():
    layer, v = activation(functions=31), torch.linspace(-1.2, 1.2, 600).view(1, 3, 200)
    half = v.bfloat16()
    torch.testing.assert_close(layer(half), layer(half.float()))
    half = half.requires_grad_()
    (gradient,) = torch.autograd.grad(layer(half).sum(), half)
    assert gradient.dtype == torch.bfloat16


@pytest.mark.parametrize("options", [{"functions": 1}, {"extent": float("nan")}, {"features": 0}])
def test_bad_arguments_are_refused_by_name(options):
    with pytest.raises(ValueError, match=f"RadialBasisActivation: {next(iter(options))} must be"):
        RadialBasisActivation(**{"features": 2, **options})
