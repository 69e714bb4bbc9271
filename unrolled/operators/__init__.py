"""Linear measurement operators A: images in, measurements out, with exact adjoints."""

from unrolled.operators.block_compressed_sensing import BlockCompressedSensing
from unrolled.operators.dense import Dense
from unrolled.operators.operator import Adjoint, Composition, LinearOperator, as_operator

__all__ = ["Adjoint", "BlockCompressedSensing", "Composition", "Dense", "LinearOperator", "as_operator"]
