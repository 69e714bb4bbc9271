"""The step of an optimiser against what it does to a parameter."""

import pytest
import torch
from torch import nn
from torch.optim import (
    ASGD,
    LBFGS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
    SparseAdam,
)

from unrolled.sparsify.machinery.optimizer_metric import groups_of, step_of

GRADIENT = torch.tensor([0.3, -2.0, 1e-3, 0.7], dtype=torch.float64)

# What moves by exactly step·g from the first step on, for a gradient that stays the same.
AT_ONCE = {
    "SGD": (SGD, {}),
    "Adam": (Adam, {}),
    "Adam, eps": (Adam, {"eps": 0.1}),
    "amsgrad": (Adam, {"amsgrad": True}),
    "foreach": (Adam, {"foreach": True}),
    "fused": (Adam, {"fused": True}),
    "AdamW": (AdamW, {"weight_decay": 0.0}),
    "Adamax": (Adamax, {}),
    "Adagrad": (Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.3}),
    "RMSprop": (RMSprop, {}),
    "RMSprop, centered": (RMSprop, {"centered": True}),
    "RAdam": (RAdam, {}),
}
# What needs a while until its momentum is full, and how exact it is then.
IN_THE_END = {
    "momentum": (SGD, {"momentum": 0.9}, 1e-9),
    "nesterov": (SGD, {"momentum": 0.9, "nesterov": True}, 1e-9),
    "dampening": (SGD, {"momentum": 0.9, "dampening": 0.4}, 1e-9),
    "RMSprop, momentum": (RMSprop, {"momentum": 0.8}, 1e-2),
    "RAdam, rectified": (RAdam, {}, 1e-9),
    "NAdam": (NAdam, {}, 1e-2),
    "Adadelta": (Adadelta, {}, 1e-2),
    "ASGD": (ASGD, {"lambd": 0.0}, 1e-3),
}


def moved(kind, options, steps, rate=0.01):
    """Of the last step what the parameter did, and what the step of the optimiser says."""
    parameter = nn.Parameter(torch.ones(4, dtype=torch.float64))
    optimizer = kind([parameter], lr=rate, **options)
    for _ in range(steps):
        before = parameter.detach().clone()
        parameter.grad = GRADIENT.clone()
        optimizer.step()
    return parameter.detach() - before, step_of(optimizer, parameter, groups_of(optimizer)[id(parameter)])


@pytest.mark.parametrize("name", AT_ONCE)
@pytest.mark.parametrize("steps", [1, 4])
def test_a_constant_gradient_moves_a_weight_by_the_step(name, steps):
    change, step = moved(*AT_ONCE[name], steps)
    torch.testing.assert_close(change, -step * GRADIENT, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", IN_THE_END)
def test_with_momentum_it_does_so_in_the_end(name):
    kind, options, tolerance = IN_THE_END[name]
    change, step = moved(kind, options, 400)
    torch.testing.assert_close(change, -step * GRADIENT, rtol=tolerance, atol=1e-12)


def test_a_learning_rate_may_be_a_tensor():
    change, step = moved(Adam, {}, 3, rate=torch.tensor(0.01))
    torch.testing.assert_close(change, -step * GRADIENT, rtol=1e-6, atol=1e-12)


def test_rows_that_sparse_adam_has_not_seen_have_its_learning_rate():
    embedding = nn.Embedding(3, 2, sparse=True)
    optimizer = SparseAdam(embedding.parameters(), lr=0.01)
    before = embedding.weight.detach().clone()
    embedding(torch.tensor([1])).sum().backward()
    optimizer.step()
    step = step_of(optimizer, embedding.weight, groups_of(optimizer)[id(embedding.weight)])
    torch.testing.assert_close((before - embedding.weight.detach())[1], step[1])  # the gradient is 1
    assert step[[0, 2]].tolist() == [[pytest.approx(0.01)] * 2] * 2


def test_numbers_of_few_digits_have_a_finite_step():
    parameter = nn.Parameter(torch.ones(2, dtype=torch.float16))
    optimizer = RMSprop([parameter], lr=0.01)
    parameter.grad = torch.tensor([0.0, 1.0], dtype=torch.float16)
    optimizer.step()
    step = step_of(optimizer, parameter, optimizer.param_groups[0])
    torch.testing.assert_close(step, torch.tensor([0.01 / 1e-8, 0.01 / 0.1]), rtol=1e-2, atol=0)


def test_complex_weights_have_one_step_for_both_parts():
    parameter = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    optimizer = Adam([parameter], lr=0.01)
    parameter.grad = torch.tensor([3 + 3j, 1 + 7j])
    optimizer.step()
    step = step_of(optimizer, parameter, optimizer.param_groups[0])
    torch.testing.assert_close(step, torch.tensor([0.01 / 3, 0.01 / 5]))


@pytest.mark.parametrize("kind", [LBFGS, Rprop])
def test_optimisers_without_a_step_are_refused(kind):
    parameter = nn.Parameter(torch.ones(2))
    optimizer = kind([parameter])
    with pytest.raises(ValueError, match=f"the steps of {kind.__name__} are not multiples of the gradient"):
        step_of(optimizer, parameter, optimizer.param_groups[0])
