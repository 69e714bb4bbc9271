import h5py
import numpy as np
import pytest
import torch

from tests.helpers import write_matrix
from unrolled.operators import BlockCompressedSensing

RATIOS = {0.01: 10, 0.04: 43, 0.10: 109, 0.25: 272, 0.30: 327, 0.40: 436, 0.50: 545}


@pytest.mark.parametrize(("ratio", "count"), RATIOS.items())
def test_counts_are_those_of_the_protocol(ratio, count):
    assert BlockCompressedSensing(ratio=ratio).measurements == count


def test_rows_are_orthonormal():
    phi = BlockCompressedSensing(ratio=0.25).double().matrix
    torch.testing.assert_close(phi @ phi.T, torch.eye(272, dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_matrix_is_the_same_everywhere():
    # Written down once: another machine or a later version must draw the same matrix, or shipped weights are worthless.
    operator = BlockCompressedSensing(ratio=0.25, seed=0)
    assert operator.hash() == "b02771fa0bfcc419"
    assert BlockCompressedSensing(ratio=0.25, seed=1).hash() != operator.hash()


def test_a_block_is_measured_by_the_matrix_in_row_major_order():
    operator = BlockCompressedSensing(measurements=4, block=3)
    x = torch.rand(1, 1, 6, 9)
    block = x[0, 0, 3:6, 6:9].reshape(9)
    torch.testing.assert_close(operator(x)[0, 0, :, 1, 2], operator.matrix @ block)


@pytest.mark.parametrize("suffix", [".npy", ".mat", ".h5"])
def test_own_matrix_from_a_file(tmp_path, suffix):
    matrix = np.random.default_rng(0).normal(size=(4, 9))
    path = write_matrix(tmp_path / f"phi{suffix}", matrix)
    operator = BlockCompressedSensing(matrix=path, block=3)
    np.testing.assert_allclose(operator.matrix.numpy(), matrix, rtol=1e-6)
    assert operator.measurements == 4


def test_matlab_7_3_files_are_transposed_back(tmp_path):
    matrix = np.random.default_rng(0).normal(size=(4, 9))
    with h5py.File(tmp_path / "phi.mat", "w") as file:
        file["phi"] = matrix.T
    operator = BlockCompressedSensing(matrix=tmp_path / "phi.mat", block=3)
    np.testing.assert_allclose(operator.matrix.numpy(), matrix, rtol=1e-6)


def test_a_learned_matrix_receives_gradients_and_a_fixed_one_does_not():
    learned = BlockCompressedSensing(ratio=0.5, block=4, learned=True)
    learned(torch.rand(1, 1, 8, 8)).square().sum().backward()
    assert learned.matrix.grad.norm() > 0
    assert not list(BlockCompressedSensing(ratio=0.5, block=4).parameters())


def test_stays_in_full_precision_under_autocast():
    operator, x = BlockCompressedSensing(ratio=0.25), torch.rand(1, 1, 33, 33)
    with torch.autocast("cpu", torch.bfloat16):
        y = operator(x)
        back = operator.adjoint(y)
    assert torch.equal(y, operator(x))
    assert torch.equal(back, operator.adjoint(y))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of ratio, measurements and matrix"),
        ({"ratio": 0.5, "measurements": 3}, "exactly one of"),
        ({"ratio": 0.0}, r"ratio must be in \(0, 1\], got 0.0"),
        ({"ratio": 1.5}, "ratio must be in"),
        ({"ratio": float("nan")}, "ratio must be in"),
        ({"measurements": 0}, "measurements must be in 1 … 1089"),
        ({"measurements": 1090}, "measurements must be in"),
        ({"ratio": 0.5, "block": 0}, "block must be >= 1"),
        ({"ratio": 0.5, "seed": -1}, "seed must be in"),
        ({"matrix": torch.ones(4, 8), "block": 3}, "matrix must be real"),
        ({"matrix": torch.full((4, 9), torch.nan), "block": 3}, "matrix: must be finite"),
        ({"matrix": torch.ones(9), "block": 3}, r"matrix: must be \(rows, columns\)"),
        ({"matrix": "nowhere.npy"}, "no file nowhere.npy"),
    ],
)
def test_bad_arguments_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        BlockCompressedSensing(**options)


def test_bad_files_are_refused(tmp_path):
    (tmp_path / "broken.npy").write_bytes(b"not an array")
    (tmp_path / "broken.mat").write_bytes(b"not an array")
    (tmp_path / "broken.h5").write_bytes(b"not an array")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}]), allow_pickle=True)
    (tmp_path / "matrix.txt").write_text("1 2")
    np.savez(tmp_path / "two.npz", a=1)
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a"], file["b"] = np.ones((4, 9)), np.ones((4, 9))
    for name in ("broken.npy", "broken.mat", "broken.h5", "objects.npy", "matrix.txt", "two.h5"):
        with pytest.raises(ValueError, match=name):
            BlockCompressedSensing(matrix=tmp_path / name, block=3)


def test_images_and_measurements_of_a_wrong_shape_are_refused():
    operator = BlockCompressedSensing(ratio=0.25)
    for shape in [(1, 1, 32, 33), (1, 1, 33, 34), (1, 33, 33), (0, 1, 33, 33)]:
        with pytest.raises(ValueError, match="multiples of 33"):
            operator(torch.zeros(shape))
    for shape in [(1, 1, 271, 1, 1), (1, 272, 1, 1)]:
        with pytest.raises(ValueError, match="measurements must be"):
            operator.adjoint(torch.zeros(shape))
