"""Zeros that stay, whatever the optimiser does."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from unrolled.penalties import L1, Filters, Grouped
from unrolled.sparsify import Masks, ProximalStep

OPTIMIZERS = {
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1),
    "lbfgs": lambda parameters: torch.optim.LBFGS(parameters, lr=0.1),
}


def trained(model, optimizer, steps=3):
    def closure():
        optimizer.zero_grad()
        loss = (model(torch.ones(2, 4)) - 1).square().sum()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_zeros_stay_while_the_rest_is_trained_and_until_they_are_released(make):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.weight[0, :2] = 0
        model.weight[2] = 0
    before, zeros = model.weight.detach().clone(), model.weight.detach() == 0
    optimizer = make(model.parameters())
    masks = Masks([model.weight])
    trained(model, optimizer)
    assert torch.equal(model.weight == 0, zeros)
    assert (model.weight != before)[~zeros].all()
    masks.remove()
    trained(model, optimizer)
    assert (model.weight != 0).all()


def test_a_zero_that_became_nan_is_zero_again():
    model = nn.Linear(2, 1, bias=False)
    masks = Masks([model.weight], [torch.tensor([[True, False]])])
    with torch.no_grad():
        model.weight[:] = torch.nan
    masks.apply()
    assert model.weight[0, 0].isnan()
    assert model.weight[0, 1] == 0
    masks.remove()


def test_other_models_are_left_alone_and_this_one_is_let_go():
    gc.freeze()  # then little is left to collect
    model, other = nn.Linear(2, 1), nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.zero_()
    masks = Masks([model.weight])
    with torch.no_grad():
        model.weight.fill_(1)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    optimizer.step()
    assert (model.weight == 1).all()
    gone = weakref.ref(model.weight)
    del model
    gc.collect()
    assert gone() is None
    masks = weakref.ref(masks)
    optimizer.step()  # there is nothing left to do
    gc.collect()
    assert masks() is None


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"bool and of shape \(1, 2\)"):
        Masks([nn.Linear(2, 1).weight], [torch.ones(2, dtype=torch.bool)])


def test_finalize_keeps_zeros_of_dead_filters_with_all_that_is_behind_them():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(8, 2))
    sparsifier = ProximalStep(model, Grouped(L1(), Filters()), strength=1e-9, include="0")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def steps(count, after=lambda: None):
        for _ in range(count):
            optimizer.zero_grad()
            (model(torch.randn(4, 1, 4)) - 1).square().mean().backward()
            optimizer.step()
            after()

    steps(3, lambda: sparsifier.step(optimizer))
    with torch.no_grad():
        model[0].weight[1] = 0
    masks = sparsifier.finalize(keep_mask=True)
    dead = torch.tensor([False, True, False, False])
    steps(3)
    for parameter in (model[0].weight, model[0].bias, model[1].weight, model[1].bias):
        assert not parameter[dead].any()
        assert parameter[~dead].flatten(1).any(1).all() if parameter.ndim > 1 else parameter[~dead].all()
    copied = copy.deepcopy(model)
    masks.remove()
    steps(1)
    assert model[1].bias[dead].any()
    assert not copied[1].bias[dead].any()
