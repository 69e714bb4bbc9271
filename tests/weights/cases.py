"""Networks and operators to save, for the tests of weights."""

import torch

from unrolled.networks import EPGN, ISTANetPlus
from unrolled.operators import (
    BlockCompressedSensing,
    Coils,
    Dense,
    Identity,
    MaskedFourier,
    MultiCoilFourier,
    Stack,
    UniformMask,
)
from unrolled.penalties import MCP

PAIRS = {
    "drawn matrix": lambda: (EPGN(1, 2, penalty=MCP(1.5, 2.0)), BlockCompressedSensing(ratio=0.2, block=5, seed=4)),
    "learned matrix": lambda: (ISTANetPlus(1, 2), BlockCompressedSensing(ratio=0.2, block=5, learned=True)),
    "own matrix": lambda: (EPGN(1, 2), BlockCompressedSensing(matrix=torch.rand(4, 25), block=5)),
    "dense": lambda: (EPGN(1, 2, nonlocal_window=5), Dense(torch.rand(9, 100), 10, 10)),
}


def numbers(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


OPERATORS = {
    "own mask": lambda: MaskedFourier((numbers(10, 10) > 0).float(), centered=True),
    "drawn mask": lambda: MaskedFourier(UniformMask(0.4, seed=3), 10, 10),
    "own maps, own mask": lambda: MultiCoilFourier(
        numbers(3, 10, 10, dtype=torch.complex64), numbers(10, 10).sign() > 0
    ),
    "own maps, drawn mask": lambda: MultiCoilFourier(numbers(3, 10, 10, dtype=torch.complex64), UniformMask(0.4)),
    "maps and masks of each image": lambda: MultiCoilFourier(
        numbers(2, 3, 10, 10, dtype=torch.complex64), numbers(2, 1, 10, 10).sign() > 0
    ),
    "coils, own mask": lambda: MultiCoilFourier(Coils(3), (numbers(10, 10) > 0).float(), complex_images=False),
    "coils, drawn mask": lambda: MultiCoilFourier(Coils(3, 2.0), UniformMask(0.4), 10, 10),
    "scaled": lambda: Dense(numbers(9, 100), 10, 10).normalized(),
    "scaled twice": lambda: 2 * (3 * Dense(numbers(9, 100), 10, 10)),
    "composition": lambda: (
        Dense(numbers(9, 100), 10, 10) @ (0.5 * OPERATORS["own blocks"]()).H @ OPERATORS["own blocks"]()
    ),
    "own blocks": lambda: BlockCompressedSensing(matrix=numbers(4, 25), block=5),
    "learned blocks, scaled": lambda: 2 * BlockCompressedSensing(ratio=0.2, block=5, learned=True),
    "drawn blocks, scaled": lambda: 2 * BlockCompressedSensing(ratio=0.2, block=5, seed=4),
    "sum": lambda: Dense(numbers(9, 100), 10, 10) + 2 * Dense(numbers(9, 100, seed=1), 10, 10),
    "stack": lambda: Stack(
        [Identity(), 2 * Dense(numbers(9, 100), 10, 10), OPERATORS["own mask"](), OPERATORS["drawn mask"]()],
        (1, 10, 10),
    ),
}
