"""Linear measurement operators A: images in, measurements out, with exact adjoints."""

from unrolled.operators.block_compressed_sensing import BlockCompressedSensing
from unrolled.operators.dense import Dense
from unrolled.operators.fourier import Coils, MaskedFourier, MultiCoilFourier
from unrolled.operators.masks import CartesianMask, GaussianMask, RadialMask, SamplingMask, UniformMask
from unrolled.operators.operator import Adjoint, Composition, LinearOperator, Scaled, as_operator, power_iteration

__all__ = [
    "Adjoint",
    "BlockCompressedSensing",
    "CartesianMask",
    "Coils",
    "Composition",
    "Dense",
    "GaussianMask",
    "LinearOperator",
    "MaskedFourier",
    "MultiCoilFourier",
    "RadialMask",
    "SamplingMask",
    "Scaled",
    "UniformMask",
    "as_operator",
    "power_iteration",
]
