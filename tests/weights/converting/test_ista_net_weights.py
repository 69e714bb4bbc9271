"""ISTA-Net+ of its authors: what their program computes, restated on blocks as vectors, and its files."""

import numpy as np
import pytest
import scipy.io
import torch
import torch.nn.functional as F

import unrolled
from tests.helpers import picture
from unrolled.networks import OriginalISTANetPlus
from unrolled.operators import BlockCompressedSensing, MaskedFourier, RadialMask
from unrolled.weights import convert

BLOCK, MEASUREMENTS = 33, 30


def state(phases=3, features=4, seed=0):
    """Numbers at random under the names of their program; of one phase step and threshold are negative."""
    torch.manual_seed(seed)
    shapes = {
        "conv_D": (features, 1, 3, 3),
        **{f"conv{number}_{way}": (features, features, 3, 3) for number in (1, 2) for way in ("forward", "backward")},
        "conv_G": (1, features, 3, 3),
    }
    found = {}
    for phase in range(phases):
        sign = -1 if phase == 1 else 1
        found[f"module.fcs.{phase}.lambda_step"] = sign * torch.rand(1)
        found[f"module.fcs.{phase}.soft_thr"] = sign * 0.05 * torch.rand(1)
        for name, shape in shapes.items():
            found[f"module.fcs.{phase}.{name}"] = torch.randn(shape) / (shape[1] * 9) ** 0.5
    return found


@pytest.fixture
def files(tmp_path):
    """A checkpoint in the older form, as theirs are, with the matrices as MATLAB keeps them."""
    torch.save(state(), tmp_path / "net_params_200.pkl", _use_new_zipfile_serialization=False)
    random = np.random.default_rng(0)
    phi = np.linalg.qr(random.normal(size=(BLOCK**2, MEASUREMENTS)))[0].T
    q = phi.T + 0.01 * random.normal(size=(BLOCK**2, MEASUREMENTS))
    scipy.io.savemat(tmp_path / "phi.mat", {"phi": phi})
    scipy.io.savemat(tmp_path / "q.mat", {"Qinit": q})
    return tmp_path, torch.from_numpy(phi).float(), torch.from_numpy(q).float()


def theirs(weights, gradient, x, side):
    """Images as rows of pixels; every convolution pads its input, and every row is an image of its own."""
    for phase in range(3):
        part = {key.split(".")[-1]: value for key, value in weights.items() if key.startswith(f"module.fcs.{phase}.")}
        x = x - part["lambda_step"] * gradient(x)
        maps = x.view(-1, 1, *side)
        z = F.conv2d(maps, part["conv_D"], padding=1)
        z = F.conv2d(F.relu(F.conv2d(z, part["conv1_forward"], padding=1)), part["conv2_forward"], padding=1)
        z = z.sign() * F.relu(z.abs() - part["soft_thr"])
        z = F.conv2d(F.relu(F.conv2d(z, part["conv1_backward"], padding=1)), part["conv2_backward"], padding=1)
        x = (maps + F.conv2d(z, part["conv_G"], padding=1)).flatten(1)
    return x


def test_blocks_are_reconstructed_as_by_their_program(files):
    folder, phi, q = files
    converted = convert(
        folder / "net_params_200.pkl",
        "ista-net-plus",
        licence="Apache-2.0",
        matrix=folder / "phi.mat",
        initial=folder / "q.mat",
    )
    unrolled.save(folder / "w.safetensors", converted.network, converted.operator, converted.card)
    network, operator = unrolled.load(folder / "w.safetensors")
    assert isinstance(network, OriginalISTANetPlus)
    assert len(network.phases) == 3
    image = picture(2 * BLOCK, 3 * BLOCK).unsqueeze(0)
    # Blocks row by row, the pixels of each row by row.
    rows = [image[0, 0, r : r + BLOCK, c : c + BLOCK].reshape(-1) for r in (0, BLOCK) for c in (0, BLOCK, 2 * BLOCK)]
    y = torch.stack(rows) @ phi.T
    with torch.no_grad():
        expected = theirs(state(), lambda x: x @ phi.T @ phi - y @ phi, y @ q.T, (BLOCK, BLOCK))
        found = network(operator(image), operator)
    for number, block in enumerate(expected):
        r, c = BLOCK * (number // 3), BLOCK * (number % 3)
        torch.testing.assert_close(found[0, 0, r : r + BLOCK, c : c + BLOCK].reshape(-1), block, atol=1e-5, rtol=0)
    assert unrolled.reconstruct(image[0], network, operator).shape == image[0].shape


def test_whole_images_are_reconstructed_as_by_their_program_for_magnetic_resonance(files):
    folder, *_ = files
    operator = MaskedFourier(RadialMask(0.4), 20, 24)
    network = convert(folder / "net_params_200.pkl", "ista-net-plus", licence="x", operator=operator).network
    image = picture(20, 24).unsqueeze(0)
    mask = operator.mask

    def gram(x):
        return torch.fft.ifft2(mask * torch.fft.fft2(x.view(-1, 1, 20, 24))).real.flatten(1)

    with torch.no_grad():
        start = gram(image)
        expected = theirs(state(), lambda x: gram(x) - start, start, (20, 24))
        found = network(operator(image), operator)
    torch.testing.assert_close(found.flatten(1), expected, atol=1e-5, rtol=0)


def matrices(phi=(MEASUREMENTS, 9), q=(9, MEASUREMENTS)):
    return {"matrix": torch.ones(phi), "initial": torch.ones(q)}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda s: s.pop("module.fcs.1.conv_G"), matrices((4, 9), (9, 4)), "w.pkl lacks fcs.1.conv_G"),
        (lambda s: s.update(extra=torch.zeros(1)), matrices((4, 9), (9, 4)), "it has no fcs.0.conv_D; it has extra"),
        (
            lambda s: s.update({"module.fcs.0.other": torch.zeros(1)}),
            matrices((4, 9), (9, 4)),
            "w.pkl also has fcs.0.other",
        ),
        (
            lambda s: s.update({"module.fcs.2.conv1_forward": torch.zeros(4, 5, 3, 3)}),
            matrices((4, 9), (9, 4)),
            r"fcs.2.conv1_forward must be real, of the shape \(4, 4, 3, 3\), got torch.float32 \(4, 5, 3, 3\)",
        ),
        (
            lambda s: s.update({"module.fcs.0.soft_thr": torch.zeros(4)}),
            matrices((4, 9), (9, 4)),
            r"fcs.0.soft_thr must be real, of the shape \(\)",
        ),
        (
            lambda s: s.update({"module.fcs.0.conv_D": torch.zeros(4, 2, 3, 3)}),
            matrices((4, 9), (9, 4)),
            "must see one channel, got 2",
        ),
        (lambda s: None, {}, "matrix, initial: both are needed"),
        (lambda s: None, {"matrix": torch.ones(4, 9)}, "matrix, initial: both are needed"),
        (lambda s: None, matrices((4, 9), (9, 5)), r"initial: must be .* \(9, 4\), got \(9, 5\)"),
        (lambda s: None, matrices((9, 4), (4, 9)), "matrix: must have at most|BlockCompressedSensing: matrix must be"),
        (lambda s: None, matrices((4, 8), (8, 4)), "a column for each pixel of a square block, got 8"),
        (lambda s: None, matrices((4, 9, 1)), "matrix: must be a real, finite matrix"),
        (
            lambda s: None,
            {**matrices((4, 9), (9, 4)), "operator": BlockCompressedSensing(0.2, block=3)},
            "operator: stands instead of matrix and initial",
        ),
        (
            lambda s: None,
            {"operator": MaskedFourier(RadialMask(0.4), 20, 24, complex_images=True)},
            "operator: must measure real images",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, options, message, tmp_path):
    weights = state()
    change(weights)
    torch.save(weights, tmp_path / "w.pkl")
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "w.pkl", "ista-net-plus", licence="x", **options)


def test_the_network_before_it_is_told_apart(tmp_path):
    # ISTA-Net has neither D nor G.
    older = {key: value for key, value in state().items() if "conv_D" not in key and "conv_G" not in key}
    torch.save(older, tmp_path / "w.pkl")
    with pytest.raises(
        ValueError, match=r"w.pkl is not ISTA-Net\+ .*: it has no fcs.0.conv_D; it has fcs.0.conv1_back"
    ):
        convert(tmp_path / "w.pkl", "ista-net-plus", licence="x", **matrices())


def test_a_matrix_of_another_name_is_taken_if_it_is_the_only_one(files):
    folder, phi, _ = files
    scipy.io.savemat(folder / "other.mat", {"sampling": phi.numpy()})
    scipy.io.savemat(folder / "two.mat", {"a": phi.numpy(), "b": phi.numpy()})
    how = {"licence": "x", "initial": folder / "q.mat"}
    convert(folder / "net_params_200.pkl", "ista-net-plus", matrix=folder / "other.mat", **how)
    with pytest.raises(ValueError, match="must hold one matrix; found: a"):
        convert(folder / "net_params_200.pkl", "ista-net-plus", matrix=folder / "two.mat", **how)
    with pytest.raises(ValueError, match=r"matrix: .*there is no file"):
        convert(folder / "net_params_200.pkl", "ista-net-plus", matrix=folder / "none.mat", **how)
