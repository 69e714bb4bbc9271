import h5py
import numpy as np
import pytest
import torch

from tests.helpers import write_matrix
from tests.operators.laws import OperatorLaws
from unrolled.operators import CartesianMask, Coils, MaskedFourier, MultiCoilFourier, RadialMask, UniformMask

HALF = np.zeros((4, 6))
HALF[[0, 1, 1], [1, 2, 3]] = 1  # no frequency with its negative, and no DC

OWN = np.random.default_rng(0).integers(0, 2, (5, 6)).astype(float)


EACH = torch.from_numpy(np.random.default_rng(1).integers(0, 2, (2, 1, 5, 6)).astype(float))
"""A mask for each of two images."""


def random_maps(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(3))


def single(shape, mask=None, **options):
    def make():
        given = UniformMask(0.4) if mask is None else torch.as_tensor(mask)
        sides = shape if mask is None else ()
        return MaskedFourier(given, *sides, **options).double(), (2, 3, *shape)

    return make


def several(maps, mask, shape, **options):
    def make():
        sides = shape if not isinstance(maps, torch.Tensor) else ()
        operator = MultiCoilFourier(maps, mask, *sides, **options).double()
        return operator, (2, operator.sets or 2, *shape)

    return make


class TestMaskedFourier(OperatorLaws):
    operator_class = MaskedFourier
    compiled = ("real, odd sides", "complex, centered", "one each, real, centered")
    cases = {
        "real": single((6, 8)),
        "real, odd sides": single((5, 7)),
        "real, centered": single((6, 8), centered=True),
        "real, centered, odd sides": single((5, 7), centered=True),
        "complex": single((6, 5), complex_images=True),
        "complex, centered": single((5, 6), complex_images=True, centered=True),
        "own mask": single((5, 6), OWN),
        "own mask, centered": single((5, 6), OWN, centered=True),
        "half a plane": single((4, 6), HALF),
        "one each": single((5, 6), EACH, complex_images=True),
        "one each, real, centered": single((5, 6), EACH, centered=True),
    }


class TestMultiCoilFourier(OperatorLaws):
    operator_class = MultiCoilFourier
    compiled = ("drawn", "own maps, real, centered", "sets, masks and maps of each, centered")
    cases = {
        "drawn": several(Coils(3), UniformMask(0.4), (5, 7)),
        "real": several(Coils(3), UniformMask(0.4), (6, 5), complex_images=False),
        "centered": several(Coils(2), CartesianMask(2.0, 0.2), (5, 6), centered=True),
        "own maps": several(random_maps(2, 5, 6), torch.from_numpy(OWN), (5, 6)),
        "own maps, real, centered": several(random_maps(2, 5, 6), RadialMask(0.3), (5, 6), complex_images=False,
                                            centered=True),
        "masks and maps of each": several(random_maps(2, 3, 5, 6), EACH, (5, 6)),
        "maps of each, real": several(random_maps(2, 2, 5, 6), torch.from_numpy(OWN), (5, 6), complex_images=False),
        "sets": several(random_maps(1, 2, 3, 5, 6), torch.from_numpy(OWN), (5, 6)),
        "sets, masks and maps of each, centered": several(random_maps(2, 3, 2, 5, 6), EACH, (5, 6), centered=True),
    }  # fmt: skip


def dft(height: int, width: int, centered: bool) -> np.ndarray:
    """The orthonormal Fourier transform of images in row-major order, written out as a matrix."""

    def one(count: int) -> np.ndarray:
        at = np.arange(count) - (count // 2 if centered else 0)
        return np.exp(-2j * np.pi * np.outer(at, at) / count) / np.sqrt(count)

    return np.kron(one(height), one(width))


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("shape", [(4, 6), (5, 7), (4, 5)])
def test_measurements_are_those_of_an_explicit_matrix(shape, centered):
    mask = np.random.default_rng(1).integers(0, 2, shape)
    x = torch.randn(1, 1, *shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    expected = mask.flatten() * (dft(*shape, centered) @ x.numpy().flatten())
    operator = MaskedFourier(torch.from_numpy(mask), complex_images=True, centered=centered).double()
    np.testing.assert_allclose(operator(x).numpy().flatten(), expected, atol=1e-12)
    maps = random_maps(2, *shape)
    several = MultiCoilFourier(maps, torch.from_numpy(mask), centered=centered).double()
    for coil in range(2):
        seen = maps[coil].to(torch.complex64).numpy().flatten() * x.numpy().flatten()
        expected = mask.flatten() * (dft(*shape, centered) @ seen)
        np.testing.assert_allclose(several(x)[0, 0, coil].numpy().flatten(), expected, atol=1e-12)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize(
    ("mask", "norm"),
    [
        (HALF, np.sqrt(0.5)),
        (OWN, 1.0),
        (np.eye(1, 35).reshape(5, 7), 1.0),  # DC alone, which is its own negative; or of centered k-space one corner
        (np.ones((4, 4)), 1.0),
    ],
)
def test_norm_of_real_images_is_the_largest_singular_value(mask, norm, centered):
    explicit = mask.flatten()[:, None] * dft(*mask.shape, centered)
    values = np.linalg.svd(np.concatenate([explicit.real, explicit.imag]), compute_uv=False)
    operator = MaskedFourier(torch.from_numpy(mask), centered=centered).double()
    assert float(operator.norm()) == pytest.approx(values[0], abs=1e-12)
    if not centered:
        assert float(operator.norm()) == pytest.approx(norm, abs=1e-12)
    complex_ = MaskedFourier(torch.from_numpy(mask), complex_images=True, centered=centered).double()
    assert float(complex_.norm()) == pytest.approx(np.linalg.norm(explicit, 2), abs=1e-12)


def test_a_drawn_mask_is_where_dc_is():
    mask = CartesianMask(4, 0.1)
    plain, centered = MaskedFourier(mask, 16, 20), MaskedFourier(mask, 16, 20, centered=True)
    assert plain.mask[0, 0] == 1
    np.testing.assert_array_equal(np.fft.fftshift(plain.mask.numpy()), centered.mask.numpy())
    assert centered.mask[0, 10] == 1
    image = torch.ones(1, 1, 16, 20)
    assert plain(image)[0, 0, 0, 0].real == pytest.approx(np.sqrt(320), rel=1e-5)
    assert centered(image)[0, 0, 8, 10].real == pytest.approx(np.sqrt(320), rel=1e-5)


@pytest.mark.parametrize("suffix", [".npy", ".mat", ".h5"])
def test_masks_and_maps_from_files(tmp_path, suffix):
    path = write_matrix(tmp_path / f"mask{suffix}", OWN)
    operator = MaskedFourier(path)
    np.testing.assert_array_equal(operator.mask.numpy(), OWN)
    assert operator.ratio == pytest.approx(OWN.mean())
    assert "mask" in operator.state_dict()
    assert "mask" not in operator.description()
    assert "mask" not in MaskedFourier(RadialMask(), 8, 8).state_dict()


def test_maps_from_a_file(tmp_path):
    maps = random_maps(3, 5, 6)
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file["maps"] = maps.numpy()
    operator = MultiCoilFourier(tmp_path / "maps.h5", RadialMask(0.3))
    torch.testing.assert_close(operator.maps, maps.to(torch.complex64))


def test_coils_see_everything_equally_and_are_smooth():
    for height, width in [(64, 48), (33, 33)]:
        maps = Coils(8).draw(height, width)
        torch.testing.assert_close(maps.abs().square().sum(0), torch.ones(height, width, dtype=torch.float64))
        finer = Coils(8).draw(2 * height - 1, 2 * width - 1)
        for axis in (1, 2):  # without steps, so that pixels half as large differ half as much
            assert finer.diff(dim=axis).abs().max() < 0.65 * maps.diff(dim=axis).abs().max() < 0.25
        for coil in range(8):  # brightest at the edge that the coil stands before
            angle = 2 * np.pi * coil / 8
            row, column = divmod(int(maps[coil].abs().argmax()), width)
            toward = (2 * row / (height - 1) - 1) * np.sin(angle) + (2 * column / (width - 1) - 1) * np.cos(angle)
            assert toward > 0.7
    assert torch.isfinite(Coils(4, 1.01).draw(9, 9).abs()).all()


def test_with_all_frequencies_the_adjoint_inverts():
    x = torch.randn(1, 2, 8, 9, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    operator = MultiCoilFourier(Coils(5), torch.ones(8, 9)).double()
    torch.testing.assert_close(operator.gram(x), x, atol=1e-6, rtol=0)  # maps are kept in single precision


def test_stays_in_full_precision_under_autocast():
    operator, x = MaskedFourier(RadialMask(), 16, 16), torch.rand(1, 1, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = operator(x)
        back = operator.adjoint(y)
    assert torch.equal(y, operator(x))
    assert torch.equal(back, operator.adjoint(y))


@pytest.mark.parametrize(
    ("mask", "sides", "message"),
    [
        (torch.zeros(4, 5), (), "must sample something"),
        (
            torch.stack([torch.ones(1, 4, 5), torch.zeros(1, 4, 5)]),
            (),
            "must sample something, but is empty of image 1",
        ),
        (torch.ones(3, 2, 4, 5), (), r"mask must be \(height, width\) or \(batch, 1, height, width\)"),
        (torch.full((4, 5), 0.5), (), "mask must be of 0 and 1, got values such as 0.5"),
        (torch.full((4, 5), torch.nan), (), "mask must be of 0 and 1"),
        (torch.ones(4), (), r"mask must be \(height, width\)"),
        (torch.ones(0, 4), (), r"mask must be \(height, width\)"),
        (torch.ones(4, 5), (4, 6), "width must be that of the mask, 5, got 6"),
        (torch.ones(4, 5), (5, 5), "height must be that of the mask, 4, got 5"),
        (RadialMask(), (), "height and width must be >= 1"),
        (RadialMask(), (4, 0), "height and width must be >= 1"),
        ("nowhere.npy", (), "no file nowhere.npy"),
        ("mask.txt", (), "mask.txt"),
    ],
)
def test_bad_masks_are_refused(mask, sides, message):
    with pytest.raises(ValueError, match=message):
        MaskedFourier(mask, *sides)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (torch.full((2, 4, 5), torch.nan), "maps: must be finite"),
        (torch.full((2, 4, 5), 1j * torch.inf), "maps: must be finite"),
        (torch.zeros(2, 4, 5), "maps: are 0 everywhere"),
        (torch.ones(4, 5), r"maps: must be \(coil, height, width\)"),
        (torch.ones(0, 4, 5), r"maps: must be \(coil, height, width\)"),
        (torch.stack([torch.zeros(2, 4, 5), torch.ones(2, 4, 5)]), "maps: are 0 everywhere of image 0"),
        (torch.ones(2, 5, 4), r"maps must be \(coil, 4, 5\) like the mask, got \(2, 5, 4\)"),
        ("nowhere.npy", "no file nowhere.npy"),
    ],
)
def test_bad_maps_are_refused(maps, message):
    with pytest.raises(ValueError, match=message):
        MultiCoilFourier(maps, torch.ones(4, 5), 4, 5)


@pytest.mark.parametrize("options", [{"coils": 0}, {"radius": 1.0}, {"radius": float("nan")}, {"radius": float("inf")}])
def test_bad_coils_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Coils(**options)


def test_images_and_measurements_that_do_not_fit_are_refused():
    one, several = MaskedFourier(torch.ones(4, 5)), MultiCoilFourier(Coils(3), torch.ones(4, 5))
    for shape in [(1, 1, 5, 4), (4, 5), (0, 1, 4, 5)]:
        for operator in (one, several):
            with pytest.raises(ValueError, match=r"images must be \(batch, channel, 4, 5\)"):
                operator(torch.zeros(shape))
    with pytest.raises(ValueError, match="measurements must be"):
        one.adjoint(torch.zeros(1, 1, 5, 4))
    with pytest.raises(ValueError, match=r"measurements must be \(batch, channel, 3, 4, 5\)"):
        several.adjoint(torch.zeros(1, 1, 2, 4, 5))
    real = MultiCoilFourier(Coils(3), torch.ones(4, 5), complex_images=False)
    for operator in (one, real):
        with pytest.raises(ValueError, match="images must be real"):
            operator(torch.zeros(1, 1, 4, 5, dtype=torch.complex64))


def test_an_operator_of_so_many_images_refuses_others():
    maps = random_maps(2, 3, 2, 4, 5)
    x = torch.zeros(3, 3, 4, 5, dtype=torch.complex64)
    for operator in (
        MaskedFourier(torch.ones(2, 1, 4, 5), complex_images=True),
        MultiCoilFourier(maps, np.ones((4, 5))),
    ):
        y = operator(x[:2])
        for use, numbers in ((operator, x), (operator.gram, x), (operator.adjoint, y[:1]), (operator.sampled, y[:1])):
            with pytest.raises(ValueError, match=r"must be \(2, "):
                use(numbers)
        with pytest.raises(ValueError, match="measures batches of 2 images, got 3"):
            operator.solve(x, 0.1)
    with pytest.raises(ValueError, match=r"images must be \(2, 3, 4, 5\)"):
        operator(x[:2, :1])
    with pytest.raises(ValueError, match="maps of 2 images, and masks of 3; give as many"):
        MultiCoilFourier(maps, torch.ones(3, 1, 4, 5))
    with pytest.raises(ValueError, match=r"Sum: operators must measure batches of one size, got \[2, 3\]"):
        MaskedFourier(torch.ones(2, 1, 4, 5)) + MaskedFourier(torch.ones(3, 1, 4, 5))
    assert ((2 * operator).H @ operator).batch == 2


def test_unit_maps_make_no_image_larger():
    maps, full = random_maps(2, 2, 3, 3, 4), np.ones((3, 4))
    for given in (maps, maps[:, 0], maps[0, 0]):
        operator, size = MultiCoilFourier(given, full).with_unit_maps()
        torch.testing.assert_close(operator.norm(), torch.tensor(1.0))
        again = operator.maps * size.view(-1, *[1] * (given.ndim - 1))
        torch.testing.assert_close(again, given.to(torch.complex64))
        assert operator.with_unit_maps()[0] is operator


@pytest.mark.parametrize("centered", [False, True])
def test_a_mask_with_the_zero_frequency_in_the_other_place_is_told(centered):
    mask = CartesianMask(acceleration=3, equispaced=True).draw(16, 32)
    mask[:, 16] = 0
    right, other = (torch.fft.fftshift(mask), mask) if centered else (mask, torch.fft.fftshift(mask))
    MaskedFourier(right, centered=centered)
    with pytest.warns(UserWarning, match=f"mask leaves out the zero frequency, which with centered={centered}"):
        MaskedFourier(other, centered=centered)


def test_conjugate_maps_are_taken_and_moved():
    maps = torch.randn(2, 6, 5, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    operator = MultiCoilFourier(maps.conj(), np.ones((6, 5))).double()
    torch.testing.assert_close(operator.maps, maps.conj().resolve_conj().to(torch.complex128))
