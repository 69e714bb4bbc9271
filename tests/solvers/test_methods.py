"""Methods by name: the same picture in any units, of any kind of numbers, of any sides."""

import numpy as np
import pytest
import torch

import unrolled
from tests.helpers import picture
from tests.pairs import FULL, in_turn
from unrolled.metrics import psnr
from unrolled.operators import (
    Blur,
    Dense,
    GaussianKernel,
    Identity,
    LinearOperator,
    MaskedFourier,
    MultiCoilFourier,
    RadialMask,
    Radon,
    UniformMask,
)
from unrolled.solvers.methods import METHODS, classical

FACTORS = (1e-6, 1e-2, 50.0, 1e6)
STRENGTH = {"least-squares": 1e-2}  # without, it is only rounding that a blur does not lose
ITERATIONS = {"least-squares": 30}  # on the way conjugate gradients depend on rounding, at their end they do not


def operators():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 1, 1, generator=generator) + 0.3 * torch.randn(3, 16, 16, generator=generator)
    maps = torch.complex(maps, maps.flip(0))
    coils = MultiCoilFourier(maps / maps.abs().square().sum(0).sqrt(), UniformMask(0.5), complex_images=True)
    norm = coils.norm()
    coils.norm = lambda: norm  # by power iteration, here once
    return {
        "Fourier": MaskedFourier(RadialMask(0.5), 16, 16),
        "coils": coils,
        "dense": Dense(torch.randn(150, 256, generator=generator), 16, 16),
        "blur": Blur(GaussianKernel(1.0)),
        "Radon": Radon(20, 32, 32),
    }


OPERATORS = operators()
every_method = pytest.mark.parametrize("method", METHODS)


def images(operator):
    """Two of them, of which the second is thirty times as bright."""
    side = 32 if isinstance(operator, Radon) else 16
    x = torch.stack([picture(side, side, 0), 30 * picture(side, side, 1)])
    return x.to(torch.complex64) if operator.complex_images else x


def by_name(method, y, operator, **options):
    return classical(method, y, operator, STRENGTH.get(method), ITERATIONS.get(method, 6), **options)


def check_near(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4 * float(other.abs().max()), rtol=0)


@pytest.mark.parametrize(("name", "method"), in_turn(list(OPERATORS), list(METHODS), 2, FULL))
def test_neither_the_units_of_measurements_nor_those_of_the_operator_matter(name, method):
    operator = OPERATORS[name]
    y = operator(images(operator))
    found = by_name(method, y, operator)
    check_near(torch.cat([by_name(method, y[i : i + 1], operator) for i in (0, 1)]), found)
    turn = list(METHODS).index(method) + list(OPERATORS).index(name)
    for factor in FACTORS if FULL else (FACTORS[turn % 4],):
        check_near(by_name(method, factor * y, operator) / factor, found)
        check_near(by_name(method, y, factor * operator) * factor, found)


@every_method
def test_the_units_may_be_inside_of_the_operator(method):
    # Whose estimate is the adjoint, which then is ten thousand times too large.
    operator = OPERATORS["dense"]
    y = operator(images(operator))
    other = Dense(100 * operator.matrix, 16, 16)
    check_near(100 * by_name(method, y, other), by_name(method, y, operator))


@every_method
def test_scale_is_what_white_is(method):
    operator = OPERATORS["Fourier"]
    y = operator(images(operator))
    unit = by_name(method, y / torch.tensor([0.5, 20.0]).view(2, 1, 1, 1), operator, scale=1.0)
    check_near(by_name(method, y, operator, scale=[0.5, 20]), unit * torch.tensor([0.5, 20.0]).view(2, 1, 1, 1))
    check_near(by_name(method, y, operator, scale=np.float64(20)), 20 * by_name(method, y / 20, operator, scale=1))
    assert by_name(method, 0 * y, operator).abs().max() == 0


class Bound(LinearOperator):
    """Half of the image, whose norm is stated as something else."""

    def __init__(self, stated):
        super().__init__()
        self.stated = stated

    def forward(self, x):
        return x / 2

    def adjoint(self, y):
        return y / 2

    def norm(self):
        return torch.tensor(self.stated)


def test_strengths_do_not_go_by_a_bound_of_the_norm():
    x = picture(16, 16)[None]
    # Both so long that they arrive: a bound makes steps short.
    exact, bound = (classical("tv", x / 2, Bound(norm), 0.05, 400) for norm in (0.5, 2.0))
    torch.testing.assert_close(bound, exact, atol=1e-3, rtol=0)
    assert (exact - x).abs().max() > 0.02  # the strength is not negligible
    with pytest.raises(ValueError, match="amplifies an image by 5 times the norm that it states"):
        classical("tv", x / 2, Bound(0.1))
    with pytest.raises(ValueError, match="operator: must have a finite norm > 0, got nan"):
        classical("tv", x / 2, Bound(float("nan")))


@pytest.mark.parametrize("side", [127, 126, 97, 63])
def test_wavelets_gain_on_any_sides(side):
    cat = unrolled.data.embedded_images("test")["camera"][:, 150 : 150 + side, 150 : 150 + side][None]
    operator = MaskedFourier(RadialMask(0.2), side, side)
    y = operator(cat)
    found = classical("wavelet-l1", y, operator, iterations=60)
    assert psnr(found, cat) > psnr(operator.estimate(y), cat) + 1.2  # in the DCT nothing is gained


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (5, 7), (24, 40)])
@every_method
def test_images_of_any_shape(method, shape):
    x = picture(*shape)[None]
    found = classical(method, x, Identity(), iterations=10)
    torch.testing.assert_close(found, x, atol=0.03, rtol=0)


@every_method
def test_measurements_as_users_have_them(method):
    operator = OPERATORS["dense"]
    y = (10 * operator(images(operator))).round()
    expected = by_name(method, y, operator)
    twice = torch.stack([y, y], -1)[..., 0]
    for given in (
        y.numpy(),
        y.tolist(),
        y.double(),
        y.long(),
        y.numpy().astype(np.int16),
        twice,
        y.numpy()[::-1][::-1],
    ):
        found = by_name(method, given, operator)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected)


@every_method
def test_what_is_no_measurement_is_refused_by_name(method):
    operator = OPERATORS["dense"]
    y = operator(images(operator))
    nan, inf = y.clone(), y.clone()
    nan[1, 0, 7], inf[1, 0, 7] = torch.nan, torch.inf
    for bad, message in [
        (nan, "y: must be finite"),
        (inf, "y: must be finite"),
        (y + 1j, "y: must be real, for Dense measures real numbers; got torch.complex64"),
        (y[:0], "y: must be measurements of at least one image"),
        (torch.tensor(1.0), "y: must be measurements of at least one image"),
        (y[..., :-1], "Dense: measurements must be"),
        ("measurements", "y: must be an array of numbers, got 'measurements'"),
        (None, "y: must be an array of numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            classical(method, bad, operator)


def test_numbers_that_are_none_are_refused_by_name():
    operator = OPERATORS["Fourier"]
    y = operator(images(operator))
    for bad in (True, "1", float("nan"), -1.0, 1j, np.array([1.0, 2.0])):
        with pytest.raises(ValueError, match="strength: must be a finite number >= 0"):
            classical("tv", y, operator, bad)
    for bad in (True, "1", 2.5, 0, float("inf")):
        with pytest.raises(ValueError, match="iterations: must be a whole number >= 1"):
            classical("tv", y, operator, iterations=bad)
    for bad in (0.0, -1.0, float("nan"), [1.0, 2.0, 3.0], [1.0, 0.0], 1j):
        with pytest.raises(ValueError, match="scale: must be a finite number > 0, or one for each of the 2 images"):
            classical("tv", y, operator, scale=bad)
    with pytest.raises(ValueError, match="scale: must be an array of numbers"):
        classical("tv", y, operator, scale="max")
    with pytest.raises(ValueError, match="scale: y divided by it must be finite"):
        classical("tv", 1e6 * y, operator, scale=2e-38)
    with pytest.raises(ValueError, match="strength: must be > 0 for tv"):
        classical("tv", y, operator, 0)
    expected = classical("tv", y, operator, 0.25, 3)
    for given in (np.float32(0.25), np.array(0.25), torch.tensor(0.25)):
        assert classical("tv", y, operator, given, np.int64(3)).equal(expected)


def test_weights_are_those_of_least_squares():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(30, 20, dtype=torch.float64, generator=generator)
    operator = Dense(matrix, 4, 5).double()
    y, weights = torch.randn(1, 1, 30, generator=generator).double(), torch.rand(30, generator=generator).double()
    found = classical("least-squares", y, operator, iterations=200, weights=7 * weights).flatten()
    expected = torch.linalg.solve(matrix.T @ (weights[:, None] * matrix), matrix.T @ (weights * y.flatten()))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    even = classical("tv", y, operator, weights=torch.full((1,), 3.0))
    torch.testing.assert_close(even, classical("tv", y, operator))


@pytest.mark.parametrize("weights", [[-1.0], [0.0], [float("nan")], [1j], torch.ones(29), "1"])
def test_what_are_no_weights_is_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        classical("tv", torch.ones(1, 1, 30), Dense(torch.ones(30, 20), 4, 5), weights=weights)
