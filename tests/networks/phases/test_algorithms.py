"""The laws of the phases of algorithms: with the proximal map of g as the prior, they minimise ½‖Ax − y‖² + g(x)."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers import concrete_subclasses
from tests.networks.laws import double, measured, pictures
from tests.networks.phases.algorithms import CASES, ELSEWHERE, ProximalMap, minimiser, problem
from unrolled.networks import (
    AlgorithmPhase,
    ComposedNetwork,
    DualStep,
    HalfQuadraticPhase,
    Images,
    Measurements,
    Phase,
    PrimalDualPhase,
    Prior,
    ProximalStep,
    ResidualCNN,
)
from unrolled.networks.composed import PARTS
from unrolled.networks.phases.phase import following
from unrolled.networks.presets.fista_net import PhaseNumbers
from unrolled.operators import BlockCompressedSensing, Identity
from unrolled.reconstruction.tiles import in_tiles
from unrolled.system.recipes import build, describe

RANGES = [(0.01, 0.2)]


def named(name: str) -> str:
    return name.partition(",")[0]


def disturbed(phase, strength=0.1):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in phase.parameters():
            parameter.add_(strength * torch.randn_like(parameter))
    return phase


def test_every_phase_of_an_algorithm_is_here():
    assert {named(name) for name in CASES} | ELSEWHERE.keys() >= {
        cls.__name__ for cls in concrete_subclasses(AlgorithmPhase)
    }


@pytest.mark.parametrize("g", ["ridge", "l1"])
@pytest.mark.parametrize("name", CASES)
def test_repeated_it_comes_to_the_minimiser(name, g):
    matrix, operator, y = problem()
    case, prior = CASES[name], ProximalMap(g, 0.05)
    phase = case.make(prior).double()
    assert type(phase).__name__ == named(name)
    coupling = None
    with torch.no_grad():
        prior.c = float(case.prior(phase))
        if case.coupling is not None:
            coupling = float(case.coupling(phase))
        state = phase.begin(torch.zeros(2, 1, 3, 4, dtype=torch.float64), y, operator)
        for _ in range(400):
            state = following(phase, state, y, operator, None)
    expected = minimiser(matrix, y, prior, coupling, case.ends_with)
    if g == "l1":
        assert 0 < (expected == 0).sum() < expected.numel() or case.ends_with == "x"
    torch.testing.assert_close(state[0].flatten(1), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("name", CASES)
def test_it_carries_what_it_says(name, kind):
    operator, x = measured(kind)
    x = torch.cat([x, x.flip(-1)], 1) if kind == "real" else x
    y = operator(x)
    phase = disturbed(CASES[name].make(ResidualCNN(4, 2, complex_images=kind == "complex")))
    state = begun = phase.begin(operator.estimate(y), y, operator)
    for _ in range(2):
        state = following(phase, state, y, operator, None)
    for each in (begun, state):
        assert len(each) == 1 + len(phase.carries)
        for entry, what in zip(each, (Images(), *phase.carries), strict=True):
            like = {Images(): x, Measurements(): y}[what]
            assert (entry.shape, entry.dtype) == (like.shape, like.dtype)


class Listener(Prior):
    """Remembers what it was told."""

    reach = 0

    def __init__(self):
        super().__init__()
        self.heard = []

    def forward(self, z, condition=None):
        self.heard.append(condition)
        return z


@pytest.mark.parametrize("name", CASES)
def test_a_condition_reaches_the_prior_and_the_steps(name):
    _, operator, y = problem()
    listener, told = Listener(), torch.tensor([[0.02], [0.15]], dtype=torch.float64)
    phase = disturbed(CASES[name].make(listener, RANGES).double(), 0.3)
    x = torch.rand(2, 1, 3, 4, dtype=torch.float64)

    def after(which=slice(None), condition=told):
        state = phase.begin(x[which], y[which], operator)
        for _ in range(2):
            state = following(phase, state, y[which], operator, condition[which])
        return state[0]

    found = after()
    assert listener.heard
    assert all(torch.equal(heard, CASES[name].tells(phase, told)) for heard in listener.heard)
    for image in (0, 1):
        torch.testing.assert_close(after(slice(image, image + 1)), found[image : image + 1])
    steps = [
        part.factors for part in phase.modules() if part is not listener and getattr(part, "factors", None) is not None
    ]
    assert steps
    for factors in steps:  # each of them counts
        others = [each for each in steps if each is not factors]
        kept = copy.deepcopy(phase.state_dict())
        for other in others:
            nn.init.zeros_(other.last.weight)
        for image in (0, 1):
            assert (after(condition=told.flip(0)) - after())[image].abs().max() > 1e-6
        phase.load_state_dict(kept)
    with pytest.raises(ValueError, match="condition must be given"):
        phase(phase.begin(x, y, operator), y, operator)


@pytest.mark.parametrize("name", CASES)
def test_it_is_described_and_made_again(name):
    _, operator, y = problem()
    phase = disturbed(CASES[name].make(ResidualCNN(4, 2, ranges=RANGES), RANGES))
    again = build(describe(phase), Phase, *PARTS, PhaseNumbers)
    assert describe(again) == describe(phase)
    again.load_state_dict(phase.state_dict())
    x, told = torch.rand(2, 1, 3, 4), torch.tensor([[0.02], [0.15]])
    operator, y = operator.float(), y.float()
    for one, other in zip(
        phase(phase.begin(x, y, operator), y, operator, told),
        again(again.begin(x, y, operator), y, operator, told),
        strict=True,
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", CASES)
def test_in_tiles_it_gives_the_image_of_the_whole(name):
    network = disturbed(ComposedNetwork(CASES[name].make(ResidualCNN(4, 3)), 3), 0.15)
    operator = BlockCompressedSensing(ratio=0.3, block=4)
    y = operator(pictures(16, 20)[:1])
    if Measurements() in network.phases[0].carries:
        with pytest.raises(ValueError, match="carries measurements, which are of the image as a whole"):
            in_tiles(y, network, operator, 4)
        return
    with torch.no_grad():
        torch.testing.assert_close(in_tiles(y, network, operator, 4), network(y, operator), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.full
@pytest.mark.usefixtures("fresh_compiler")
def test_it_compiles_to_one_graph(name):
    operator, x = measured("real")
    network = disturbed(ComposedNetwork(CASES[name].make(ResidualCNN(4, 2)), 2))
    y = operator(x)
    expected = network(y, operator)
    torch.testing.assert_close(torch.compile(network, fullgraph=True, backend="eager")(y, operator), expected)


# ---- equations, written out by themselves


def begun(phase, kind="real"):
    """Its first two states, and the state after the next phase, in double precision on complex or real images."""
    operator, x = measured(kind)
    phase, operator = disturbed(phase).double(), operator.double()
    y = operator(double(x))
    first = phase.begin(operator.adjoint(y), y, operator)
    second = phase(first, y, operator)
    return first, second, phase(second, y, operator), y, operator


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_equations(name):
    prior = ResidualCNN(4, 2, complex_images=True)
    phase = CASES[name].make(prior)
    first, before, after, y, operator = begun(phase, "complex")
    prior = phase.prior
    x, found = before[0], after[0]

    def grad(x):
        return operator.adjoint(operator(x) - y)

    def nearest(z, weight, x):
        close(operator.gram(x) + weight * x, operator.adjoint(y) + weight * z)

    if name == "ADMMPhase":
        z = prior(x + before[1])
        nearest(z - before[1], phase.data_step.weight(), found)
        close(after[1], before[1] + found - z)
        close(first[1], 0 * y[:, :1].sum() * found)
    elif name == "AcceleratedProximalGradientPhase":
        t = x + phase.gamma * (x - first[0])
        close(found, prior(t - phase.data_step.weight() * grad(t)))
        close(after[1], x)
    elif name == "FISTANetPhase":
        t = x + phase.numbers.momentum(3) * (x - first[0])
        step, threshold = phase.numbers.step_and_threshold(3, None, len(x))
        close(found, prior(t - step * grad(t), threshold))
        close(after[1], x)
    elif name == "ExtraProximalGradientPhase":
        alpha, beta = phase.steps(None)
        assert alpha != beta
        close(found, prior(x - beta * grad(prior(x - alpha * grad(x)))))
    elif name == "HalfQuadraticPhase":
        solved = ProximalStep(1.0).double()
        solved.raw_weight = phase.data_step.raw_weight
        nearest(x, phase.data_step.weight(), solved(x, y, operator))
        close(found, prior(solved(x, y, operator)))
    elif name in ("HalfQuadraticPhase, the data step last", "DataConsistencyPhase"):
        nearest(prior(x), phase.data_step.weight(), found)
    elif name == "PrimalDualPhase":
        sigma, tau, theta = phase.dual_step.weight(), phase.step(None, 1)[0, 0], phase.theta
        h = (before[2] + sigma * (operator((1 + theta) * x - theta * first[0]) - y)) / (1 + sigma)
        close(after[2], h)
        close(found, prior(x - tau * operator.adjoint(h)))
        close(after[1], x)
    elif name == "RelaxedADMMPhase":
        inner = operator.solve(
            operator.adjoint(y) + phase.data_step.weight() * (x - before[1]), phase.data_step.weight()
        )
        nearest(x - before[1], phase.data_step.weight(), inner)
        close(found, prior(inner + before[1]))
        close(after[1], before[1] + F.softplus(phase.raw_relaxation) * (inner - found))
    elif name == "VariationalPhase":
        close(found, prior(x) - phase.data_step.weight() * grad(x))
    else:
        assert name == "ProximalGradientPhase"
        close(found, prior(x - phase.data_step.weight() * grad(x)))


def test_a_level_is_told_in_place_of_the_condition():
    listener, operator = Listener(), Identity()
    x = torch.rand(2, 1, 3, 4)
    phase = HalfQuadraticPhase(listener, level=0.1)
    phase((x,), x, operator, torch.tensor([[0.3], [0.4]]))
    torch.testing.assert_close(listener.heard[-1], torch.full((2, 1), 0.1))
    phase = disturbed(HalfQuadraticPhase(listener, level=0.1, ranges=RANGES))
    told = torch.tensor([[0.02], [0.15]])
    phase((x,), x, operator, told)
    heard = listener.heard[-1]
    torch.testing.assert_close(heard, phase.level(told, 2))
    assert heard[0] != heard[1]
    with pytest.raises(ValueError, match=r"HalfQuadraticPhase: condition must be \(2, 1\)"):
        phase((x,), x, operator, told[:1])


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_numbers_are_positive(value):
    prior = ResidualCNN(4, 2)
    for name, keys in (
        ("AcceleratedProximalGradientPhase", ["momentum"]),
        ("ExtraProximalGradientPhase", ["first_step", "second_step"]),
        ("HalfQuadraticPhase", ["level"]),
        ("PrimalDualPhase", ["step", "extrapolation"]),
    ):
        (cls,) = (cls for cls in concrete_subclasses(AlgorithmPhase) if cls.__name__ == name)
        for key in keys:
            with pytest.raises(ValueError, match=f"{name}: {key} must be a finite number > 0, got"):
                cls(prior, **{key: value})


def test_what_cannot_be_meant_is_refused():
    prior = ResidualCNN(4, 2)
    with pytest.raises(ValueError, match="HalfQuadraticPhase: ends_with must be 'prior' or 'data step', got 'x'"):
        HalfQuadraticPhase(prior, ends_with="x")
    with pytest.raises(ValueError, match="HalfQuadraticPhase: ranges scale level, so level must be given"):
        HalfQuadraticPhase(prior, ranges=RANGES)


def test_steps_of_primal_dual_may_be_told_apart_from_its_dual():
    # A dual step that follows the noise, on measurements that have fewer axes than images.
    _, operator, y = problem()
    phase = disturbed(PrimalDualPhase(ResidualCNN(4, 2), DualStep(0.9, RANGES)).double())
    x, told = torch.rand(2, 1, 3, 4, dtype=torch.float64), torch.tensor([[0.02], [0.15]], dtype=torch.float64)
    assert phase(phase.begin(x, y, operator), y, operator, told)[2].shape == y.shape
