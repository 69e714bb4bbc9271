"""Linear measurement operators A: images in, measurements out, with exact adjoints."""

from unrolled.operators.block_compressed_sensing import BlockCompressedSensing
from unrolled.operators.dense import Dense
from unrolled.operators.operator import Adjoint, Composition, LinearOperator, Scaled, as_operator, power_iteration

__all__ = [
    "Adjoint",
    "BlockCompressedSensing",
    "Composition",
    "Dense",
    "LinearOperator",
    "Scaled",
    "as_operator",
    "power_iteration",
]
