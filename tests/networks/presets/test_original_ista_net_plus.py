"""ISTA-Net+ in the form of its authors' program: the laws, and their arithmetic on vectors of blocks, restated."""

import pytest
import torch
import torch.nn.functional as F

from tests.networks.laws import NetworkLaws, double, measured, pictures
from unrolled.networks import BlockStart, OriginalISTANetPlus
from unrolled.operators import BlockCompressedSensing
from unrolled.reconstruction.tiles import in_tiles


class TestOriginalISTANetPlus(NetworkLaws):
    network_class = OriginalISTANetPlus
    cases = {"small": lambda **options: OriginalISTANetPlus(features=4, **options)}
    no_implicit = "must not be Implicit"


def conv(x, layer):
    return F.conv2d(x, layer.weight, padding=1)


@pytest.mark.parametrize(("kind", "threshold"), [("real", 0.05), ("real", -0.05), ("complex", 0.05)])
def test_it_is_its_equation_with_numbers_of_any_sign(kind, threshold):
    torch.manual_seed(0)
    network, (operator, x) = OriginalISTANetPlus(2, 3, complex_images=kind == "complex").double(), measured(kind)
    operator, x = operator.double(), double(x)
    with torch.no_grad():
        for phase in network.phases:
            torch.nn.init.normal_(phase.last.weight, std=0.3)
            phase.step.fill_(0.7 if threshold > 0 else -0.2)
            phase.threshold.fill_(threshold)
    y, asymmetry = operator(x), 0
    expected = operator.estimate(y)
    for phase in network.phases:
        b = expected - phase.step * operator.adjoint(operator(expected) - y)
        maps = torch.view_as_real(b)[:, 0].movedim(-1, 1) if b.is_complex() else b
        d = conv(maps, phase.first)
        z = conv(F.relu(conv(d, phase.analysis[0])), phase.analysis[2])
        back = conv(F.relu(conv(z, phase.synthesis[0])), phase.synthesis[2])
        asymmetry = asymmetry + (back - d).square().mean()
        shrunk = torch.where(z.abs() > threshold, z - threshold * z.sign(), 0)
        change = conv(conv(F.relu(conv(shrunk, phase.synthesis[0])), phase.synthesis[2]), phase.last)
        change = torch.complex(change[:, :1], change[:, 1:]) if b.is_complex() else change
        expected = b + change
    torch.testing.assert_close(network(y, operator), expected)
    loss = (expected - x).abs().square().mean() + 0.01 * asymmetry / 2
    torch.testing.assert_close(network.loss(x, y, operator), loss)


def test_with_a_block_each_of_them_is_an_image_of_its_own():
    torch.manual_seed(0)
    network, operator = OriginalISTANetPlus(2, 4, block=11), BlockCompressedSensing(0.25, block=11)
    for phase in network.phases:
        torch.nn.init.normal_(phase.last.weight, std=0.1)
    x = pictures(22, 33).expand(-1, 2, -1, -1) * torch.tensor([1, 0.5])[:, None, None]
    y = operator(x)
    together = network(y, operator)
    for row in range(2):
        for column in range(3):
            part = operator.crop(y, 11 * row, 11 * column, 11, 11)
            here = together[..., 11 * row : 11 * row + 11, 11 * column : 11 * column + 11]
            torch.testing.assert_close(network(part, operator), here, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(in_tiles(y, network, operator, 11), together, atol=1e-6, rtol=1e-5)
    whole = OriginalISTANetPlus(2, 4)
    whole.load_state_dict(network.state_dict())
    assert (whole(y, operator) - together).abs().max() > 1e-3
    with pytest.raises(ValueError, match="multiples of the block, 11"):
        network.phases[0].images(x[..., :-1])


def test_the_start_of_blocks_is_the_matrix_that_it_was_given():
    torch.manual_seed(0)
    operator, matrix = BlockCompressedSensing(measurements=30, block=11), torch.randn(121, 30)
    start, x = BlockStart(11, 30, matrix), pictures(22, 33)
    y = operator(x)
    found = start(y, operator)
    for row in range(2):
        for column in range(3):
            block = found[:, 0, 11 * row : 11 * row + 11, 11 * column : 11 * column + 11].flatten(1)
            torch.testing.assert_close(block, y[:, 0, :, row, column] @ matrix.T)
    network = OriginalISTANetPlus(1, 2, start=start)
    assert network(y, operator).shape == x.shape
    # In the units of the image, though the phases are given an operator of the norm 1.
    large = BlockCompressedSensing(matrix=10 * operator.matrix, block=11)
    scaled = OriginalISTANetPlus(1, 2, start=BlockStart(11, 30, matrix / 10))
    torch.testing.assert_close(scaled.iterates(10 * y, large)[0], found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OriginalISTANetPlus(symmetry=-1), "symmetry must be >= 0"),
        (lambda: OriginalISTANetPlus(block=0), "block must be a whole number in 1"),
        (lambda: BlockStart(11, 30, torch.zeros(30, 121)), r"BlockStart: matrix must be real, \(121, 30\)"),
        (lambda: BlockStart(11, 30)(torch.zeros(1, 30), BlockCompressedSensing(0.25, block=11)), "as those of blocks"),
    ],
)
def test_what_it_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
