"""Linear measurement operators A: images in, measurements out, with exact adjoints."""

from unrolled.operators.block_compressed_sensing import BlockCompressedSensing
from unrolled.operators.blur import Blur
from unrolled.operators.dense import Dense
from unrolled.operators.downsampling import Downsampling
from unrolled.operators.fourier import Coils, MaskedFourier, MultiCoilFourier
from unrolled.operators.inpainting import Inpainting
from unrolled.operators.kernels import BoxKernel, GaussianKernel, Kernel, MotionKernel
from unrolled.operators.masks import CartesianMask, GaussianMask, RadialMask, SamplingMask, UniformMask
from unrolled.operators.operator import Adjoint, Composition, LinearOperator, Scaled, as_operator, power_iteration

__all__ = [
    "Adjoint",
    "BlockCompressedSensing",
    "Blur",
    "BoxKernel",
    "CartesianMask",
    "Coils",
    "Composition",
    "Dense",
    "Downsampling",
    "GaussianKernel",
    "GaussianMask",
    "Inpainting",
    "Kernel",
    "LinearOperator",
    "MaskedFourier",
    "MotionKernel",
    "MultiCoilFourier",
    "RadialMask",
    "SamplingMask",
    "Scaled",
    "UniformMask",
    "as_operator",
    "power_iteration",
]
