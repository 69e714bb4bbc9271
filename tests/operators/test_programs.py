"""What operators compute otherwise inside of programs that are exported is the same."""

import pytest
import torch

from tests.helpers import picture
from unrolled.operators import BlockCompressedSensing, Blur, Dense, Downsampling, FanBeam, GaussianKernel, Radon
from unrolled.operators.krylov import power_of_two

CASES = {
    "Blur": lambda: Blur(GaussianKernel(1.0, 5), boundary="replicate"),
    "valid Blur": lambda: Blur(torch.rand(3, 4), boundary="valid"),
    "Downsampling": lambda: Downsampling(2),
    "BlockCompressedSensing": lambda: BlockCompressedSensing(ratio=0.3, block=4),
    "Dense": lambda: Dense(torch.randn(40, 192), 12, 16),
    "Radon": lambda: Radon(6, 12, 16, sums="joseph"),
    "FanBeam": lambda: FanBeam(6, 12, 16, source_distance=60.0, sums="joseph"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_the_same_inside_of_a_program(name, monkeypatch):
    torch.manual_seed(0)
    operator = CASES[name]()
    x = torch.stack([picture(12, 16, seed).expand(3, -1, -1) for seed in range(2)])
    y = operator(x)

    def everything():
        solved = operator.solve_exactly(x, torch.full((1, 1, 1, 1), 0.3))
        return [operator(x), operator.adjoint(y), operator.estimate(y), *([] if solved is None else [solved])]

    expected = everything()
    operator.prepare_program()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for found, here in zip(everything(), expected, strict=True):
        torch.testing.assert_close(found, here, rtol=1e-4, atol=1e-5)


def test_powers_of_two_are_the_same_inside_of_a_program(monkeypatch):
    x = torch.tensor([0.0, 1e-30, 0.3, 1.0, 5.0, 3e20]).view(-1, 1)
    expected = power_of_two(x, (1,))
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    found = power_of_two(x, (1,))
    assert ((found == expected) | (2 * found == expected)).all()  # of a power itself they take its half
