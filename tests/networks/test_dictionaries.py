"""Dictionaries as operators, and analytic weights against quadratic programs that are solved column by column."""

import pytest
import torch

from tests.networks.dictionary_networks import dictionary
from unrolled.networks.dictionaries import analytic_weights, dictionary_of, dictionary_size
from unrolled.operators import (
    BlockCompressedSensing,
    Coils,
    Dense,
    Identity,
    MultiCoilFourier,
    RadialMask,
    Radon,
    Stack,
)


def in_double(matrix):
    return matrix.to(torch.complex128 if matrix.is_complex() else torch.float64)


@pytest.mark.parametrize("complex_numbers", [False, True])
@pytest.mark.parametrize("size", [(6, 11), (11, 6), (7, 7)])
def test_analytic_weights_solve_the_quadratic_program_of_every_column(size, complex_numbers):
    d = in_double(dictionary(*size, complex_numbers))
    found = analytic_weights(d)
    # The program by its conditions of optimality, 2DDᴴw = λd and dᴴw = 1, one linear system of equations.
    rows, columns = size
    for number in range(columns):
        atom = d[:, number]
        system = torch.zeros(rows + 1, rows + 1, dtype=d.dtype)
        system[:rows, :rows], system[:rows, rows], system[rows, :rows] = 2 * d @ d.mH, -atom, atom.conj()
        right = torch.zeros(rows + 1, dtype=d.dtype)
        right[rows] = 1
        solved = (torch.linalg.pinv(system, rtol=1e-10) @ right)[:rows]
        torch.testing.assert_close(found[:, number], solved)


def test_no_feasible_change_of_analytic_weights_is_better():
    d = in_double(dictionary(6, 11))
    found = analytic_weights(d)
    torch.testing.assert_close((found * d).sum(0), torch.ones(11, dtype=d.dtype))
    least, random = (found.T @ d).square().sum(), torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-1, 10.0):
        change = size * torch.randn(6, 11, generator=random, dtype=torch.float64)
        other = found + change - d * (change * d).sum(0) / d.square().sum(0)
        worse = (other.T @ d).square().sum() - least
        assert worse > 0.01 * size**2


def test_of_a_dictionary_of_lower_rank_the_least_weights_are_found():
    d = in_double(dictionary(6, 11))
    d = torch.cat([d[:4], d[:2] + d[2:4]])
    found = analytic_weights(d)
    torch.testing.assert_close((found * d).sum(0), torch.ones(11, dtype=d.dtype))
    basis = torch.linalg.svd(d, full_matrices=False).U[:, :4]
    torch.testing.assert_close(basis @ (basis.T @ analytic_weights(d)), found)
    torch.testing.assert_close(basis @ analytic_weights(basis.T @ d), found)


@pytest.mark.parametrize("complex_numbers", [False, True])
def test_dictionaries_are_found_in_operators(complex_numbers):
    matrix = dictionary(complex_numbers=complex_numbers)
    operator = Dense(matrix, 4, 5)
    assert dictionary_size(operator) == dictionary_size(3.0 * operator) == (12, 4, 5)
    assert torch.equal(dictionary_of(operator), in_double(matrix))
    torch.testing.assert_close(dictionary_of(3.0 * operator), 3 * in_double(matrix))


def test_other_operators_are_none():
    for operator in (
        Identity(),
        BlockCompressedSensing(0.5, block=3),
        Radon(5, 6, 6),
        MultiCoilFourier(Coils(3), RadialMask(0.5), 6, 6),
        Stack([Dense(torch.randn(3, 20), 4, 5), Dense(torch.randn(2, 20), 4, 5)], (1, 4, 5)),
    ):
        assert dictionary_size(operator) is None
