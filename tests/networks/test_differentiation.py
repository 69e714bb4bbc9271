"""The three ways through the phases: one image, one gradient, less memory. The laws compare them on every network."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers import concrete_subclasses, picture
from unrolled.networks import (
    EPGN,
    Differentiation,
    FeatureMaps,
    Images,
    Implicit,
    Measurements,
    Phase,
    Recompute,
    Unroll,
    UnrolledNetwork,
    gradient,
)
from unrolled.operators import BlockCompressedSensing, Identity
from unrolled.penalties import Penalty
from unrolled.system.compilation import Compiled
from unrolled.system.recipes import build, describe


class Step(Phase):
    """A gradient step and a small map, with a drop-out on request."""

    reach = 2

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Dropout(dropout), nn.Conv2d(4, 1, 3, padding=1)
        )

    def forward(self, state, y, operator, condition=None):
        (x,) = state
        return (self.layers(x - gradient(x, y, operator)),)


class Steps(UnrolledNetwork):
    def __init__(self, phases=3, shared=False, differentiation=None, dropout=0.0):
        made = [Step(dropout) for _ in range(1 if shared else phases)]
        super().__init__(made, phases if shared else 1, differentiation)


class Coupled(Phase):
    """z ← M z + c for a state of an image, another one, coarse maps and measurements, in one linear map."""

    carries = (Images(), FeatureMaps(2), Measurements())

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(15, 15) / 8)  # of images of 2×2 pixels

    def begin(self, x, y, operator):
        return x, 2 * x, x.new_ones(len(x), 3, 1, 1), torch.zeros_like(y)

    def forward(self, state, y, operator, condition=None):
        sizes = [entry[0].numel() for entry in state]
        z = torch.cat([entry.flatten(1) for entry in state], dim=1)
        fixed = torch.cat([y.flatten(1), torch.zeros_like(z[:, y[0].numel() :])], dim=1)
        parts = (fixed + z @ self.matrix.T).split(sizes, dim=1)
        return tuple(part.view(entry.shape) for part, entry in zip(parts, state, strict=True))


class CoupledNet(UnrolledNetwork):
    def __init__(self, phases, differentiation=None):
        super().__init__([Coupled()], phases, differentiation)


def test_implicit_finds_the_gradient_of_a_fixed_point_of_any_state():
    torch.manual_seed(0)
    network = CoupledNet(200, Implicit(iterations=300, tolerance=1e-14)).double()
    matrix, y = network.phases[0].matrix, torch.rand(2, 1, 2, 2, dtype=torch.float64)
    found = network(y, Identity())
    (implicit,) = torch.autograd.grad(found.square().sum(), matrix)
    c = torch.cat([y.flatten(1), y.new_zeros(2, 11)], dim=1)
    exact = torch.linalg.solve(torch.eye(15, dtype=torch.float64) - matrix, c.T).T[:, :4]
    torch.testing.assert_close(found, exact.view(y.shape))
    (expected,) = torch.autograd.grad(exact.square().sum(), matrix)
    torch.testing.assert_close(implicit, expected, rtol=1e-8, atol=1e-10)


class Growing(Coupled):
    def forward(self, state, y, operator, condition=None):
        return *super().forward(state, y, operator, condition), state[0]


class Whole(Coupled):
    def begin(self, x, y, operator):
        return *super().begin(x, y, operator)[:3], torch.zeros(y.shape, dtype=torch.long)


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        (Growing, r"Growing: must return a state like the one that it is given, .*"),
        (
            Whole,
            r"Implicit: .* made of real or complex tensors, but the phases carry torch.int64 as entry 3 of their state",
        ),
    ],
)
def test_states_without_a_fixed_point_are_refused(phase, message):
    class Net(UnrolledNetwork):
        def __init__(self):
            super().__init__([phase()], differentiation=Implicit())

    with pytest.raises(ValueError, match=message):
        Net()(torch.rand(2, 1, 2, 2), Identity())


class OwnNoise(nn.Module):
    """Noise from generators that it holds, of torch and of NumPy."""

    def __init__(self):
        super().__init__()
        self.torch, self.numpy = torch.Generator().manual_seed(3), np.random.default_rng(3)

    def forward(self, x):
        return x * torch.rand(x.shape, generator=self.torch, dtype=x.dtype) * float(self.numpy.random())


class ForeignNoise(nn.Module):
    """Noise from the global generators of NumPy and of Python."""

    def forward(self, x):
        return x * float(np.random.rand()) * random.random()  # noqa: NPY002


class Iterated(nn.Module):
    """A weight that is divided by its norm, one step of whose iteration is made in each call."""

    def __init__(self):
        super().__init__()
        self.layer = nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1))

    def forward(self, x):
        return self.layer(x)


RANDOM = {"dropout": lambda: nn.Dropout(0.5), "rrelu": nn.RReLU, "own": OwnNoise, "foreign": ForeignNoise}
CHANGING = {**RANDOM, "batch norm": lambda: nn.BatchNorm2d(4), "spectral norm": Iterated}


class Living(Step):
    """A phase with something in it that is another one at each call."""

    def __init__(self, kind):
        super().__init__()
        self.layers[2] = CHANGING[kind]()


def trained(kind, differentiation, shared, half=False):
    """The gradients of a loss that is gone back twice, the buffers, and a random number drawn afterwards."""

    class Net(UnrolledNetwork):
        def __init__(self):
            super().__init__([Living(kind) for _ in range(1 if shared else 3)], 3 if shared else 1, differentiation)

    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(0)
    network, operator = Net().to(torch.float32 if half else torch.float64), 0.5 * Identity()
    y = torch.rand(2, 1, 6, 6, dtype=torch.float32 if half else torch.float64)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = network(y, operator).square().mean() + network(2 * y, operator).square().mean()
    parameters = list(network.parameters())
    gradients = [*torch.autograd.grad(loss, parameters, retain_graph=True), *torch.autograd.grad(loss, parameters)]
    after = [torch.rand(1), torch.tensor(random.random()), torch.tensor(np.random.rand())]  # noqa: NPY002
    return [*gradients, *network.buffers(), *after]


@pytest.mark.parametrize("kind", CHANGING)
@pytest.mark.parametrize(("every", "shared", "half"), [(1, False, False), (2, True, False), (1, False, True)])
def test_recomputing_is_unrolling_bit_for_bit_whatever_is_drawn_and_counted(kind, every, shared, half):
    wanted, found = (trained(kind, how, shared, half) for how in (Unroll(), Recompute(every)))
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", RANDOM)
def test_there_is_no_fixed_point_of_phases_that_draw(kind):
    with pytest.raises(ValueError, match="Implicit: phases that draw random numbers, as dropout does, have no fixed"):
        trained(kind, Implicit(), shared=True)


@pytest.mark.parametrize("differentiation", [Recompute(), Implicit()], ids=str)
def test_what_is_kept_for_the_backward_pass_does_not_grow_with_the_phases(differentiation):
    def kept(phases, how):
        network = EPGN(phases, features=2, shared=True, differentiation=how)
        operator, x = BlockCompressedSensing(measurements=60, block=11), picture(22, 11).unsqueeze(0)
        sizes = []

        def pack(tensor):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(operator(x), operator)
        return sum(sizes)

    assert kept(12, Unroll()) > 3 * kept(3, Unroll())
    per_phase = (kept(12, differentiation) - kept(3, differentiation)) / 9
    assert per_phase < 0.15 * (kept(12, Unroll()) - kept(3, Unroll())) / 9


@pytest.mark.parametrize("how", [Recompute(2), Implicit(iterations=7)], ids=str)
def test_the_image_is_the_same_and_the_recipe_remembers_the_way(how):
    torch.manual_seed(0)
    operator = BlockCompressedSensing(measurements=60, block=11)
    y = operator(picture(22, 11).unsqueeze(0))
    network, unrolled = (EPGN(4, features=2, shared=True, differentiation=way) for way in (how, Unroll()))
    unrolled.load_state_dict(network.state_dict())
    expected = unrolled(y, operator)
    assert torch.equal(network(y, operator), expected)
    with torch.no_grad():
        assert torch.equal(network(y, operator), expected)
    again = build(describe(network), UnrolledNetwork, Penalty, Differentiation)
    assert again.differentiation == how


@pytest.mark.parametrize("cls", concrete_subclasses(Differentiation))
@pytest.mark.usefixtures("fresh_compiler")
def test_every_way_compiles_to_one_graph(cls):
    torch.manual_seed(0)
    network, operator, y = Steps(2, shared=True, differentiation=cls()), Identity(), torch.rand(1, 1, 8, 8)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    if cls is Implicit:  # its backward pass iterates until the gradient has converged, which is no graph
        with torch.no_grad():
            torch.testing.assert_close(compiled(y, operator), network(y, operator))
            network.differentiation = Implicit(memory=2)
            torch.testing.assert_close(compiled(y, operator), network(y, operator))
        with pytest.warns(
            UserWarning, match="The loss cannot be compiled and runs without.*does not compile with grad"
        ):
            assert Compiled(network, "The loss")(y, operator).requires_grad
        return
    image, expected = compiled(y, operator), network(y, operator)
    torch.testing.assert_close(image, expected)
    torch.testing.assert_close(
        torch.autograd.grad(image.square().sum(), list(network.parameters())),
        torch.autograd.grad(expected.square().sum(), list(network.parameters())),
    )


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match="every must be a whole number in 1 … 10,000, got 0"):
        Recompute(0)
    with pytest.raises(ValueError, match="iterations must be"):
        Implicit(iterations=2.5)
    with pytest.raises(ValueError, match="tolerance must be"):
        Implicit(tolerance=0.0)
    with pytest.raises(ValueError, match="needs shared=True"):
        EPGN(phases=3, differentiation=Implicit())
