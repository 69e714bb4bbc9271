import pytest
import torch

from unrolled.operators import Blur, BoxKernel, Coils, Dense, MaskedFourier, MultiCoilFourier, RadialMask, Radon
from unrolled.operators.units import amplitude, image_scale

OPERATORS = {
    "matrix": lambda: Dense(torch.randn(40, 99, generator=torch.Generator().manual_seed(0)), 9, 11),
    "Fourier": lambda: MaskedFourier(RadialMask(0.5), 9, 11),
    "coils": lambda: MultiCoilFourier(Coils(3), RadialMask(0.5), 9, 11),
    "blur": lambda: Blur(BoxKernel(3)),
    "rays": lambda: Radon(30, 9, 11),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_scale_follows_the_units_of_measurements_and_of_the_operator(name):
    operator = OPERATORS[name]()
    x = torch.rand(3, 1, 9, 11, generator=torch.Generator().manual_seed(1))
    y = operator(x + 0j if operator.complex_images else x)
    scale = image_scale(y, operator)
    assert scale.shape == (3,)
    assert bool(((scale > 0.3) & (scale < 3)).all())
    for c in (1e-6, 0.02, 300.0, 1e6):
        torch.testing.assert_close(image_scale(c * y, operator), c * scale, rtol=1e-3, atol=0)
        torch.testing.assert_close(image_scale(y, c * operator), scale / c, rtol=1e-3, atol=0)
    each = torch.cat([image_scale(y[index : index + 1], operator) for index in range(3)])
    torch.testing.assert_close(each, scale)


def test_where_nothing_is_seen_the_scale_is_one():
    operator = OPERATORS["matrix"]()
    assert image_scale(torch.zeros(2, 1, 40), operator).tolist() == [1, 1]


def test_the_amplitude_is_that_of_least_squares():
    operator = OPERATORS["matrix"]().double()
    generator = torch.Generator().manual_seed(2)
    x, y = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((4, 1, 9, 11), (4, 1, 40)))
    x = torch.where((operator(x) * y).sum((1, 2)).view(4, 1, 1, 1) > 0, x, -x)
    expected = [torch.linalg.lstsq(operator(x)[i].T, y[i].T).solution.item() for i in range(4)]
    torch.testing.assert_close(amplitude(x, y, operator), torch.tensor(expected, dtype=torch.float64))
    assert amplitude(-x, y, operator).tolist() == [1, 1, 1, 1]  # nothing that is positive explains anything
