"""Variable splitting on the model of its theory, one hidden layer without overlap, and one case at a time.

benchmarks/papers/theory_runs.py does many at once.
"""

import math

import pytest
import torch
from torch import nn

from benchmarks.papers.one_layer import angle, binary_loss, relu_gradient, relu_loss, step_gradient, teachers, unit
from tests.pairs import FULL, first_of, in_turn
from unrolled.penalties import L0, L1, TransformedL1
from unrolled.sparsify import Constant, VariableSplitting

D, K = 50, 20


def teacher(seed: int, d: int = D, nonzeros: int = 10):
    return teachers(1, d, nonzeros, seed)[0]


def layer_of(w) -> nn.Linear:
    layer = nn.Linear(len(w), 1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(w)
    return layer


def descend(layer, sparsifier, gradient, steps, rate, normed=True):
    optimizer = torch.optim.SGD(layer.parameters(), lr=rate)
    w = layer.weight
    for _ in range(steps):
        optimizer.zero_grad()
        (sparsifier.loss() + (gradient(w.detach().flatten()) @ w.flatten())).backward()
        optimizer.step()
        if normed:
            with torch.no_grad():
                w /= w.norm()
        sparsifier.step(optimizer)
    return w.detach().flatten().clone(), sparsifier.sparse_weights()["weight"].flatten()


def test_population_losses_and_the_gradient_of_one_are_those_of_samples():
    generator = torch.Generator().manual_seed(0)
    k, d = 3, 4
    w, v = torch.randn(2, d, generator=generator, dtype=torch.float64).unbind()
    w.requires_grad_()
    (slope,) = torch.autograd.grad(relu_loss(w, v, k), w)
    torch.testing.assert_close(slope, relu_gradient(w, v, k).detach())
    x = torch.randn(200_000, k, d, generator=generator, dtype=torch.float64)
    for act, loss, factor in [(torch.relu, relu_loss, 1), (lambda z: (z > 0).double(), binary_loss, 0.5)]:
        squares = factor * (act(x @ w.detach()) - act(x @ v)).mean(1).square()
        error = squares.std() / math.sqrt(len(x))
        assert abs(squares.mean() - loss(w.detach(), v, k)) < 4 * error < 0.05 * squares.mean()


@pytest.mark.parametrize(
    ("penalty", "gradient"), in_turn([L1(), L0(), TransformedL1()], [relu_gradient, step_gradient], 1, FULL)
)
def test_it_arrives_at_the_fixed_point_with_the_support_of_the_teacher(penalty, gradient):
    v = teacher(seed=3)
    layer = layer_of(unit(v + 0.5 * teacher(seed=4, nonzeros=D)))
    beta = 4e-3
    sparsifier = VariableSplitting(layer, penalty, 1e-4, beta=beta, beta_schedule=Constant())
    w, u = descend(layer, sparsifier, lambda w: gradient(w, v, K), 250, 10.0)
    theta = angle(w, v)
    pull = (math.pi - theta) / (math.pi * K) if gradient is relu_gradient else 1 / (2 * math.sqrt(2 * math.pi) * K)
    fixed = pull * v + beta * penalty.prox(w, 1e-4 / beta)
    assert (fixed / fixed.norm() - w).norm() < 1e-6
    assert 0 < theta < 0.2
    assert u.count_nonzero() >= 1
    assert not (u != 0)[v == 0].any()
    sparsifier.finalize()
    assert torch.equal(layer.weight.detach().flatten(), u)


@pytest.mark.parametrize("penalty", first_of([L0(), L1(), TransformedL1()]), ids=str)
def test_the_augmented_lagrangian_falls_for_small_steps_and_only_for_those(penalty):
    v = teacher(seed=1, d=8, nonzeros=3)
    start = v + 0.7 * teacher(seed=2, d=8, nonzeros=8)
    beta, strength = 0.5, 0.02

    def values(rate, steps):
        layer = layer_of(start)
        sparsifier = VariableSplitting(layer, penalty, strength, beta=beta, beta_schedule=Constant())
        found, curvature = [], 0.0
        for _ in range(steps):
            w = layer.weight.detach().flatten()
            hessian = torch.func.jacrev(lambda w: relu_gradient(w, v, K))(w)
            curvature = max(curvature, torch.linalg.matrix_norm(hessian, 2).item())
            found.append(sparsifier.lagrangian(relu_loss(w, v, K).item()))
            descend(layer, sparsifier, lambda w: relu_gradient(w, v, K), 1, rate, normed=False)
        return torch.tensor(found), curvature

    lipschitz = values(0.1, 50)[1]
    falling, curvature = values(1.9 / (beta + lipschitz), 100)
    assert curvature < 1.05 * lipschitz  # so that the step is one that the theory allows
    assert (falling[1:].diff() < 1e-13).all()  # before the first step there is no u yet
    assert falling[-1] < 0.9 * falling[1]
    rising, _ = values(8 / (beta + lipschitz), 20)
    assert rising.diff().max() > 0.01
