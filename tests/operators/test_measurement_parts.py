"""Parts of measurements: together they are the whole, each is what its own operator measures, and none is in both."""

import numpy as np
import pytest
import torch

from tests.helpers import picture
from unrolled.operators import (
    BlockCompressedSensing,
    Blur,
    CartesianMask,
    Coils,
    Dense,
    Downsampling,
    FanBeam,
    GaussianKernel,
    Identity,
    Inpainting,
    MaskedFourier,
    MultiCoilFourier,
    RadialMask,
    Radon,
)
from unrolled.operators.measurement_parts import split

OPERATORS = {
    "pixels": Inpainting(keep=0.6, height=32, width=40),
    "real images": MaskedFourier(RadialMask(0.4), 32, 40),
    "complex images, in the middle": MaskedFourier(CartesianMask(2), 32, 40, complex_images=True, centered=True),
    "coils": MultiCoilFourier(Coils(3), CartesianMask(2), 32, 40),
    "angles": Radon(12, 32, 40, first_angle=20.0),
    "a fan": FanBeam(12, 32, 40, source_distance=80),
    "rows of a matrix": BlockCompressedSensing(ratio=0.5, block=8),
    "blurred": Blur(GaussianKernel(1.0)),
    "smaller": Downsampling(2),
    "images": Identity(),
    "blurred, with holes": Inpainting(keep=0.6, height=32, width=40) @ Blur(GaussianKernel(1.0)),
    "in other units": 30 * Radon(12, 32, 40),
}


def image_for(operator):
    x = torch.stack([picture(32, 40, seed) for seed in range(2)])
    return torch.polar(x, 2 * x.flip(-1)) if operator.complex_images else x


@pytest.mark.parametrize("name", OPERATORS)
def test_each_part_is_what_its_operator_measures(name):
    operator = OPERATORS[name]
    x = image_for(operator)
    y = operator(x)
    shown, hidden = split(operator, y, 0.25, np.random.default_rng(0))
    for part in (shown, hidden):
        torch.testing.assert_close(part.operator(x), part.of(y), atol=1e-5, rtol=1e-5)
        assert part.operator.estimate(part.of(y)).shape == x.shape
    numbers = [int((part.of(y) != 0).sum()) for part in (shown, hidden)]
    assert sum(numbers) == int((y != 0).sum())  # nothing is lost, and nothing is in both
    assert 0.12 < numbers[1] / sum(numbers) < 0.4
    if shown.axis is None:
        torch.testing.assert_close(shown.of(y) + hidden.of(y), y)
    again, other = (split(operator, y, 0.25, np.random.default_rng(seed))[1].of(y) for seed in (0, 1))
    assert torch.equal(again, hidden.of(y))
    assert other.shape == again.shape
    assert not torch.equal(other, again)


def test_of_real_images_a_frequency_and_its_negative_are_in_one_part():
    operator = OPERATORS["real images"]
    _, hidden = split(operator, operator(image_for(operator)), 0.3, np.random.default_rng(3))
    drawn = hidden.mask.bool()
    rows, columns = drawn.nonzero(as_tuple=True)
    assert bool(drawn[-rows % 32, -columns % 40].all())
    low = [(row, column) for row in (-2, -1, 0, 1, 2) for column in (-2, -1, 0, 1, 2)]
    assert not any(drawn[place] for place in low)


def test_angles_keep_their_places():
    operator = OPERATORS["angles"]
    shown, hidden = split(operator, operator(image_for(operator)), 0.25, np.random.default_rng(0))
    together = torch.cat([shown.operator.angles, hidden.operator.angles]).sort().values
    torch.testing.assert_close(together, operator.angles)


def test_what_has_no_parts_is_refused():
    y = torch.zeros(1, 1, 5)
    with pytest.raises(ValueError, match="split: measurements by Dense are not known to have parts"):
        split(Dense(torch.rand(5, 16), 4, 4), y, 0.2, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"split: share must be in \(0, 1\), got 1"):
        split(Identity(), y, 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="split: needs at least 2 measurements along the axis 2, got 1"):
        split(Radon(1, 8, 8), torch.zeros(1, 1, 1, 12), 0.5, np.random.default_rng(0))
    few = MaskedFourier(torch.nn.functional.pad(torch.ones(1, 1), (0, 31, 0, 31)), complex_images=True)
    with pytest.raises(ValueError, match="split: MaskedFourier has too few samples to be divided"):
        split(few, torch.zeros(1, 1, 32, 32, dtype=torch.complex64), 0.5, np.random.default_rng(0))
