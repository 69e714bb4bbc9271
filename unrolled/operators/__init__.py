"""Linear measurement operators A: images in, measurements out, with exact adjoints."""

from unrolled.operators.block_compressed_sensing import BlockCompressedSensing
from unrolled.operators.blur import Blur
from unrolled.operators.coil_maps import CoilMaps, Espirit, LowResolution
from unrolled.operators.coil_noise import CoilNoise
from unrolled.operators.coils import Coils
from unrolled.operators.custom import FromFunctions, as_operator
from unrolled.operators.deepinv import to_deepinv
from unrolled.operators.dense import Dense
from unrolled.operators.diagonal import Diagonal
from unrolled.operators.downsampling import Downsampling
from unrolled.operators.fan_beam import FanBeam
from unrolled.operators.fastmri_mask import FastMRIMask
from unrolled.operators.identity import Identity
from unrolled.operators.inpainting import Inpainting
from unrolled.operators.kernels import BoxKernel, GaussianKernel, Kernel, MotionKernel, ShakeKernel
from unrolled.operators.krylov import conjugate_gradient_iterates, conjugate_gradients
from unrolled.operators.largest_singular_value import power_iteration
from unrolled.operators.noise import ComplexGaussianNoise, GaussianNoise, Noise, PoissonNoise, SaltAndPepperNoise
from unrolled.operators.noise_levels import VaryingGaussianNoise
from unrolled.operators.operator import Adjoint, Composition, LinearOperator, Scaled, Sum
from unrolled.operators.operator_draws import DrawnOperator, OneOfOperators, OperatorDraw
from unrolled.operators.photon_noise import PhotonNoise
from unrolled.operators.radon import Radon
from unrolled.operators.sampled_fourier import MaskedFourier, MultiCoilFourier, SampledFourier
from unrolled.operators.sampling import CartesianMask, GaussianMask, RadialMask, SamplingMask, UniformMask
from unrolled.operators.signal_dependent_noise import PoissonGaussianNoise, RicianNoise, SpeckleNoise
from unrolled.operators.stack import Stack

__all__ = [
    "Adjoint",
    "BlockCompressedSensing",
    "Blur",
    "BoxKernel",
    "CartesianMask",
    "CoilMaps",
    "CoilNoise",
    "Coils",
    "ComplexGaussianNoise",
    "Composition",
    "Dense",
    "Diagonal",
    "Downsampling",
    "DrawnOperator",
    "Espirit",
    "FanBeam",
    "FastMRIMask",
    "FromFunctions",
    "GaussianKernel",
    "GaussianMask",
    "GaussianNoise",
    "Identity",
    "Inpainting",
    "Kernel",
    "LinearOperator",
    "LowResolution",
    "MaskedFourier",
    "MotionKernel",
    "MultiCoilFourier",
    "Noise",
    "OneOfOperators",
    "OperatorDraw",
    "PhotonNoise",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "RadialMask",
    "Radon",
    "RicianNoise",
    "SaltAndPepperNoise",
    "SampledFourier",
    "SamplingMask",
    "Scaled",
    "ShakeKernel",
    "SpeckleNoise",
    "Stack",
    "Sum",
    "UniformMask",
    "VaryingGaussianNoise",
    "as_operator",
    "conjugate_gradient_iterates",
    "conjugate_gradients",
    "power_iteration",
    "to_deepinv",
]
