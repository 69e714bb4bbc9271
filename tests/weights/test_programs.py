"""What only the user's program can make: functions and modules, and classes of its own."""

import pytest
import torch

import unrolled
from tests.weights.cases import OPERATORS, numbers
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing, Dense, LinearOperator, Stack, as_operator


class Gain(torch.nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))

    def forward(self, x):
        return self.gain * x


class Turned(LinearOperator):
    """A user's class, whose argument is a function."""

    def __init__(self, turn):
        super().__init__()
        self.turn, self.image_shape = turn, (0, 10, 10)

    def forward(self, x):
        return self.turn(x)

    def adjoint(self, y):
        return self.turn(y)


MADE_BY_PROGRAMS = {
    "pair": lambda gain: as_operator((lambda x: x.flip(-1), lambda y: y.flip(-1)), (1, 10, 10)),
    "module": lambda gain: as_operator(Gain(gain), (1, 10, 10)),
    "scaled": lambda gain: 2 * as_operator(Gain(gain), (1, 10, 10)),
    "composition": lambda gain: Dense(numbers(9, 100), 10, 10) @ as_operator(Gain(gain), (1, 10, 10)),
    "stack": lambda gain: Stack([OPERATORS["own mask"](), as_operator(Gain(gain), (1, 10, 10))], (1, 10, 10)),
    "methods of an operator": lambda gain: as_operator(
        (OPERATORS["own mask"](), OPERATORS["own mask"]().adjoint), (1, 10, 10)
    ),
    "own class": lambda gain: 3 * Turned(lambda x: x.flip(-1)),
}


@pytest.mark.parametrize("name", MADE_BY_PROGRAMS)
def test_operators_that_only_a_program_can_make_are_taken_from_it(tmp_path, name):
    path, make = tmp_path / "w.safetensors", MADE_BY_PROGRAMS[name]
    network, operator = EPGN(1, 2), make(3.0)
    unrolled.save(path, network, operator)
    with pytest.raises(ValueError, match=r"an operator that only your program can make: load\(…, operator=…\)"):
        unrolled.load(path)
    mine, x = make(5.0), numbers(1, 1, 10, 10)
    network2, operator2 = unrolled.load(path, operator=mine)
    assert operator2 is mine
    assert torch.equal(operator2(x), operator(x))  # with what it had learned
    torch.testing.assert_close(network2(operator2(x), operator2), network(operator(x), operator))
    with pytest.raises(ValueError, match=r"(?s)does not fit its own card.*operator"):
        unrolled.load(path, operator=BlockCompressedSensing(ratio=0.2, block=5, learned=True))
