"""Constructors take numbers, arrays and files as users have them, or refuse them by the name of the argument."""

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from unrolled.operators import (
    Adjoint,
    BlockCompressedSensing,
    Blur,
    BoxKernel,
    CartesianMask,
    Coils,
    Composition,
    Dense,
    Downsampling,
    FanBeam,
    GaussianKernel,
    GaussianNoise,
    Identity,
    Inpainting,
    MaskedFourier,
    MotionKernel,
    MultiCoilFourier,
    RadialMask,
    Radon,
    SaltAndPepperNoise,
    Scaled,
    Stack,
)

NUMBERS = (np.random.RandomState(0).rand(4, 9) < 0.5).astype(np.float32)
HALF = 0.25 * NUMBERS
COMPLEX = NUMBERS - 0.5j * NUMBERS

TAKES_ARRAYS = {
    "Dense": (lambda m: Dense(m, 3, 3).matrix, NUMBERS),
    "Dense, complex": (lambda m: Dense(m, 3, 3).matrix, COMPLEX),
    "BlockCompressedSensing": (lambda m: BlockCompressedSensing(matrix=m, block=3).matrix, HALF),
    "learned": (lambda m: BlockCompressedSensing(matrix=m, block=3, learned=True).matrix.detach(), HALF),
    "Blur": (lambda k: Blur(k).kernel, HALF),
    "Downsampling": (lambda k: Downsampling(2, k).kernel, HALF),
    "Inpainting": (lambda m: Inpainting(m).mask, NUMBERS),
    "MaskedFourier": (lambda m: MaskedFourier(m).mask, NUMBERS),
    "MultiCoilFourier": (lambda m: MultiCoilFourier(np.ones((2, 4, 9)), m).mask, NUMBERS),
    "maps": (lambda m: MultiCoilFourier([m, 2 * m], NUMBERS).maps[0], COMPLEX),
    "Radon": (lambda a: Radon(a[0], 4, 4).angles, 90 * NUMBERS),
    "FanBeam": (lambda a: FanBeam(a[0], 4, 4, source_distance=20).angles, 90 * NUMBERS),
}


@pytest.mark.parametrize("name", TAKES_ARRAYS)
def test_arrays_of_any_kind_are_kept_in_the_default_type(name, tmp_path):
    make, numbers = TAKES_ARRAYS[name]
    expected = make(torch.from_numpy(numbers))
    wide = numbers.astype(np.complex128 if np.iscomplexobj(numbers) else np.float64)
    given = [wide, torch.from_numpy(wide), wide.astype(wide.dtype.newbyteorder()), np.asfortranarray(wide)]
    given += [wide[::-1, ::-1].copy()[::-1, ::-1], torch.from_numpy(wide).t().contiguous().t()]
    if not np.iscomplexobj(numbers):
        given += [numbers.astype(np.float16), torch.from_numpy(numbers).bfloat16()]
    if np.array_equal(numbers.real, numbers.real.round()) and not np.iscomplexobj(numbers):
        given += [numbers.astype(np.uint8), numbers.astype(">i4"), torch.from_numpy(numbers).long()]
    if numbers.max() == 1 and not np.iscomplexobj(numbers):
        given += [numbers.astype(bool), torch.from_numpy(numbers).bool()]
    read_only = numbers.copy()
    read_only.flags.writeable = False
    for one in [*given, read_only, *([] if name == "maps" else [numbers.tolist()])]:
        found = make(one)
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
        assert found.resolve_conj().clone().fill_(1).shape == expected.shape
    before = numbers.copy()
    make(numbers).detach().clone().zero_()
    assert np.array_equal(numbers, before)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float16, np.float64, bool])
def test_files_of_any_type_are_kept_in_the_default_type(kind, tmp_path):
    numbers = NUMBERS.astype(kind)
    np.save(tmp_path / "a.npy", numbers)
    scipy.io.savemat(tmp_path / "a.mat", {"a": numbers if kind is not np.float16 else numbers.astype(np.float32)})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = numbers
    for path in (tmp_path / "a.npy", str(tmp_path / "a.mat"), tmp_path / "a.h5"):
        for make in (
            lambda path: Dense(path, 3, 3).matrix,
            lambda path: Blur(path).kernel,
            lambda p: Inpainting(p).mask,
        ):
            assert torch.equal(make(path), torch.from_numpy(NUMBERS))


SCALARS = {
    "block": lambda n: BlockCompressedSensing(measurements=n(2), block=n(3), seed=n(5)).matrix,
    "ratio": lambda n: BlockCompressedSensing(ratio=n(0.25), block=4).matrix,
    "Dense": lambda n: Dense(NUMBERS, n(3), n(3))(torch.ones(1, 1, 3, 3)),
    "Inpainting": lambda n: Inpainting(keep=n(0.5), height=n(4), width=n(6), seed=n(1)).mask,
    "Radon": lambda n: Radon(n(5), n(8), n(8), detectors=n(9), spacing=n(1.5), pixel_size=n(0.5)).response,
    "FanBeam": lambda n: FanBeam(n(5), 8, 8, n(30.0), n(4.0)).response,
    "Downsampling": lambda n: Downsampling(n(2), height=n(8), width=n(8)).norm(),
    "MaskedFourier": lambda n: MaskedFourier(RadialMask(n(0.25)), n(8), n(8)).mask,
    "CartesianMask": lambda n: CartesianMask(n(4.0), n(0.25), seed=n(3)).draw(8, 8),
    "Coils": lambda n: Coils(n(3), n(1.5)).draw(4, 4),
    "GaussianKernel": lambda n: GaussianKernel(n(1.5), n(5)).draw(),
    "MotionKernel": lambda n: MotionKernel(n(4.5), n(30.0)).draw(),
    "Scaled": lambda n: (n(2.5) * Identity())(torch.ones(1, 1, 2, 2)),
    "GaussianNoise": lambda n: GaussianNoise(n(0.5)).variance(torch.ones(2)),
    "solve": lambda n: Identity().solve(torch.ones(1, 1, 2, 2), n(0.5), tolerance=n(0.5), iterations=n(3)),
}


@pytest.mark.parametrize("name", SCALARS)
def test_single_numbers_of_any_kind_are_numbers(name):
    expected = SCALARS[name](lambda number: number)
    for kind in (
        lambda number: np.int64(number) if isinstance(number, int) else np.float32(number),
        lambda number: np.uint8(number) if isinstance(number, int) else np.float16(number),
        lambda number: np.array(number),
        lambda number: torch.tensor(number),
    ):
        if name == "Scaled" and isinstance(kind(2.5), torch.Tensor):
            continue  # a tensor's own product comes first
        assert torch.equal(SCALARS[name](kind), expected)


NO_ARRAYS = (None, "a", "", [["a"]], [[1.0], [1.0, 2.0]], np.array([[object()]]), {"a": 1}, np.full((4, 9), np.inf))
REFUSES = {
    "matrix": lambda m: Dense(m, 3, 3),
    "matrix ": lambda m: BlockCompressedSensing(matrix=m, block=3),
    "kernel": Blur,
    "kernel ": lambda k: Downsampling(2, k),
    "mask": Inpainting,
    "mask ": MaskedFourier,
    "maps": lambda m: MultiCoilFourier(m, NUMBERS),
    "angles": lambda a: Radon(a, 8, 8),
    "angles ": lambda a: FanBeam(a, 8, 8, 30.0),
}


@pytest.mark.parametrize("name", REFUSES)
def test_what_holds_no_numbers_is_refused_by_name(name):
    for bad in (*NO_ARRAYS, np.zeros((0, 9)), np.zeros(9) > 0, NUMBERS.astype(np.float64) * 1e300):
        with pytest.raises(ValueError, match=f"{name.strip()}|exactly one of|array: .* must end in|there is no file"):
            REFUSES[name](bad)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda bad: BlockCompressedSensing(ratio=bad), "BlockCompressedSensing: (ratio must be|give exactly one)"),
        (lambda bad: BlockCompressedSensing(0.5, block=bad), "block must be"),
        (lambda bad: BlockCompressedSensing(0.5, seed=bad), "seed must be"),
        (lambda bad: Dense(NUMBERS, bad, 3), "Dense: height must be"),
        (lambda bad: Inpainting(keep=bad, height=3, width=3), "Inpainting: (keep must be|give exactly one)"),
        (lambda bad: Downsampling(bad), "Downsampling: factor must be"),
        (lambda bad: Radon(5, 8, bad), "Radon: width must be"),
        (lambda bad: Radon(5, 8, 8, pixel_size=bad), "Radon: pixel_size must be"),
        (lambda bad: FanBeam(5, 8, 8, bad), "FanBeam: source_distance must be"),
        (lambda bad: RadialMask(bad), "RadialMask: ratio must be"),
        (lambda bad: CartesianMask(seed=bad), "CartesianMask: seed must be"),
        (lambda bad: Coils(bad), "Coils: coils must be"),
        (lambda bad: BoxKernel(bad), "BoxKernel: size must be"),
        (lambda bad: MotionKernel(bad), "MotionKernel: length must be"),
        (lambda bad: GaussianNoise(bad), "GaussianNoise: sigma must be"),
        (lambda bad: SaltAndPepperNoise(bad), "SaltAndPepperNoise: probability must be"),
        (lambda bad: Scaled(Identity(), bad), "Scaled: factor must be"),
        (lambda bad: Identity().solve(torch.ones(1, 1, 2, 2), bad), "Identity: ridge(:)? must be"),
        (lambda bad: Stack([Identity()], (1, 8, bad)), "Stack: shape must be"),
    ],
)
def test_what_is_no_single_number_is_refused_by_name(make, message):
    for bad in (True, "3", 1j, float("nan"), float("inf"), None, [2, 3], np.array([2, 3]), {}, np.bool_(True)):
        with pytest.raises(ValueError, match=message):
            make(bad)


@pytest.mark.parametrize("bad", [3, "a", None, torch.ones(2, 2), [Identity()]])
def test_operators_are_made_of_operators(bad):
    for make in (
        Adjoint,
        lambda bad: Composition(bad, Identity()),
        lambda bad: Identity() @ bad,
        lambda bad: Identity() + bad,
        lambda bad: Scaled(bad, 2.0),
        lambda bad: Stack([bad], (1, 2, 2)),
        lambda bad: Stack(bad, (1, 2, 2)) if not isinstance(bad, list) else Stack([], (1, 2, 2)),
    ):
        with pytest.raises(ValueError, match=r"made of LinearOperators|must be LinearOperators"):
            make(bad)
