"""Linear measurement operators A: images in, measurements out, with exact adjoints."""

from unrolled.operators.block_compressed_sensing import BlockCompressedSensing
from unrolled.operators.dense import Dense
from unrolled.operators.fan_beam import FanBeam
from unrolled.operators.fourier import Coils, MaskedFourier, MultiCoilFourier
from unrolled.operators.masks import CartesianMask, GaussianMask, RadialMask, SamplingMask, UniformMask
from unrolled.operators.operator import Adjoint, Composition, LinearOperator, Scaled, as_operator, power_iteration
from unrolled.operators.radon import Radon

__all__ = [
    "Adjoint",
    "BlockCompressedSensing",
    "CartesianMask",
    "Coils",
    "Composition",
    "Dense",
    "FanBeam",
    "GaussianMask",
    "LinearOperator",
    "MaskedFourier",
    "MultiCoilFourier",
    "RadialMask",
    "Radon",
    "SamplingMask",
    "Scaled",
    "UniformMask",
    "as_operator",
    "power_iteration",
]
