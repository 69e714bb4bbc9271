import pytest
import torch

from unrolled.operators import Dense, as_operator


def test_norm_by_power_iteration_agrees_with_the_singular_values():
    matrix = torch.randn(7, 20, generator=torch.Generator().manual_seed(0))
    dense = Dense(matrix, 4, 5)
    functions = as_operator((dense.forward, dense.adjoint), shape=(1, 4, 5))
    torch.testing.assert_close(functions.norm(), torch.linalg.svdvals(matrix)[0], rtol=1e-4, atol=0)


def test_dense_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(ValueError, match="20 columns, got 21"):
        Dense(torch.ones(3, 21), 4, 5)
    with pytest.raises(ValueError, match="height and width must be >= 1"):
        Dense(torch.ones(3, 20), 0, 5)
    operator = Dense(torch.ones(3, 20), 4, 5)
    with pytest.raises(ValueError, match="images must be"):
        operator(torch.zeros(1, 1, 5, 4))
    with pytest.raises(ValueError, match="measurements must be"):
        operator.adjoint(torch.zeros(1, 1, 4))
