import pytest
import torch

from tests.operators.laws import OperatorLaws
from unrolled.operators import Diagonal, Radon


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class TestDiagonal(OperatorLaws):
    operator_class = Diagonal
    cases = {
        "of every number": lambda: (Diagonal(numbers(4, 5)).double(), (2, 3, 4, 5)),
        "of rows": lambda: (Diagonal(numbers(4, 1)).double(), (2, 3, 4, 5)),
    }


def test_it_is_a_diagonal_matrix_and_its_estimate_the_inverse():
    d, x = numbers(6).float(), torch.rand(2, 1, 1, 6)
    d[2] = 0
    torch.testing.assert_close(Diagonal(d)(x), (x.flatten(1) @ torch.diag(d)).view_as(x))
    torch.testing.assert_close(Diagonal(d).estimate(Diagonal(d)(x)), torch.where(d == 0, 0, x))
    sinogram = Radon(4, 5, 5)
    assert (Diagonal(torch.ones(4, 1)) @ sinogram).measurement_shape((1, 5, 5)) == (1, 4, sinogram.detectors)


@pytest.mark.parametrize("wrong", [[1j], [float("nan")], [[]]])
def test_what_is_no_diagonal_is_refused(wrong):
    with pytest.raises(ValueError, match="Diagonal: diagonal"):
        Diagonal(wrong)


@pytest.mark.parametrize("shape", [(2,), (2, 1, 1, 1), (3, 1, 1, 1, 1)])
def test_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"Diagonal: a diagonal of \(.*\) does not fit to \(1, 1, 5, 6\)"):
        Diagonal(torch.ones(shape))(torch.ones(1, 1, 5, 6))
