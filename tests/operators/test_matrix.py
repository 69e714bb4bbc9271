"""Matrices: read, drawn, refused."""

import numpy as np
import pytest
import torch

from unrolled.operators.matrix import (
    LARGEST_DRAWN,
    orthonormal_gaussian,
    read_matrix,
    solve_with_ridge,
    spectrum_of,
)


def test_a_matrix_is_read_as_it_was_written(tmp_path):
    matrix = np.random.default_rng(0).normal(size=(4, 9))
    np.save(tmp_path / "a.npy", matrix)
    assert torch.equal(read_matrix(tmp_path / "a.npy"), torch.from_numpy(matrix))


@pytest.mark.parametrize(
    ("array", "message"),
    {
        "NaN": (np.array([[1.0, np.nan]]), "matrix: must be finite"),
        "infinity": (np.array([[1.0, np.inf]]), "matrix: must be finite"),
        "empty": (np.ones((0, 3)), "matrix: must be .rows, columns., got shape .0, 3."),
    }.values(),
    ids=["NaN", "infinity", "empty"],
)
def test_what_measures_nothing_is_refused(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=message):
        read_matrix(tmp_path / "a.npy")


@pytest.mark.parametrize(("rows", "columns"), [(1, 5), (7, 30), (64, 64)])
def test_drawn_rows_are_orthonormal_and_follow_the_seed(rows, columns):
    matrix = orthonormal_gaussian(rows, columns, 3)
    assert matrix.shape == (rows, columns)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(rows, dtype=torch.float64), rtol=0, atol=1e-13)
    assert torch.equal(matrix, orthonormal_gaussian(rows, columns, 3))
    assert not torch.equal(matrix, orthonormal_gaussian(rows, columns, 4))


def test_a_matrix_too_large_to_draw_is_refused():
    with pytest.raises(ValueError, match=f"at most {LARGEST_DRAWN:,} numbers can be drawn, got 100000 × 1000000"):
        orthonormal_gaussian(100_000, 1_000_000, 0)


@pytest.mark.parametrize("rows", [3, 6, 9])
@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
def test_a_spectrum_solves_as_a_factorisation_does(rows, kind):
    torch.manual_seed(0)
    matrix, b = torch.randn(rows, 6, dtype=kind), torch.randn(2, 6, 4, dtype=kind)
    for ridge in (torch.full((1, 1, 1), 0.1, dtype=torch.float64), torch.rand(2, 1, 1, dtype=torch.float64) + 0.1):
        expected = torch.linalg.solve(matrix.mH @ matrix + ridge * torch.eye(6), b)
        for spectrum in (None, spectrum_of(matrix)):
            torch.testing.assert_close(solve_with_ridge(matrix, b, ridge, spectrum), expected)
