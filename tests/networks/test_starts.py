"""What every start must do, and conjugate gradients against a dense solve."""

import pytest
import torch

from tests.helpers import concrete_subclasses, picture
from unrolled.cli.train import parser
from unrolled.networks import (
    EPGN,
    AdjointStart,
    BlockStart,
    ConjugateGradientStart,
    ISTANetPlus,
    LearnedStart,
    LinearStart,
    Start,
    ZeroStart,
)
from unrolled.operators import (
    BlockCompressedSensing,
    Coils,
    Dense,
    LinearOperator,
    MaskedFourier,
    MultiCoilFourier,
    RadialMask,
)
from unrolled.reconstruction.tiles import in_tiles
from unrolled.system.recipes import build, describe

STARTS = {
    "linear": LinearStart,
    "adjoint": AdjointStart,
    "zero": ZeroStart,
    "conjugate gradients": lambda: ConjugateGradientStart(60, ridge=0.1),  # converged, and so linear
}
OPERATORS = {
    "blocks": lambda: BlockCompressedSensing(ratio=0.5, block=3),
    "dense": lambda: Dense(torch.randn(20, 54, generator=torch.Generator().manual_seed(0)) / 8, 6, 9),
    "Fourier, real": lambda: MaskedFourier(RadialMask(0.5), 6, 9),
    "Fourier, complex": lambda: MaskedFourier(RadialMask(0.5), 6, 9, complex_images=True),
    "coils": lambda: MultiCoilFourier(Coils(3), RadialMask(0.5), 6, 9),
}


def measured(operator, seed=0, channels=1):
    kind = torch.complex128 if operator.complex_images else torch.float64
    return operator(torch.randn(2, channels, 6, 9, dtype=kind, generator=torch.Generator().manual_seed(seed)))


def test_every_start_is_tested():
    elsewhere = {LearnedStart, BlockStart}  # which is not linear; which is of a matrix, with the weights of others
    assert {type(make()) for make in STARTS.values()} | elsewhere == set(concrete_subclasses(Start))


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", STARTS)
def test_laws(name, operator):
    start, operator = STARTS[name]().double(), OPERATORS[operator]().double()
    y, other = measured(operator), measured(operator, 1)
    x = start(y, operator)
    assert x.shape == (2, 1, 6, 9)
    assert x.dtype == (torch.complex128 if operator.complex_images else torch.float64)
    torch.testing.assert_close(start(2 * y - 3 * other, operator), 2 * x - 3 * start(other, operator))
    assert torch.equal(start(0 * y, operator), 0 * x)
    torch.testing.assert_close(start(y[1:], operator), x[1:])
    again = build(describe(start), Start)
    again.load_state_dict(start.state_dict())
    torch.testing.assert_close(again.double()(y, operator), x)


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.usefixtures("fresh_compiler")
def test_compiles_to_one_graph_and_stays_in_full_precision(name):
    start, operator = STARTS[name](), OPERATORS["coils"]()
    y = measured(operator).to(torch.complex64)
    expected = start(y, operator)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(start(y, operator), expected)
    if isinstance(start, ConjugateGradientStart):
        start = ConjugateGradientStart(2)
        expected = start(y, operator)
    torch.testing.assert_close(torch.compile(start, fullgraph=True, backend="aot_eager")(y, operator), expected)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("operator", OPERATORS)
def test_conjugate_gradients_come_to_the_solution_of_the_normal_equations(operator, ridge, channels):
    operator = OPERATORS[operator]().double()
    y = measured(operator, channels=channels)
    found = ConjugateGradientStart(60, ridge)(y, operator)
    # Images as vectors of real numbers, complex ones of twice as many.
    kind = torch.complex128 if operator.complex_images else torch.float64

    def vector(x):
        return (torch.view_as_real(x) if x.is_complex() else x).flatten()

    units = torch.eye(54, dtype=kind).view(54, 1, 6, 9)
    units = torch.cat([units, 1j * units]) if operator.complex_images else units
    A = torch.stack([vector(operator(unit[None])) for unit in units], dim=1)
    for image in range(2):
        for channel in range(channels):
            right = A.T @ vector(y[image : image + 1, channel : channel + 1])
            solved = torch.linalg.pinv(A.T @ A + ridge * torch.eye(A.shape[1], dtype=A.dtype), rtol=1e-10) @ right
            one = found[image, channel].flatten()
            expected = torch.complex(solved[:54], solved[54:]) if operator.complex_images else solved
            torch.testing.assert_close(one, expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("unit", [2.0**-30, 2.0**30])
def test_a_start_by_conjugate_gradients_has_the_units_of_the_operator(unit):
    operator = OPERATORS["dense"]()
    y = measured(operator).float()
    found = ConjugateGradientStart(10)(y, Dense(unit * operator.matrix, 6, 9))
    assert torch.equal(unit * found, ConjugateGradientStart(10)(y, operator))


def test_each_step_is_the_best_in_its_krylov_space():
    operator = OPERATORS["dense"]().double()
    y = measured(operator)[:1]
    columns = [operator.adjoint(y)]
    for iterations in range(1, 5):
        found = ConjugateGradientStart(iterations)(y, operator)
        basis = torch.linalg.qr(torch.stack([column.flatten() for column in columns], dim=1))[0]
        measured_basis = torch.stack([operator(b.view(1, 1, 6, 9)).flatten() for b in basis.T], dim=1)
        best = basis @ torch.linalg.lstsq(measured_basis, y.flatten()).solution
        torch.testing.assert_close(found.flatten(), best)
        columns.append(operator.gram(columns[-1] / columns[-1].norm()))


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_single_precision_does_not_drift_when_it_has_converged(operator, ridge):
    operator = OPERATORS[operator]()
    exact = ConjugateGradientStart(100, ridge)(measured(operator.double()), operator)
    operator = operator.float()
    y = measured(operator)
    y = y.to(torch.complex64 if y.is_complex() else torch.float32)
    for iterations in (40, 300):
        found = ConjugateGradientStart(iterations, ridge)(y, operator)
        assert (found - exact).norm() < 1e-3 * exact.norm()


@pytest.mark.parametrize("operator", ["dense", "coils"])
def test_gradients_equal_finite_differences_also_where_nothing_is_left_to_do(operator):
    operator = OPERATORS[operator]().double()
    start, y = ConjugateGradientStart(4, 0.1), measured(operator)[:1].requires_grad_()
    torch.autograd.gradcheck(lambda y: start(y, operator), (y,), fast_mode=True)
    for image in (torch.zeros_like(y), y):
        image = image.detach().requires_grad_()
        x = ConjugateGradientStart(100, 0.1)(image, operator)
        (gradient,) = torch.autograd.grad(x.abs().sum(), image)
        assert torch.isfinite(torch.view_as_real(gradient) if gradient.is_complex() else gradient).all()


def test_the_linear_start_knows_measurements_in_other_units():
    operator = BlockCompressedSensing(ratio=0.5, block=11)
    x = picture(22, 33).unsqueeze(0)
    scaled: LinearOperator = 3.0 * operator
    torch.testing.assert_close(LinearStart()(scaled(x), scaled), LinearStart()(operator(x), operator))


def test_the_linear_start_is_the_estimate_of_other_operators():
    class Better(Dense):
        def estimate(self, y):
            return 2 * self.adjoint(y)

    operator = Better(torch.eye(54), 6, 9).double()
    y = measured(operator)
    assert torch.equal(LinearStart()(y, operator), 2 * operator.adjoint(y))


@pytest.mark.parametrize("name", STARTS)
def test_tiles_start_as_the_whole(name):
    torch.manual_seed(0)
    network, operator = EPGN(2, 4, start=STARTS[name]()), BlockCompressedSensing(ratio=0.5, block=11)
    y = operator(torch.stack([picture(44, 66, seed) for seed in range(2)]))
    with torch.no_grad():
        torch.testing.assert_close(in_tiles(y, network, operator, 22), network(y, operator), atol=1e-5, rtol=0)


def test_a_command_line_names_a_start():
    made = parser()
    for said, kind in ((["=AdjointStart"], AdjointStart), (["=unrolled.networks.LinearStart"], LinearStart)):
        argv = [f"--network.start{value}" for value in said]
        config = made.parse_args(["--network=EPGN", *argv, "--operator=BlockCompressedSensing", "--operator.ratio=0.5",
                                  "--training.steps=1"])  # fmt: skip
        assert type(made.instantiate(config).network.start) is kind
    config = made.parse_args(
        ["--network=ISTANetPlus", "--network.start=ConjugateGradientStart", "--network.start.iterations=3",
         "--network.start.ridge=0.1", "--operator=MaskedFourier", "--operator.mask=RadialMask", "--training.steps=1",
         "--operator.mask.ratio=0.5", "--operator.height=16", "--operator.width=16"]
    )  # fmt: skip
    network = made.instantiate(config).network
    assert isinstance(network, ISTANetPlus)
    assert (network.start.iterations, network.start.ridge) == (3, 0.1)


def test_bad_arguments_are_refused_by_name():
    for iterations in (0, 10_001, 2.5, True):
        with pytest.raises(ValueError, match="ConjugateGradientStart: iterations must be a whole number"):
            ConjugateGradientStart(iterations)
    for ridge in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="ConjugateGradientStart: ridge must be a finite number >= 0"):
            ConjugateGradientStart(ridge=ridge)


def test_a_start_by_conjugate_gradients_shows_its_numbers():
    assert str(ConjugateGradientStart(7, 0.01)) == "ConjugateGradientStart(iterations=7, ridge=0.01)"
