import pytest
import torch
import torch.nn.functional as F

from unrolled.networks.maps import ConvolutionPair, WindowAttention
from unrolled.networks.narrow import conv_from_one, conv_to_one, convolve


@pytest.mark.parametrize(("inputs", "middle", "outputs"), [(1, 6, 6), (6, 6, 1), (2, 3, 4)])
def test_a_pair_is_its_two_convolutions_after_one_padding(inputs, middle, outputs):
    torch.manual_seed(0)
    pair = ConvolutionPair(inputs, middle, outputs).double()
    x = torch.randn(2, inputs, 8, 11, dtype=torch.float64)
    one_after_the_other = F.conv2d(F.conv2d(x, pair.first, padding=2), pair.second)
    torch.testing.assert_close(pair(x), one_after_the_other)
    loss, expected = pair(x).square().sum(), one_after_the_other.square().sum()
    for got, wanted in zip(
        torch.autograd.grad(loss, list(pair.parameters())),
        torch.autograd.grad(expected, list(pair.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("size", [(3, 4), (1, 1), (2, 12)])
def test_convolutions_by_taps_are_convolutions(k, size):
    torch.manual_seed(0)
    image = torch.randn(2, 1, *size, dtype=torch.float64, requires_grad=True)
    spread = torch.randn(3, 1, k, k, dtype=torch.float64, requires_grad=True)
    maps = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    gather = torch.randn(1, 3, k, k, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(conv_from_one(image, spread), F.conv2d(image, spread, padding=k // 2))
    torch.testing.assert_close(conv_to_one(maps, gather), F.conv2d(maps, gather, padding=k // 2))
    if size != (2, 12):
        torch.autograd.gradcheck(conv_from_one, (image, spread))
        torch.autograd.gradcheck(conv_to_one, (maps, gather))


def test_convolutions_by_taps_in_bfloat16_are_as_exact_as_the_library():
    torch.manual_seed(0)
    image, spread = torch.randn(2, 1, 20, 20), torch.randn(8, 1, 5, 5) / 5
    maps, gather = torch.randn(2, 8, 20, 20), torch.randn(1, 8, 5, 5) / 14
    for ours, x, kernel in ((conv_from_one, image, spread), (conv_to_one, maps, gather)):
        exact = F.conv2d(x, kernel, padding=2)
        library = F.conv2d(x.bfloat16(), kernel.bfloat16(), padding=2).float()
        with torch.autocast("cpu", torch.bfloat16):
            error = (ours(x, kernel).float() - exact).square().mean().sqrt()
        assert error <= 1.5 * (library - exact).square().mean().sqrt()


def test_a_convolution_to_two_channels_is_a_convolution():
    torch.manual_seed(0)
    maps = torch.randn(2, 5, 6, 7, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(2, 5, 5, 5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(convolve(maps, kernel), F.conv2d(maps, kernel, padding=2))


@pytest.mark.full
@pytest.mark.usefixtures("fresh_compiler")
def test_window_attention_compiles_to_one_graph():
    block, z = WindowAttention(features=4, window=3), torch.rand(1, 4, 7, 10)
    compiled = torch.compile(block, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(z), block(z))
