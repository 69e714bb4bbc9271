"""Training on measurements: k-space with masks drawn anew, pairs for a stated operator, and measurements alone."""

import json

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import unrolled
from tests.helpers import picture, write_picture
from tests.training.small_runs import Crash, GradientDescent, assert_same_end, at_step, crash, options, run_together
from unrolled.cli import main
from unrolled.data.kspace_files import read_kspace
from unrolled.data.kspace_slices import mirrored
from unrolled.data.measured import Measured, MeasuredBatches
from unrolled.data.measurement_files import MeasurementData
from unrolled.metrics import psnr
from unrolled.networks import EPGN, EndToEndVarNet, UnrolledNetwork
from unrolled.operators import (
    CartesianMask,
    Dense,
    Espirit,
    LowResolution,
    MaskedFourier,
    MultiCoilFourier,
    RadialMask,
)
from unrolled.operators.frequencies import sampling_mask
from unrolled.operators.units import image_scale
from unrolled.reconstruction.mri import kspace_operator, reconstruct_kspace
from unrolled.reconstruction.simulated_kspace import simulate_kspace
from unrolled.reconstruction.volume_maps import write_maps
from unrolled.training.kspace_data import KSpaceData, drawn_mask
from unrolled.training.measured_fitting import measured_task

MASK = CartesianMask(2, center=0.3)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Three volumes of two slices in small units, two of one size and one of another, with three coils."""
    folder = tmp_path_factory.mktemp("volumes")
    for seed in range(6):
        write_picture(folder / "images" / f"{seed}.png", 24, 30 if seed < 4 else 22, seed)
    simulate_kspace(folder / "images", folder / "kspace", coils=3, slices=2, noise=0.002, progress=False)
    return folder / "kspace"


@pytest.fixture(autouse=True)
def without_curves(monkeypatch):
    """Curves are not drawn, which takes longer than the runs."""
    monkeypatch.setattr("unrolled.figures.training_curves.training_curve", lambda folder, score: None)


def data(volumes, **changes):
    return KSpaceData(**{"train": [str(volumes)], "mask": MASK, "maps": LowResolution(), **changes})


def fit(folder, dataset, network=None, operator=None, **more):
    torch.manual_seed(0)
    network = network or GradientDescent(complex_images=isinstance(dataset, KSpaceData))
    more = {"training": options(steps=6, batch=2, validations=2), "folder": folder, "progress": False, **more}
    return network, unrolled.fit(network, operator, dataset, more.pop("training"), **more)


def images_of(y: np.ndarray) -> np.ndarray:
    """The coils' images of k-space with the zero frequency in the middle, by NumPy in double precision."""
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(y.astype(complex), axes), norm="ortho"), axes)


def test_simulated_kspace_is_that_of_the_images(tmp_path):
    write_picture(tmp_path / "a.png", 18, 20, 3)
    bright, noisy = (
        simulate_kspace(tmp_path / "a.png", tmp_path / name, coils=4, noise=noise, unit=3e-5, progress=False)[0]
        for name, noise in (("bright", 0), ("noisy", 0.1))
    )
    x = (picture(18, 20, 3)[0].numpy() * 255).round()
    with h5py.File(bright) as file, h5py.File(noisy) as other:
        y, truth, difference = file["kspace"][()], file["reconstruction_rss"][()], other["kspace"] - file["kspace"][()]
        assert y.shape == (1, 4, 18, 20)
        assert file.attrs["max"] == pytest.approx(3e-5, rel=1e-5)
    seen = images_of(y[0])
    np.testing.assert_allclose(np.sqrt((np.abs(seen) ** 2).sum(0)), 3e-5 * x / x.max(), atol=1e-10)
    np.testing.assert_allclose(truth[0], 3e-5 * x / x.max(), atol=1e-10)
    assert np.ptp(np.angle(seen[0] / seen[1])) > 1  # coils see other phases
    assert np.sqrt((np.abs(difference) ** 2).mean()) == pytest.approx(0.1 * 3e-5, rel=0.1)
    with pytest.raises(ValueError, match=r"out: .*0001\.h5 exists already; choose another folder"):
        simulate_kspace(tmp_path / "a.png", tmp_path / "bright", progress=False)


def test_weights_serve_as_they_were_validated(volumes, tmp_path):
    training = options(steps=40, validations=1, learning_rate=1e-2)
    torch.manual_seed(0)
    network, figures = fit(tmp_path / "run", data(volumes), EPGN(1, 4, complex_images=True), training=training)
    assert figures["psnr"] > figures["start_psnr"] + 1
    network, operator = unrolled.load(tmp_path / "run" / "best.safetensors")
    assert type(operator).__name__ == "MultiCoilFourier"
    assert [tuple(buffer.shape) for buffer in operator.buffers()] == [(24, 30), (3, 24, 30)]
    held, shown = data(volumes).load(0)[1], []
    for volume, number in held.slices:
        kspace = read_kspace(volume.path, number)
        mask = held._mask(held.slices.index((volume, number)), None)
        part = kspace.undersampled(mask)
        found = reconstruct_kspace(part, network, kspace_operator(part, maps=LowResolution()))
        peak = float(kspace.truth.max())
        shown.append(float(psnr(found[None, None] / peak, kspace.truth[None, None] / peak)))
    assert len(shown) == 2
    assert figures["psnr"] == pytest.approx(sum(shown) / 2, abs=1e-3)


def test_a_batch_is_a_function_of_seed_step_and_place(volumes):
    samples = data(volumes, validation=str(volumes)).load(0)[0]
    batches = MeasuredBatches(samples, 5)
    sizes, masks = set(), set()
    for step in range(12):
        whole, part = batches.batch(step, 4), MeasuredBatches(samples, 5).batch(step, 4, range(1, 3))
        for own, of_all in zip(part[:4], whole[:4], strict=True):
            assert torch.equal(own, of_all[1:3])
        sizes.add(tuple(whole.y.shape[1:]))
        masks |= {tuple(mask[0, 0].tolist()) for mask in whole.mask}
        # What was sampled is what was measured, and nothing else.
        assert torch.equal(whole.y[:, 0] != 0, (whole.mask.expand(4, 3, *whole.mask.shape[-2:]) > 0))
    assert sizes == {(1, 3, 24, 30), (1, 3, 24, 22)}
    assert len(masks) > 30
    assert not torch.equal(MeasuredBatches(samples, 6).batch(0, 4).mask, batches.batch(0, 4).mask)
    fixed = data(volumes, anew=False).load(0)[0]
    assert len({tuple(fixed.sample(0, (0, step, 0)).mask[0, 0, 0].tolist()) for step in range(5)}) == 1
    assert torch.equal(fixed.sample(1, (0, 0, 0)).mask, fixed.sample(1).mask)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("size", [(8, 9), (7, 10)])
def test_a_mirrored_sample_is_what_the_mirrored_image_gives(size, centered):
    random = torch.Generator().manual_seed(0)
    x, maps = (torch.randn(1, count, *size, dtype=torch.complex64, generator=random) for count in (1, 3))
    mask = torch.randint(2, (1, 1, *size), generator=random).float()
    sample = Measured(MultiCoilFourier(maps, mask, centered=centered)(x), x, mask, maps, centered)
    for axis in (-2, -1):
        turned = mirrored(sample, axis)
        again = MultiCoilFourier(turned.maps, turned.mask, centered=centered)(turned.truth)
        torch.testing.assert_close(again, turned.y)
        # About the origin: all but one line are in the reverse order.
        first = 0 if centered and size[axis] % 2 else 1
        torch.testing.assert_close(turned.truth.narrow(axis, first, 6), x.flip(axis).narrow(axis, 0, 6))
        for before, after in zip(sample[:4], mirrored(turned, axis)[:4], strict=True):
            assert torch.equal(before, after)


def test_samples_of_training_come_mirrored(volumes):
    still, _ = data(volumes, anew=False).load()
    turned, held = data(volumes, anew=False, mirrors=True).load()
    assert not held.mirrors
    seen = set()
    for step in range(40):
        sample = turned.sample(0, (0, step, 0))
        original = still.sample(0, (0, step, 0))
        for which, axes in enumerate(((), (-2,), (-1,), (-2, -1))):
            expected = original
            for axis in axes:
                expected = mirrored(expected, axis)
            if torch.equal(expected.y, sample.y):
                assert torch.equal(expected.truth, sample.truth)
                seen.add(which)
    assert seen == {0, 1, 2, 3}


def test_masks_without_a_seed_stay_and_others_keep_their_kind():
    radial, cartesian = RadialMask(0.3), CartesianMask(4, center=0.1, rows=True)
    assert torch.equal(drawn_mask(radial, 20, 24, False, (1, 2, 3)), radial.draw(20, 24).float())
    drawn = {tuple(drawn_mask(cartesian, 20, 24, True, (1, 2, place))[:, 0].tolist()) for place in range(20)}
    assert len(drawn) > 15
    assert {sum(rows) for rows in drawn} == {5}
    assert all(rows[9] == rows[10] == 1 for rows in drawn)


def test_the_true_image_is_that_of_all_coils(volumes, tmp_path):
    rss, combined = (data(volumes, truth=truth).load(0)[0].sample(0) for truth in ("rss", "combined"))
    volume, number = data(volumes).load(0)[0].slices[0]
    seen = images_of(read_kspace(volume.path, number).y.numpy())
    size = np.abs(seen).max()
    np.testing.assert_allclose(rss.truth[0, 0].abs(), np.sqrt((np.abs(seen) ** 2).sum(0)), atol=1e-5 * size)
    expected = (rss.maps[0].numpy().conj() * seen).sum(0)
    np.testing.assert_allclose(combined.truth[0, 0], expected, atol=1e-5 * size)
    np.testing.assert_allclose((rss.truth[0, 0] * combined.truth[0, 0].conj()).imag, 0, atol=1e-5 * size**2)


def test_maps_are_estimated_once_and_read_from_files(volumes, tmp_path, monkeypatch):
    written = write_maps([volumes], tmp_path / "maps", LowResolution(7), progress=False)
    assert [path.name for path in written] == sorted(path.name for path in volumes.iterdir())
    assert write_maps([volumes], tmp_path / "maps", LowResolution(7), progress=False) == []
    estimated = data(volumes, maps=LowResolution(7)).load(0)[0]
    calls = []
    monkeypatch.setattr(KSpaceData, "_estimate", lambda self, kspace: calls.append(1))
    given = data(volumes, maps=str(tmp_path / "maps")).load(0)[0]
    for index in range(len(given)):
        torch.testing.assert_close(given.sample(index).maps, estimated.sample(index).maps, rtol=0, atol=1e-5)
    assert not calls
    streamed = data(volumes, maps=str(tmp_path / "maps"), cache_mib=0).load(0)[0]
    assert streamed.streams
    assert not given.streams
    for own, kept in zip(streamed.sample(2, (1, 2, 3)), given.sample(2, (1, 2, 3)), strict=True):
        assert torch.equal(torch.as_tensor(own), torch.as_tensor(kept))


def test_a_network_that_estimates_the_maps_asks_for_no_others(volumes, tmp_path, monkeypatch):
    monkeypatch.setattr(Espirit, "_of_centered", lambda *_: pytest.fail("ESPIRiT was estimated"))
    network = EndToEndVarNet(1, 4, 1, map_features=3, map_scales=1, complex_images=True)
    before = [parameter.clone() for parameter in network.maps.parameters()]
    fit(tmp_path / "run", data(volumes, maps=None), network, training=options(steps=2, batch=2, validations=1))
    assert not all(map(torch.equal, before, network.maps.parameters()))
    path, out = sorted(volumes.iterdir())[0], tmp_path / "x.h5"
    argv = ["kspace", str(path), "--weights", str(tmp_path / "run" / "best.safetensors"), "--out", str(out)]
    assert main([*argv, "--device", "cpu", "--mask", "CartesianMask", "--mask.acceleration=2", "--mask.center=.3"]) == 0
    kspace = read_kspace(path, 0)
    kspace = kspace.undersampled(sampling_mask("mask", MASK, *kspace.mask.shape, centered=kspace.centered))
    operator = kspace_operator(kspace, maps=torch.randn(3, 24, 30, dtype=torch.complex64))  # whatever they are
    scale = float(image_scale(kspace.y[None, None], kspace_operator(kspace, maps=LowResolution())))
    with torch.no_grad():
        image = scale * network(kspace.y[None, None] / scale, operator).abs()[0, 0]
    with h5py.File(out) as file:
        torch.testing.assert_close(torch.from_numpy(file["reconstruction"][0]), image, rtol=1e-4, atol=1e-4 * scale)


def test_a_run_that_crashed_goes_on_to_the_same_end(volumes, tmp_path, monkeypatch):
    fit(tmp_path / "straight", data(volumes))
    with monkeypatch.context() as patch:
        at_step(patch, 4, crash)
        with pytest.raises(Crash):
            fit(tmp_path / "run", data(volumes))
    fit(tmp_path / "run", data(volumes), resume=True)
    assert_same_end(tmp_path / "straight", tmp_path / "run")
    with pytest.raises(ValueError, match="loss must be that of the run"):
        fit(tmp_path / "run", data(volumes), loss=Residual(), resume=True)


def one_of_two(folder, volumes):
    fit(folder, data(volumes), training=options(steps=3, batch=2, validations=1))


@pytest.mark.full
def test_two_processes_train_as_one(volumes, tmp_path):
    run_together(one_of_two, tmp_path / "two", volumes)
    one_of_two(tmp_path / "one", volumes)
    one, two = (load_file(tmp_path / name / "best.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-5)


class Residual:
    """A loss of measurements alone, of which a test keeps what it was given."""

    needs_truth = False

    def __init__(self):
        self.seen = []

    def __call__(self, network, y, operator, truth=None, *, noise=None):
        self.seen.append((truth, noise, y.abs().max()))
        return (operator(network(y, operator)) - y).abs().square().mean()


class Black(UnrolledNetwork):
    """Makes nothing of measurements, and keeps them."""

    def forward(self, y, operator, *, noise=None):
        self.seen = y
        return 0 * self.start(y, operator)


def test_measurements_alone_train_without_an_image(volumes, tmp_path):
    loss = Residual()
    _, figures = fit(tmp_path / "run", data(volumes, truth=None, anew=False, sigma=2e-7), loss=loss)
    assert {truth for truth, _, _ in loss.seen} == {None}
    assert all(noise.shape == (2,) and bool((noise > 0.002).all()) for _, noise, _ in loss.seen)
    assert set(figures) == {"held_out", "start_held_out"}
    assert all(0 < value < 20 for value in figures.values())


def test_validation_may_have_the_images_that_training_has_not(volumes, tmp_path):
    shown = []
    for path in volumes.iterdir():
        with h5py.File(path) as file:
            mask = np.arange(file["kspace"].shape[-1]) % 3 != 0
            mask[8:-8] = True
            sets = {"kspace": file["kspace"] * mask, "reconstruction_rss": file["reconstruction_rss"][()]}
        broken(tmp_path / "sampled", path.name, mask=mask.astype(np.float32), **sets)
        shown.append(sets["reconstruction_rss"].max())
    given = data(tmp_path / "sampled", mask=None, validation=str(tmp_path / "sampled"))
    _, figures = fit(tmp_path / "run", given, loss=Residual())
    assert figures["psnr"] > 15
    _, held = given.load(0, needs_truth=False)
    assert max(float(held.shown(index).max()) for index in range(len(held))) == pytest.approx(max(shown), rel=1e-6)
    with pytest.raises(ValueError, match="is not fully sampled, so its true image is not known"):
        fit(tmp_path / "other", given)


def test_what_is_held_out_is_not_given_to_the_network(volumes):
    black = Black(GradientDescent(complex_images=True).phases, complex_images=True)
    task = measured_task(black, None, data(volumes, truth=None), loss=Residual())
    assert task.validate(task.model)["held_out"] == pytest.approx(0, abs=1e-5)
    measured = task.validation.sample(len(task.validation) - 1)
    given, sampled = black.seen[0, 0, 0] != 0, measured.mask[0, 0] > 0
    assert not bool((given & ~sampled).any())
    part = float((sampled & ~given).sum() / sampled.sum())
    assert 0.05 < part < 0.15
    row, column = (side // 2 for side in given.shape)
    assert bool(given[row - 1 : row + 2, column - 1 : column + 2].all())


def test_one_coil_needs_no_maps(tmp_path):
    write_picture(tmp_path / "a.png", 18, 20, 3)
    write_picture(tmp_path / "b.png", 18, 20, 4)
    simulate_kspace(tmp_path, tmp_path / "kspace", coils=1, slices=1, noise=0, progress=False)
    for path in (tmp_path / "kspace").iterdir():
        with h5py.File(path, "a") as file:
            y = file["kspace"][:, 0]
            del file["kspace"], file["reconstruction_rss"]
            file["kspace"], file["reconstruction_esc"] = y, np.abs(images_of(y)).astype(np.float32)
    given = data(tmp_path / "kspace", mask=RadialMask(0.4))
    sample = given.load(0)[0].sample(0)
    expected = MaskedFourier(sample.mask, complex_images=True, centered=True)(sample.truth)
    torch.testing.assert_close(sample.y, expected, rtol=0, atol=1e-5 * float(sample.y.abs().max()))
    assert fit(tmp_path / "run", given)[1]["psnr"] > 10
    assert isinstance(unrolled.load(tmp_path / "run/best.safetensors", network=GradientDescent(True))[1], MaskedFourier)


# ---- pairs


@pytest.fixture
def pairs(tmp_path):
    """Measurements of six images by a matrix, in units of their own: two stacks and two folders."""
    matrix = torch.linalg.qr(torch.randn(108, 60, generator=torch.Generator().manual_seed(0)))[0].T
    operator = Dense(matrix, 9, 12)
    x = torch.stack([picture(9, 12, seed) for seed in range(6)])
    y = 300 * operator(x)
    np.save(tmp_path / "y.npy", y.numpy())
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images"], file["other"] = 300 * x[:, 0].numpy(), np.zeros(3)
    for index in range(6):
        for name, numbers in (("ys", y[index]), ("xs", 300 * x[index])):
            (tmp_path / name).mkdir(exist_ok=True)
            np.save(tmp_path / name / f"{index}.npy", numbers.numpy())
    return tmp_path, operator


def test_pairs_in_stacks_and_folders_train_alike(pairs, tmp_path):
    folder, operator = pairs
    stacks = MeasurementData(f"{folder}/y.npy", f"{folder}/x.h5", image_key="images", hold_out=2)
    folders = MeasurementData(f"{folder}/ys", f"{folder}/xs", hold_out=2, cache_mib=0)
    one, figures = fit(tmp_path / "one", stacks, operator=operator)
    other, _ = fit(tmp_path / "other", folders, operator=operator)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    # As it is validated it serves.
    held = stacks.load(0)[1]
    found = [unrolled.reconstruct(None, one, operator, y=held.sample(index).y, scale="max")[0] for index in range(2)]
    truth = [held.shown(index) for index in range(2)]
    shown = [float(psnr(x[None], t, float(t.max()))) for x, t in zip(found, truth, strict=True)]
    assert figures["psnr"] == pytest.approx(sum(shown) / 2, abs=1e-3)


def test_measurements_of_an_operator_alone_are_validated_by_their_loss(pairs, tmp_path):
    folder, operator = pairs
    alone = MeasurementData(f"{folder}/y.npy", hold_out=2)
    loss = Residual()
    network, figures = fit(tmp_path / "run", alone, operator=operator, loss=loss)
    scores = []
    for index in range(2):
        y = alone.load(0, needs_truth=False)[1].sample(index).y
        largest = operator.adjoint(y)
        scale = float((operator(largest) * y).sum() / operator(largest).square().sum() * largest.abs().max())
        found = operator(network(y / scale, operator)).detach()
        scores.append(float((found - y / scale).square().mean()))
    assert -figures["negative_loss"] == pytest.approx(sum(scores) / 2, rel=1e-4)
    assert {truth for truth, _, _ in loss.seen} == {None}


# ---- what cannot be trained on


def broken(folder, name="bad.h5", **sets):
    folder.mkdir(exist_ok=True)
    with h5py.File(folder / name, "w") as file:
        for key, value in sets.items():
            file[key] = value
    return folder


def full(*shape):
    draw = np.random.default_rng(0)
    return (draw.normal(size=shape) + 1j * draw.normal(size=shape)).astype(np.complex64)


COLUMNS = np.tile([1, 0], 8)
CASES = {
    "another key": (lambda f: broken(f, ksp=full(2, 3, 16, 16)), {}, r"bad\.h5 has no data set 'kspace'; it holds ksp"),
    "mask of another width": (
        lambda f: broken(f, kspace=full(2, 3, 16, 16), mask=np.ones(15)),
        {},
        r"bad\.h5: mask must be numbers \(16,\) or \(16, 16\)",
    ),
    "not fully sampled": (
        lambda f: broken(f, kspace=full(2, 3, 16, 16) * COLUMNS),
        {"mask": None, "maps": LowResolution(1)},
        r"bad\.h5: slice 0 is not fully sampled, so its true image is not known; give truth: null",
    ),
    "no calibration region": (
        lambda f: broken(f, kspace=full(2, 3, 16, 16)),
        {"mask": RadialMask(0.1)},
        r"\.h5: slice 0: maps: the middle of k-space must be sampled",
    ),
    "NaN in a slice": (
        lambda f: broken(f, kspace=full(2, 3, 16, 16) * np.array([1, np.nan])[:, None, None, None].astype("f4")),
        {},
        r"bad\.h5: must be finite",
    ),
    "hold_out": (
        lambda f: broken(f, kspace=full(2, 3, 16, 16)),
        {"hold_out_volumes": 4},
        "hold_out_volumes must be below the 4 volumes",
    ),
    "truth": (lambda f: f, {"truth": None}, "truth must be 'rss' or 'combined' for a loss that needs"),
    "no files": (lambda f: f, {"train": ["nowhere"]}, "nowhere is no HDF5 file, and no folder of such files"),
}


@pytest.mark.filterwarnings("ignore:k-space")
@pytest.mark.parametrize("case", CASES)
def test_kspace_that_cannot_be_trained_on_is_named_before_training(case, volumes, tmp_path):
    make, changes, message = CASES[case]
    made = make(tmp_path / "more")
    given = {"train": [str(volumes), *([str(made)] if made.exists() else [])], "mask": MASK, **changes}
    with pytest.raises(ValueError, match=message):
        fit(tmp_path / "run", KSpaceData(**given))
    assert not list(tmp_path.glob("run/*.pt"))


def test_maps_that_do_not_fit_are_named(volumes, tmp_path):
    for path in volumes.iterdir():
        with h5py.File(path) as file:
            broken(tmp_path / "maps", path.name, maps=np.ones(file["kspace"].shape, np.complex64)[:, :2])
    with pytest.raises(
        ValueError, match=r"3 of 3 files cannot be used.*\n.*maps: .*0001\.h5 must hold 'maps', complex, .*3,"
    ):
        data(volumes, maps=str(tmp_path / "maps")).load(0)
    with pytest.raises(ValueError, match="maps: there is no folder nowhere"):
        data(volumes, maps="nowhere").load(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": "xs", "measurements": "y.npy", "operator": Dense(torch.eye(7, 108), 9, 12)},
            r"sample 0 must be \(1, 7\)",
        ),
        ({"images": "few"}, r"images: .*few must hold as many as .*ys, 6, it holds 5"),
        ({"images": "named"}, r"images: the files in .*named must have the names .* without a partner: 5, 9"),
        ({"images": "x.h5"}, "x.h5 must hold one data set, or be given its key; it holds images, other"),
        ({"images": None}, "images must be given for a loss that needs the true images"),
        ({"measurements": "nothing"}, r"measurements: must be a folder, or a stack in \.npy or \.h5"),
        ({"hold_out": 6}, "hold_out must be below the 6 samples found, got 6"),
        ({"operator": None}, "operator: is needed for these measurements"),
        ({"measurements": "bad.npy"}, "measurements: .* must be finite, but holds NaN or inf"),
    ],
)
def test_pairs_that_do_not_fit_are_named(changes, message, pairs, tmp_path):
    folder, operator = pairs
    for name, numbers in (("few", range(5)), ("named", (0, 1, 2, 3, 4, 9))):
        (folder / name).mkdir()
        for index in numbers:
            np.save(folder / name / f"{index}.npy", np.ones((9, 12)))
    np.save(folder / "bad.npy", np.full((6, 1, 60), np.nan))
    given = {"measurements": "ys", "images": "xs", "hold_out": 2, "operator": operator, **changes}
    operator = given.pop("operator")
    paths = {name: f"{folder}/{given[name]}" for name in ("measurements", "images") if given[name] is not None}
    with pytest.raises(ValueError, match=message):
        fit(tmp_path / "run", MeasurementData(**{**given, **paths}), operator=operator)


def test_options_of_images_are_refused_for_measurements(volumes, tmp_path):
    for name, value in (("crop", 8), ("scale", "max"), ("noise", lambda y: y)):
        with pytest.raises(ValueError, match=f"{name}: is for images"):
            fit(tmp_path / "run", data(volumes), **{name: value})
    with pytest.raises(ValueError, match="operator: must be a MaskedFourier or a MultiCoilFourier"):
        fit(tmp_path / "run", data(volumes), operator=Dense(torch.eye(4), 2, 2), network=GradientDescent())


def test_one_command_trains_and_its_weights_serve(volumes, tmp_path, capsys):
    short = ["--training.minutes=null", "--training.steps=2", "--training.validations=1", "--network.phases=1"]
    where = [f"--data.train=[{volumes}]", "--data.mask.center=0.3", f"--folder={tmp_path / 'run'}"]
    where.append("--data.maps=LowResolution")
    assert main(["train", "--config=configs/kspace/epgn_cartesian.yaml", *short, "--network.features=2", *where]) == 0
    assert "validation PSNR" in capsys.readouterr().out
    best, file = str(tmp_path / "run" / "best.safetensors"), str(next(volumes.iterdir()))
    picture = ["--mask=CartesianMask", "--mask.acceleration=4", "--mask.center=0.3", f"--out={tmp_path / 'x.png'}"]
    picture.append("--maps=LowResolution")
    assert main(["kspace", file, "--weights", best, *picture]) == 0
    assert "EPGN: PSNR" in capsys.readouterr().out
    assert main(["train", "--config", str(tmp_path / "run" / "config.yaml"), "--resume"]) == 0
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["step"] == 2
    assert main(["data", "estimate-maps", str(volumes), f"--out={tmp_path / 'maps'}", "--maps=LowResolution"]) == 0
    assert main(["train", "--network=EPGN", "--training.steps=1", f"--folder={tmp_path / 'none'}"]) == 1
    assert "operator: is needed to measure images" in capsys.readouterr().err


def test_arguments_of_the_mask_are_drawn_for_every_sample(volumes):
    training, held = data(volumes, mask_ranges={"acceleration": [1.5, 6], "center": [0.25, 0.3]}).load()
    ratios = {float(training.sample(0, (seed,)).mask.mean()) for seed in range(20)}
    assert len(ratios) > 5
    assert 0.2 < min(ratios) < 0.35
    assert 0.45 < max(ratios) < 1 / 1.5 + 0.05
    assert torch.equal(training.sample(0, (3,)).mask, training.sample(0, (3,)).mask)
    assert torch.equal(held.sample(1).mask, held.sample(1).mask)
    for ranges, message in (
        ({"ratio": [0.1, 0.5]}, "mask_ranges has 'ratio', and CartesianMask has acceleration, center"),
        ({"acceleration": [0.5, 4]}, "acceleration must be a finite number >= 1, got 0.5"),
        ({"acceleration": [4]}, r"data: mask_ranges: acceleration: must be \[low, high\]"),
        ({"seed": "anew"}, "data: mask_ranges must not have seed: every sample has one of its own"),
    ):
        with pytest.raises(ValueError, match=message):
            data(volumes, mask_ranges=ranges)
    with pytest.raises(ValueError, match="mask_ranges has 'acceleration', and NoneType has no arguments"):
        data(volumes, mask=None, mask_ranges={"acceleration": [2, 4]})
