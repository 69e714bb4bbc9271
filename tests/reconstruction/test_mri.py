"""From k-space to the picture, in numbers and as a command."""

import re

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import unrolled
from tests.helpers import picture, write_picture
from unrolled.cli import main
from unrolled.data.kspace_files import KSpace, read_kspace
from unrolled.data.kspace_layout import middle
from unrolled.networks import EPGN
from unrolled.operators import (
    BlockCompressedSensing,
    CartesianMask,
    Coils,
    Espirit,
    LowResolution,
    MaskedFourier,
    MultiCoilFourier,
    RadialMask,
)
from unrolled.reconstruction.mri import (
    METHODS,
    coil_magnitude,
    kspace_operator,
    measurements,
    reconstruct_kspace,
    unexplained,
    zero_fill,
)

HEIGHT, WIDTH = 48, 40
SHARE = 1e-5
"""k-space of scanners is in small numbers."""


def centered_fourier(x: np.ndarray) -> np.ndarray:
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x, axes), norm="ortho"), axes)


def body() -> np.ndarray:
    """An image in [0, 1] with dark around it, as scanners see it."""
    image = np.zeros((HEIGHT, WIDTH))
    image[10:38, 8:32] = 0.2 + 0.7 * picture(28, 24)[0].numpy()
    return image


def phase() -> np.ndarray:
    rows, columns = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    return np.exp(1j * (0.5 + rows - 0.7 * columns + 0.6 * rows * columns))


def coils() -> np.ndarray:
    return Coils(4, 2.0).draw(HEIGHT, WIDTH).numpy()


def kspace_of(images: np.ndarray, mask: np.ndarray | None = None, centered: bool = True) -> KSpace:
    y = centered_fourier(images) if centered else np.fft.fft2(images, norm="ortho")
    mask = np.ones((HEIGHT, WIDTH)) if mask is None else mask
    y = torch.from_numpy(SHARE * y * mask).to(torch.complex64)
    return KSpace(y[None] if y.ndim == 2 else y, torch.from_numpy(mask).float(), centered)


def cartesian() -> np.ndarray:
    return CartesianMask(2.0, 0.3).centered(HEIGHT, WIDTH).astype(float)


def write_volume(path, coil_images: np.ndarray, truth: np.ndarray | None, mask: np.ndarray | None = None):
    with h5py.File(path, "w") as file:
        y = SHARE * centered_fourier(np.stack([0.5 * coil_images, coil_images, coil_images[..., ::-1]]))
        file["kspace"] = (y if mask is None else y * mask).astype(np.complex64)
        if truth is not None:
            name = "reconstruction_esc" if coil_images.ndim == 2 else "reconstruction_rss"
            file[name] = (SHARE * np.stack([0.5 * truth, truth, truth[..., ::-1]])).astype(np.float32)
        if mask is not None:
            file["mask"] = mask
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "mri.safetensors"
    unrolled.save(path, EPGN(1, 2), MaskedFourier(RadialMask(0.3), 32, 32))
    return str(path)


@pytest.mark.parametrize("centered", [False, True])
def test_zero_filling_one_coil_is_numpys_inverse_transform(centered):
    mask = cartesian() if centered else np.fft.ifftshift(cartesian())
    kspace = kspace_of(body() * phase(), mask, centered)
    operator = kspace_operator(kspace)
    assert isinstance(operator, MaskedFourier)
    found = reconstruct_kspace(kspace, zero_fill, operator)
    y = np.fft.ifftshift(kspace.y[0].numpy().astype(complex)) if centered else kspace.y[0].numpy().astype(complex)
    expected = np.abs(np.fft.ifft2(y, norm="ortho"))
    expected = np.fft.fftshift(expected) if centered else expected
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5 * SHARE, rtol=1e-4)
    np.testing.assert_allclose(coil_magnitude(kspace).numpy(), expected, atol=1e-5 * SHARE, rtol=1e-4)


@pytest.mark.parametrize("real", [True, False])
def test_what_no_image_explains_is_what_least_squares_leaves(real):
    draw = np.random.default_rng(0)
    mask = draw.integers(0, 2, (4, 5)).astype(float)
    y = torch.from_numpy((draw.normal(size=(1, 4, 5)) + 1j * draw.normal(size=(1, 4, 5))) * mask).to(torch.complex64)
    operator = MaskedFourier(torch.from_numpy(mask), complex_images=not real)
    columns = [
        np.fft.fft2(column.reshape(4, 5), norm="ortho") * mask
        for column in (np.eye(20) if real else np.concatenate([np.eye(20), 1j * np.eye(20)]))
    ]
    matrix = np.stack([np.concatenate([c.real.ravel(), c.imag.ravel()]) for c in columns], 1)
    target = np.concatenate([y.numpy().real.ravel(), y.numpy().imag.ravel()])
    left = target - matrix @ np.linalg.lstsq(matrix, target, rcond=None)[0]
    expected = (left**2).sum() / (target**2).sum()
    assert unexplained(KSpace(y, torch.from_numpy(mask), False), operator) == pytest.approx(expected, abs=1e-5)
    assert (expected > 0.1) == real


def test_networks_of_real_images_get_a_phase_only_where_there_is_one():
    mask = RadialMask(0.3).centered(HEIGHT, WIDTH).astype(float)
    plain = kspace_operator(kspace_of(body(), mask), complex_images=False)
    assert isinstance(plain, MaskedFourier)
    assert not plain.complex_images
    kspace = kspace_of(body() * phase(), mask)
    with pytest.warns(UserWarning, match="the phase is taken from the middle"):
        operator = kspace_operator(kspace, complex_images=False)
    assert isinstance(operator, MultiCoilFourier)
    assert not operator.complex_images
    assert unexplained(kspace, plain) > 0.1 > 0.01 > unexplained(kspace, operator)
    found = reconstruct_kspace(kspace, zero_fill, operator)
    without = reconstruct_kspace(kspace, zero_fill, plain)
    error, before = (np.abs(image.numpy() / SHARE - body()).mean() for image in (found, without))
    assert error < 0.7 * before


def test_an_image_that_is_far_from_real_is_refused():
    signs = np.exp(2j * np.pi * np.random.default_rng(0).uniform(size=(HEIGHT, WIDTH)))
    with pytest.raises(ValueError, match="none that a real image can explain"):
        kspace_operator(kspace_of(body() * signs), complex_images=False)
    assert kspace_operator(kspace_of(body() * signs)).complex_images


def test_methods_see_images_in_0_to_1_and_the_scale_is_given_back():
    kspace = kspace_of(coils() * body() * phase(), cartesian())
    operator = kspace_operator(kspace, maps=torch.from_numpy(coils()))
    seen = []

    def method(y, operator):
        seen.append(zero_fill(y, operator))
        return seen[0]

    found = reconstruct_kspace(kspace, method, operator)
    assert 0.7 < float(seen[0].abs().max()) <= 1
    larger = KSpace(1000 * kspace.y, kspace.mask, kspace.centered)
    torch.testing.assert_close(reconstruct_kspace(larger, zero_fill, operator), 1000 * found)


def test_maps_that_do_not_fit_are_refused():
    kspace = kspace_of(coils() * body())
    with pytest.raises(ValueError, match=r"maps: must be \(coil, .* of 4 coils like k-space, got \(3, 48, 40\)"):
        kspace_operator(kspace, maps=torch.ones(3, HEIGHT, WIDTH))
    with pytest.raises(ValueError, match=r"of 4 coils like k-space, got \(4, 2, 48, 40\)"):
        kspace_operator(kspace, maps=torch.ones(4, 2, HEIGHT, WIDTH))
    with pytest.raises(ValueError, match="center: is how maps are estimated by default, but maps are given; got 9"):
        kspace_operator(kspace, maps=Espirit(sets=2), center=9)
    with pytest.raises(ValueError, match="MultiCoilFourier: maps must be"):
        kspace_operator(kspace, maps=torch.ones(4, WIDTH, HEIGHT))


@pytest.mark.parametrize("maps", [None, LowResolution(), Espirit(sets=2), "two sets"])
def test_coils_that_are_seen_as_they_are_add_up_to_the_image(maps):
    kspace = kspace_of(coils() * body() * phase())
    if maps == "two sets":
        maps = np.stack([coils() * np.sqrt(0.5), coils() * np.sqrt(0.5)])
        again = reconstruct_kspace(kspace, zero_fill, kspace_operator(kspace, maps=maps[None]))
        assert torch.equal(again, reconstruct_kspace(kspace, zero_fill, kspace_operator(kspace, maps=maps)))
    image = reconstruct_kspace(kspace, zero_fill, kspace_operator(kspace, maps=maps)) / SHARE
    np.testing.assert_allclose(image[14:34, 12:28], body()[14:34, 12:28], rtol=0.03)


def test_numbers_that_no_image_can_be_made_of_are_refused():
    kspace = kspace_of(body())
    with pytest.raises(ValueError, match="y must be finite"):
        KSpace(kspace.y * 1e43, kspace.mask, True)
    with pytest.raises(ValueError, match="no image could be made of it"):
        reconstruct_kspace(kspace, lambda y, operator: torch.inf * zero_fill(y, operator), kspace_operator(kspace))


def test_the_middle_of_an_image():
    image = torch.arange(30).reshape(5, 6)
    np.testing.assert_array_equal(middle(image, (3, 2)), image[1:4, 2:4])
    assert middle(image, (5, 6)).shape == (5, 6)
    for size in [(6, 6), (0, 3)]:
        with pytest.raises(ValueError, match="size: must be within the image"):
            middle(image, size)


def test_measurements_have_the_shape_of_the_operator():
    for images in (body(), coils() * body()):
        kspace = kspace_of(images, cartesian())
        operator = kspace_operator(kspace)
        back = operator(operator.adjoint(measurements(kspace, operator)))
        assert back.shape == measurements(kspace, operator).shape


def size_of(path):
    with Image.open(path) as image:
        return image.size


def db_of(out: str, label: str) -> float:
    (line,) = (line for line in out.splitlines() if line.startswith(label))
    found = re.search(r"PSNR ([\d.]+) dB, its peak is the truth's largest value", line)
    return float(found[1])


@pytest.mark.filterwarnings("default")
def test_the_command_from_a_volume_of_one_coil_to_its_pictures(tmp_path, weights, capsys):
    truth = body()[4:44, 2:38]
    path = write_volume(tmp_path / "volume.h5", body() * phase(), truth)
    out = tmp_path / "new" / "x.png"
    argv = ["kspace", str(path), "--out", str(out)]
    assert main([*argv, "--method", "zero-fill", "--mask", "CartesianMask", "--mask.center", "0.3"]) == 0
    said = capsys.readouterr().out
    assert {found.name for found in out.parent.iterdir()} == {"x.png", "x-mri.png"}
    assert size_of(out) == (36, 40)  # that of the true image
    # The same by hand, with NumPy alone.
    mask = CartesianMask(4.0, 0.3).centered(HEIGHT, WIDTH)
    y = np.fft.ifftshift(centered_fourier(body() * phase()) * mask)
    image = np.abs(np.fft.fftshift(np.fft.ifft2(y, norm="ortho")))[4:44, 2:38] / truth.max()
    expected = -10 * np.log10(np.mean((image.clip(0, 1) - truth / truth.max()) ** 2))
    assert db_of(said, "zero-filled") == pytest.approx(expected, abs=0.02)
    pixels = np.asarray(Image.open(out)).astype(float)
    np.testing.assert_allclose(pixels, 255 * image.clip(0, 1), atol=0.6)
    # By a network, of real images: of everything that was sampled it starts at the image itself.
    assert main([*argv, "--weights", weights, "--device", "cpu", "--slice", "2", "--size", "[20,24]"]) == 0
    captured = capsys.readouterr()
    assert "EPGN: PSNR" in captured.out
    assert "100.0 % of the frequencies, 1 coil\n" in captured.out
    assert "weights were trained for" in captured.err
    assert "the phase is taken from the middle" in captured.err
    assert size_of(out) == (24, 20)


@pytest.mark.filterwarnings("default")
def test_the_command_with_several_coils_and_a_mask_in_the_file(tmp_path, weights, capsys):
    mask = CartesianMask(2.0, 0.3).centered(HEIGHT, WIDTH)[0]
    path = write_volume(tmp_path / "volume.h5", coils() * body() * phase(), body(), mask)
    argv = ["kspace", str(path), "--out", str(tmp_path / "x.png"), "--weights", weights]
    assert main([*argv, "--device", "cpu"]) == 0
    estimated = capsys.readouterr().out
    assert "50.0 % of the frequencies, 4 coils" in estimated
    assert size_of(tmp_path / "x.png") == (WIDTH, HEIGHT)
    np.save(tmp_path / "maps.npy", coils() * phase())
    assert main([*argv, "--device", "cpu", "--maps", str(tmp_path / "maps.npy")]) == 0
    known = capsys.readouterr().out
    assert abs(db_of(known, "zero-filled") - db_of(estimated, "zero-filled")) < 1
    assert main([*argv, "--device", "cpu", "--maps", "Espirit", "--maps.sets", "2", "--maps.center", "13"]) == 0
    assert abs(db_of(known, "zero-filled") - db_of(capsys.readouterr().out, "zero-filled")) < 1
    assert min(db_of(known, "zero-filled"), db_of(estimated, "zero-filled")) > 15


def test_without_a_true_image_the_whole_is_what_a_mask_is_compared_with(tmp_path, capsys):
    np.save(tmp_path / "y.npy", np.fft.fft2(body() * phase(), norm="ortho"))
    np.save(tmp_path / "mask.npy", np.ones((HEIGHT, WIDTH)))
    argv = ["kspace", str(tmp_path / "y.npy"), "--out", str(tmp_path / "x.png")]
    assert main([*argv, "--method", "zero-fill"]) == 0
    assert "PSNR" not in capsys.readouterr().out
    assert main([*argv, "--method", "zero-fill", "--mask", str(tmp_path / "mask.npy")]) == 0
    assert db_of(capsys.readouterr().out, "zero-filled") > 100


def test_k_space_narrower_than_its_true_image(tmp_path, capsys):
    # Of some volumes of fastMRI the images are wider than what was sampled.
    wide = np.zeros((HEIGHT, WIDTH + 8))
    wide[:, 4:-4] = body()
    path = write_volume(tmp_path / "volume.h5", body() * phase(), wide)
    argv = ["kspace", str(path), "--method", "zero-fill", "--out", str(tmp_path / "x.png")]
    assert main(argv) == 0
    assert db_of(capsys.readouterr().out, "zero-filled") > 60
    assert size_of(tmp_path / "x.png") == (WIDTH, HEIGHT)


def test_an_image_gets_its_panels_too(tmp_path, weights, capsys):
    write_picture(tmp_path / "photo.png", 32, 32)
    argv = ["reconstruct", str(tmp_path / "photo.png"), "--weights", weights, "--out", str(tmp_path / "x.png")]
    assert main(argv) == 0
    assert (tmp_path / "x-mri.png").exists()
    assert "x-mri.png" in capsys.readouterr().out


@pytest.mark.filterwarnings("default")
def test_without_matplotlib_the_picture_is_written_and_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "unrolled.figures.kspace_panels", None)
    np.save(tmp_path / "y.npy", np.fft.fft2(body(), norm="ortho"))
    argv = ["kspace", str(tmp_path / "y.npy"), "--method", "zero-fill"]
    assert main([*argv, "--out", str(tmp_path / "x.png")]) == 0
    assert "pip install 'unrolled[plots]'" in capsys.readouterr().err
    assert (tmp_path / "x.png").exists()
    assert not (tmp_path / "x-mri.png").exists()


def test_a_command_that_cannot_be_followed_is_refused(tmp_path, weights, capsys):
    np.save(tmp_path / "y.npy", np.fft.fft2(body(), norm="ortho"))
    unrolled.save(tmp_path / "cs.safetensors", EPGN(1, 2), BlockCompressedSensing(ratio=0.25, block=11))
    out = str(tmp_path / "x.png")
    argv = ["kspace", str(tmp_path / "y.npy"), "--out", out]
    for more, message in [
        ([], "give --weights, or --method"),
        (["--weights", weights, "--method", "zero-fill"], "give --weights, or --method"),
        (["--method", "magic"], "--method: must be one of zero-fill"),
        (["--weights", str(tmp_path / "cs.safetensors")], "trained for BlockCompressedSensing, not for k-space"),
        (["--method", "zero-fill", "--slice", "1"], "slice must be left out"),
        (["--method", "zero-fill", "--size", "[100,20]"], "size: must be within the image"),
        (["--method", "zero-fill", "--maps", "nowhere.npy"], "--maps: there is no file nowhere.npy"),
        (["--method", "zero-fill", "--maps", "Magic"], "no such kind of maps; known: Espirit, LowResolution"),
        (["--method", "zero-fill", "--maps", "Espirit", "--maps.sets", "0"], "Espirit: sets must be >= 1, got 0"),
        (["--method", "zero-fill", "--maps", "Espirit", "--center", "9"], "center: is how maps are estimated by de"),
        (["--method", "zero-fill", "--mask", "nowhere.npy"], "--mask: there is no file nowhere.npy"),
        (["--method", "zero-fill", "--mask", "Nonesuch"], "no such kind of mask; known: CartesianMask, GaussianMask, "),
        (["--method", "zero-fill", "--device", "abacus"], "device: 'abacus'"),
    ]:
        assert main([*argv, *more]) == 1, more
        captured = capsys.readouterr().err
        assert message in captured, more
        assert "Traceback" not in captured
    for command, more, message in [
        ("kspace", ["y.npy", "photo.png", "--method", "zero-fill"], "unrecognized arguments: photo.png"),
        ("kspace", ["--method", "zero-fill"], "the following arguments are required: file"),
        ("reconstruct", ["photo.png", "--method", "zero-fill"], "unrecognized arguments: --method"),
    ]:
        with pytest.raises(SystemExit) as stop:
            main([command, *more, "--out", out])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    assert main(["reconstruct", "--kspace", "y.npy", "--out", out]) == 1
    assert f"--kspace is a command of its own: unrolled kspace y.npy --out {out}" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_volumes_are_read_as_they_are_written(tmp_path):
    path = write_volume(tmp_path / "volume.h5", coils() * body(), None)
    torch.testing.assert_close(read_kspace(path, 1).y, kspace_of(coils() * body()).y)


def test_k_space_that_is_zero_is_refused(tmp_path, capsys):
    write_volume(tmp_path / "zero.h5", 0 * body(), None, np.ones(WIDTH))
    argv = [
        "kspace",
        str(tmp_path / "zero.h5"),
        "--slice",
        "0",
        "--method",
        "zero-fill",
        "--out",
        str(tmp_path / "x.png"),
    ]
    assert main(argv) == 1
    assert "0 everywhere" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["zero-fill", "tv"])
def test_maps_have_no_units(method):
    kspace, maps = kspace_of(coils() * body(), cartesian()), coils()
    expected = reconstruct_kspace(kspace, METHODS[method], kspace_operator(kspace, maps=torch.from_numpy(maps)))
    for factor in (100.0, 0.01, 3j) if method == "zero-fill" else (100.0,):
        operator = kspace_operator(kspace, maps=(factor * maps).astype(np.complex64))
        found = abs(factor) * reconstruct_kspace(kspace, METHODS[method], operator)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))


def test_coils_of_numpy_are_named_on_the_command_line(tmp_path, capsys):
    np.save(tmp_path / "coils.npy", SHARE * centered_fourier(coils() * body()))
    argv = ["kspace", str(tmp_path / "coils.npy"), "--method", "zero-fill", "--out", str(tmp_path / "x.png")]
    assert main(argv) == 1
    assert "may be coils or slices; give axes" in capsys.readouterr().err
    assert main([*argv, "--axes", "coil,height,width"]) == 0
    shown = np.asarray(Image.open(tmp_path / "x.png")) / 255.0
    np.testing.assert_allclose(shown, body() / body().max(), atol=0.01)


def test_coils_are_mixed_with_their_maps(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("unrolled.cli.kspace.write_panels", lambda *_: None)
    path = write_volume(tmp_path / "volume.h5", coils() * body() * phase(), body())
    np.save(tmp_path / "maps.npy", coils() * phase())
    np.save(tmp_path / "noise.npy", 1e-6 * np.random.default_rng(0).normal(size=(4, 100)))
    argv = ["kspace", str(path), "--method", "zero-fill", "--out", str(tmp_path / "x.png")]
    given = ["--maps", str(tmp_path / "maps.npy")]
    quality, shown = [], []
    for more in ([], ["--coils", "4"], ["--coils", "2"], ["--noise", str(tmp_path / "noise.npy")]):
        assert main([*argv, *given, *more]) == 0
        said = capsys.readouterr().out
        quality.append(db_of(said, "zero-filled") if "PSNR" in said else None)
        shown.append(np.asarray(Image.open(tmp_path / "x.png")).astype(float))
    assert min(quality[:2]) > 100
    assert 20 < quality[2] < quality[0]
    assert quality[3] is None
    assert np.abs(shown[3] - shown[0])[12:36, 10:30].mean() < 20  # by coils that are weighed otherwise
    assert main([*argv, "--noise", str(tmp_path / "maps.npy")]) == 1
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).normal(size=(3, 100)))
    assert main([*argv, "--noise", str(tmp_path / "noise.npy")]) == 1
    assert "k-space: must be of as many coils as are mixed, 3, got 4" in capsys.readouterr().err
    assert main([*argv, "--coils", "5"]) == 1
    assert "coils: must be at most as many as there are, 4, got 5" in capsys.readouterr().err


def test_a_truth_in_other_units_has_no_psnr(tmp_path, capsys):
    path = write_volume(tmp_path / "volume.h5", body() * phase(), 1e-3 * body())
    assert main(["kspace", str(path), "--method", "zero-fill", "--out", str(tmp_path / "x.png")]) == 0
    assert "zero-filled: no PSNR, image: has values about" in capsys.readouterr().out
