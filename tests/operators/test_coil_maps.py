"""Maps of coils against coils that are known."""

import numpy as np
import pytest
import torch

from tests.helpers import picture
from unrolled.operators import CartesianMask, Coils, Espirit, LowResolution, MultiCoilFourier, conjugate_gradients
from unrolled.operators.frequencies import fourier

HEIGHT, WIDTH = 48, 40
INSIDE = np.s_[..., 14:34, 12:28]
"""Of the body, well away from its edge."""


def body() -> torch.Tensor:
    """An image in [0, 1] with dark around it, as scanners see it."""
    image = torch.zeros(HEIGHT, WIDTH, dtype=torch.float64)
    image[10:38, 8:32] = 0.2 + 0.7 * picture(28, 24)[0].double()
    return image


def phase() -> torch.Tensor:
    rows, columns = (torch.linspace(-1, 1, side, dtype=torch.float64) for side in (HEIGHT, WIDTH))
    angle = 0.5 + rows[:, None] - 0.7 * columns + 0.6 * rows[:, None] * columns
    return torch.polar(torch.ones_like(angle), angle)


def coils(count: int = 4) -> torch.Tensor:
    return Coils(count, 2.0).draw(HEIGHT, WIDTH)


def columns(acceleration: float = 2.0, center: float = 0.4) -> torch.Tensor:
    return torch.from_numpy(CartesianMask(acceleration, center).centered(HEIGHT, WIDTH).astype(float))


def off_axis(maps: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """The part of the truth, a unit vector of coils for each pixel, that is in no direction of the maps (set, coil)."""
    seen = torch.einsum("sc...,sd...,d...->c...", maps, maps.conj(), truth)
    return (truth - seen).norm(dim=0)


@pytest.mark.parametrize("centered", [False, True])
def test_low_resolution_gives_the_coils_with_the_phase_of_the_image(centered):
    maps = LowResolution(15).estimate(fourier(coils() * body() * phase(), centered), centered=centered)
    torch.testing.assert_close(maps.abs().square().sum(0), torch.ones(HEIGHT, WIDTH, dtype=torch.float64))
    error = (maps - coils() * phase())[INSIDE].abs()
    assert error.max() < 0.15
    assert error.mean() < 0.03


@pytest.mark.parametrize("centered", [False, True])
def test_espirit_gives_the_coils_with_the_phase_of_the_image_where_there_is_one(centered):
    mask = columns() if centered else torch.fft.ifftshift(columns())
    maps = Espirit().estimate(mask * fourier(coils() * body() * phase(), centered), mask, centered)
    error = (maps - coils() * phase())[INSIDE].abs()
    assert error.max() < 0.05
    assert error.mean() < 0.01
    assert off_axis(maps[None], coils())[INSIDE].max() < 0.01
    # A unit vector in the body, and nothing away from it.
    assert (maps.norm(dim=0)[INSIDE] - 1).abs().max() < 1e-12
    assert not maps[:, :, :2].any()


SIGPY = {
    (3, 4): [0.750291 - 0.814708j, 5.159750 - 0.320825j],
    (9, 12): [0.525053 + 0.085244j, 0.525438 - 0.189346j],
    (16, 7): [1.899578 + 2.027834j, 0.654204 + 0.601794j],
}
"""The maps of sigpy 0.1.27 at three pixels, over that of the first coil. With y as in the test, they are those of
`sigpy.mri.app.EspiritCalib(y.numpy(), calib_width=14, kernel_width=4, thresh=0.02, crop=0.8, max_iter=1000).run()`."""


def test_espirit_is_that_of_sigpy():
    texture = torch.from_numpy(np.random.RandomState(0).uniform(size=(20, 18)))
    y = fourier(Coils(3, 1.2).draw(20, 18) * texture, True)
    maps = Espirit(14, kernel_size=4, crop=0.8).estimate(y, centered=True)
    for pixel, theirs in SIGPY.items():
        np.testing.assert_allclose(maps[1:, *pixel] / maps[0, *pixel], theirs, atol=2e-6)


def test_espirit_explains_what_it_has_not_seen():
    y = fourier(coils() * body() * phase(), True)
    outside = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    outside[16:33, 12:29] = False
    left = []
    for way in (Espirit(17, threshold=0.01), LowResolution(17)):
        operator = MultiCoilFourier(way.estimate(y, centered=True), torch.ones(HEIGHT, WIDTH), centered=True).double()
        b = operator.adjoint(y[None, None])
        fitted = conjugate_gradients(operator.gram, b, iterations=20)
        left.append(((operator(fitted)[0, 0] - y) * outside).norm() / (y * outside).norm())
    assert left[0] < 0.02
    assert left[1] > 0.04


def test_an_object_larger_than_the_field_of_view_needs_two_sets():
    # Of twice the width, every second frequency is measured: the halves of the object are folded onto each other.
    wide = 2 * WIDTH
    image = torch.zeros(HEIGHT, wide, dtype=torch.float64)
    # A texture, for what is alike on both sides would be seen as one.
    image[8:40, 12:68] = torch.rand(32, 56, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    known = Coils(6, 1.2).draw(HEIGHT, wide)
    y = fourier(known * image, True)[..., ::2]
    pairs = torch.stack([known[..., 20:60], known.roll(WIDTH, -1)[..., 20:60]])
    folded = np.s_[..., 12:36, 1:6]  # the middle half, with what lies right of it
    one, two = Espirit().estimate(y, centered=True)[None], Espirit(sets=2).estimate(y, centered=True)[0]
    for truth in pairs:
        assert off_axis(two, truth)[folded].max() < 0.03
        assert off_axis(one, truth)[folded].mean() > 0.3
    alone = np.s_[..., 12:36, 16:24]
    assert off_axis(two, pairs[0])[alone].max() < 0.02
    assert not two[1][alone].any()


@pytest.mark.parametrize("way", [LowResolution(), Espirit()])
def test_coils_that_see_everything_alike_are_exact(way):
    part = torch.tensor([0.6, 0.8j], dtype=torch.complex128)[:, None, None]
    maps = way.estimate(columns() * fourier(part * body(), True), columns(), True)[INSIDE]
    torch.testing.assert_close(maps, part.expand_as(maps), rtol=1e-6, atol=1e-3)
    torch.testing.assert_close(maps[0] / maps[1], torch.full_like(maps[0], 0.6 / 0.8j))


@pytest.mark.parametrize("way", [LowResolution(), Espirit(sets=2)])
def test_units_types_and_batches_make_no_difference(way):
    y, mask = torch.stack([coils() * body(), coils() * body().flip(0) * phase()]), torch.fft.ifftshift(columns())
    y = mask * fourier(y)
    alone = [way.estimate(one) for one in y]
    alone = torch.cat(alone) if alone[0].ndim == 5 else torch.stack(alone)
    for given in (y, 1e-7 * y, (3e6 * y).numpy()):
        torch.testing.assert_close(way.estimate(given, mask), alone)
    single = way.estimate(y.to(torch.complex64), mask.expand(2, 1, -1, -1).bool())
    assert single.dtype == torch.complex64
    projections = (torch.einsum("...cyx,...dyx->...cdyx", maps, maps.conj()) for maps in (single, alone))
    torch.testing.assert_close(*(one[INSIDE] for one in projections), atol=1e-4, rtol=0, check_dtype=False)


def test_the_middle_must_be_sampled():
    mask = columns(center=0.3)
    y = mask * fourier(coils() * body(), True)
    assert LowResolution(11).estimate(y, mask, True).shape == y.shape
    with pytest.raises(ValueError, match="the middle of k-space must be sampled to estimate them, 25×25"):
        LowResolution(25).estimate(y, mask, True)
    with pytest.raises(ValueError, match=r"must be sampled to estimate them, 25×25 .* but only 25×14 are"):
        Espirit(25).estimate(y, mask, True)
    with pytest.raises(ValueError, match=r"16×16 .* only 24×14 are; take LowResolution or a smaller kernel"):
        Espirit(kernel_size=15).estimate(y, mask, True)
    mask[:, 20] = 0
    with pytest.raises(ValueError, match=r"5×5 .* but only 0×0 are"):
        LowResolution().estimate(y, mask, True)
    with pytest.raises(ValueError, match=r"7×7 .* but only 0×0 are"):
        Espirit().estimate(y, mask, True)
    for way in (LowResolution(41), Espirit(41)):
        with pytest.raises(ValueError, match=r"center: must be in 1 … 40"):
            way.estimate(y, mask, True)


@pytest.mark.parametrize("way", [LowResolution(), Espirit()])
def test_k_space_that_tells_nothing_is_refused(way):
    y, full = fourier(coils() * body(), True), torch.ones(HEIGHT, WIDTH)
    broken, hollow = y.clone(), y.clone()
    broken[1, 3, 4], hollow[:, 4:44, 2:38] = torch.nan, 0
    for given, mask, message in (
        (broken, None, "y must be finite, but holds NaN or inf"),
        (y[0], None, r"y must be \(coil, height, width\)"),
        (y[:0], None, r"y must be \(coil, height, width\)"),
        (0 * y, full, "maps: the middle of k-space is 0"),
        (hollow, full, "maps: the middle of k-space is 0"),
        (y, full.T, "height must be that of the mask, 40, got 48"),
        (y, 0.5 * full, "mask must be of 0 and 1"),
        (y[None], full.expand(2, 1, -1, -1), "mask must be one, or one for each of 1 images, got 2"),
        ("y", None, "y: must be an array of numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            way.estimate(given, mask, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"center": 0}, "center must be >= 1"),
        ({"kernel_size": 1}, "kernel_size must be >= 2"),
        ({"threshold": 0.0}, r"threshold must be in \(0, 1\)"),
        ({"threshold": float("nan")}, r"threshold must be in \(0, 1\)"),
        ({"crop": 1.0}, r"crop must be in \[0, 1\)"),
        ({"sets": 0}, "sets must be >= 1"),
        ({"sets": 2.5}, "sets must be a whole number"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"Espirit: {message}"):
        Espirit(**options)


def test_what_does_not_fit_the_coils_is_refused():
    y = fourier(coils() * body(), True)
    with pytest.raises(ValueError, match="sets must be at most the number of coils, 4, got 5"):
        Espirit(sets=5).estimate(y, centered=True)
    with pytest.raises(ValueError, match="kernel_size must be at most 38 for 4 coils, got 39"):
        Espirit(kernel_size=39).estimate(y, centered=True)


@pytest.mark.parametrize("sets", [1, 2])
def test_of_a_slice_of_noise_the_maps_are_smooth_and_a_warning_tells(sets):
    noise = torch.randn(4, 24, 24, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match=r"no eigenvalue is larger than crop=0.95, they reach 0.\d+: .* LowResolution"):
        maps = Espirit(threshold=0.9, sets=sets).estimate(noise, centered=True)
    maps = maps.reshape(sets, 4, 24, 24)
    assert torch.allclose(maps[0].abs().square().sum(0), torch.ones(24, 24, dtype=torch.float64))
    assert not maps[1:].any()
