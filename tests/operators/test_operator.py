import math

import pytest
import torch

from unrolled.operators import (
    BlockCompressedSensing,
    Dense,
    Downsampling,
    Identity,
    LinearOperator,
    MaskedFourier,
    RadialMask,
    Scaled,
    Sum,
    as_operator,
)


class AnySize(LinearOperator):
    """It says neither which images it measures nor its norm."""

    def forward(self, x):
        return x

    def adjoint(self, y):
        return y

    def measurement_shape(self, image_shape):
        return tuple(image_shape)


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


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: as_operator(torch.eye(20), (1, 4, 5)).image_size(torch.ones(1, 1, 20)), "is not local"),
        (lambda: Scaled(Identity(), 0.0), "Scaled: factor must be a finite number other than 0, got 0.0"),
        (lambda: Scaled(Identity(), math.nan), "Scaled: factor must be a finite number other than 0, got nan"),
        (lambda: Dense(torch.ones(3, 20), 4, 5).measurement_shape((1, 5, 4)), "images must be .* of 4 × 5 pixels"),
        (
            lambda: as_operator((torch.clone, torch.clone), (3, 4, 5)).measurement_shape((2, 4, 5)),
            "4 × 5 pixels and 3 channels",
        ),
        (
            lambda: BlockCompressedSensing(ratio=0.25, block=8).measurement_shape((1, 12, 16)),
            "sides that are multiples of 8",
        ),
        (
            lambda: Sum(Identity(), Downsampling(2)).measurement_shape((1, 8, 8)),
            "Sum: measurements must have one shape",
        ),
        (lambda: AnySize().norm(), "AnySize: norm.. is not known for images of any size; set image_shape"),
    ],
)
def test_what_an_operator_cannot_tell_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()


def test_a_scaled_local_operator_is_as_local():
    operator = BlockCompressedSensing(ratio=0.25, block=4)
    scaled, y = Scaled(operator, 3.0), operator(torch.rand(1, 1, 12, 8))
    assert scaled.image_size(y) == (12, 8)
    assert torch.equal(scaled.crop(y, 4, 4, 8, 4), operator.crop(y, 4, 4, 8, 4))


@pytest.mark.device
def test_a_device_without_double_precision_gets_single():
    def moved(tensor):
        if tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return tensor.clone()

    operator = BlockCompressedSensing(ratio=0.25, block=11)._apply(moved)
    assert {buffer.dtype for buffer in operator.buffers()} == {torch.float32}
    with pytest.raises(TypeError, match="something else"):
        operator._apply(lambda tensor: (_ for _ in ()).throw(TypeError("something else")))
