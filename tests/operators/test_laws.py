"""The laws, over the operators that have no file of tests of their own; and that every operator is under them."""

import importlib
from pathlib import Path

import torch

from tests.helpers import concrete_subclasses
from tests.operators.laws import OperatorLaws
from unrolled.operators import (
    Adjoint,
    BlockCompressedSensing,
    Coils,
    Composition,
    Dense,
    LinearOperator,
    MaskedFourier,
    MultiCoilFourier,
    RadialMask,
    Scaled,
    as_operator,
)


def matrix(rows: int, columns: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(rows, columns, dtype=dtype, generator=torch.Generator().manual_seed(1))


def mirror(x):
    return 2 * x.flip(-1)


def blocks(**options):
    return lambda: (BlockCompressedSensing(**options).double(), (2, 3, 2 * options.get("block", 33), 33))


class TestBlockCompressedSensing(OperatorLaws):
    operator_class = BlockCompressedSensing
    compiled = ("learned", "small")
    cases = {
        "drawn": blocks(ratio=0.1),
        "learned": blocks(ratio=0.04, learned=True),
        "small": blocks(measurements=5, block=3),
        "own matrix": blocks(matrix=matrix(4, 9), block=3),
    }


class TestDense(OperatorLaws):
    operator_class = Dense
    cases = {
        "real": lambda: (Dense(matrix(7, 30), 5, 6).double(), (2, 2, 5, 6)),
        "complex": lambda: (Dense(matrix(7, 30, torch.complex128), 5, 6).double(), (2, 2, 5, 6)),
    }


class TestAdjoint(OperatorLaws):
    operator_class = Adjoint
    cases = {
        "of blocks": lambda: (BlockCompressedSensing(measurements=5, block=3).double().H, (2, 3, 5, 2, 2)),
        "of complex measurements": lambda: (MaskedFourier(RadialMask(0.5), 5, 6).double().H, (2, 3, 5, 6)),
        "of coils": lambda: (MultiCoilFourier(Coils(2), RadialMask(0.5), 5, 4).double().H, (2, 1, 2, 5, 4)),
    }


class TestComposition(OperatorLaws):
    operator_class = Composition
    norm_slack = 1.6
    cases = {
        "blocks of a mirror": lambda: (
            BlockCompressedSensing(ratio=0.5, block=2).double() @ as_operator((mirror, mirror), (1, 4, 6)),
            (2, 1, 4, 6),
        )
    }


class TestScaled(OperatorLaws):
    operator_class = Scaled
    cases = {
        "multiple": lambda: (-3 * BlockCompressedSensing(measurements=5, block=3).double(), (2, 3, 6, 3)),
        "normalized": lambda: (Dense(matrix(7, 30), 5, 6).double().normalized(), (2, 2, 5, 6)),
    }


def every_law() -> list[type[OperatorLaws]]:
    """The test cases that inherit the laws."""
    for path in Path(__file__).parent.glob("test_*.py"):
        importlib.import_module(f"tests.operators.{path.stem}")
    return sorted(OperatorLaws.__subclasses__(), key=lambda law: law.__name__)


def test_every_operator_has_laws():
    assert {law.operator_class for law in every_law()} == set(concrete_subclasses(LinearOperator))
