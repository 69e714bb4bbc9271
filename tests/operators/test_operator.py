import pytest
import torch

from unrolled.operators import BlockCompressedSensing, Dense, MaskedFourier, RadialMask, as_operator


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


def test_operators_of_the_same_kind_are_alternatives():
    blocks, fourier = BlockCompressedSensing(ratio=0.25, block=8), MaskedFourier(RadialMask(0.3), 12, 10)
    blocks.fit_images([torch.rand(1, 40, 40, generator=torch.Generator().manual_seed(0))])
    for operator, shape in ((blocks, (1, 16, 16)), (fourier, (1, 12, 10))):
        others = operator.alternatives(seed=3)
        assert others
        for other in others.values():
            assert type(other) is type(operator)
            assert other.measurement_shape(shape) == operator.measurement_shape(shape)
    hashes = {other.hash() for other in (blocks, *blocks.alternatives(3).values(), *blocks.alternatives(9).values())}
    assert len(hashes) == 5
    assert blocks.at_ratio(0.5).measurements == 32
    assert torch.equal(blocks.at_ratio(0.5).autocorrelation, blocks.autocorrelation)
    assert fourier.at_ratio(0.6).ratio >= 0.6
    assert torch.equal(fourier.alternatives()["turned"].mask.sum(), fourier.mask.sum())
    assert Dense(torch.ones(3, 20), 4, 5).alternatives() == {}
    assert Dense(torch.ones(3, 20), 4, 5).at_ratio(0.5) is None
