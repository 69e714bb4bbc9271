"""Pruning by magnitude: how many numbers become zero at each step, and which."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from tests.sparsify.strategies.noise_steps import train
from unrolled.penalties import Filters
from unrolled.sparsify import Cubic, MagnitudePruning


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))


def zeros(weight):
    return int((weight == 0).sum())


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_there_are_as_many_zeros_as_the_schedule_says_at_each_step(scope):
    model = mlp()
    sparsifier = MagnitudePruning(model, 0.9, scope=scope, every=1, schedule=Cubic(end=0.8), steps=20)
    optimizer = Adam(model.parameters(), 0.01)
    for step in train(model, sparsifier, optimizer, 20):
        share = 0.9 * (1 - (1 - min(1, step / 20 / 0.8)) ** 3)
        if scope == "global":
            assert abs(zeros(model[0].weight) + zeros(model[2].weight) - share * 300) <= 0.5
        else:
            assert abs(zeros(model[0].weight) - share * 200) <= 0.5
            assert abs(zeros(model[2].weight) - share * 100) <= 0.5
    assert share == 0.9


def test_the_smallest_go_and_never_come_back():
    model = mlp()
    sparsifier = MagnitudePruning(model, 0.5, every=1, schedule=Cubic(end=0.5), steps=10)
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    gone = torch.zeros(300, dtype=torch.bool)
    for _ in train(model, sparsifier, optimizer, 10):
        flat = torch.cat([model[0].weight.detach().flatten(), model[2].weight.detach().flatten()])
        assert (flat[gone] == 0).all()
        gone = flat == 0
    assert gone.sum() == 150


def test_what_is_pruned_is_what_was_smallest():
    model = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -0.2, 0.5, 3.0], [0.1, 2.0, -4.0, 0.3]]))
    sparsifier = MagnitudePruning(model, 0.5, every=1, schedule=Cubic(end=0.1), steps=2)
    optimizer = SGD(model.parameters(), 1e-9)
    for _ in train(model, sparsifier, optimizer, 2, shape=(1, 4)):
        pass
    assert (model.weight != 0).tolist() == [[True, False, False, True], [False, True, True, False]]


def test_groups_of_different_sizes_are_compared_by_their_mean_square():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 4, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 3.0], [1.0, 1.0]]))
        model[1].weight.copy_(torch.tensor([[2.0, 2.0], [0.9, 0.9], [4.0, 4.0], [1.1, 1.1]]))
    sparsifier = MagnitudePruning(model, 0.5, groups=Filters(), every=1, schedule=Cubic(end=0.1), steps=2)
    optimizer = SGD(model.parameters(), 1e-9)
    for _ in train(model, sparsifier, optimizer, 2, shape=(1, 2)):
        pass
    assert (model[0].weight == 0).all(1).tolist() == [False, True]
    assert (model[1].weight == 0).all(1).tolist() == [False, True, False, True]


def test_between_prunings_and_in_fine_tuning_the_zeros_stay():
    model = mlp()
    sparsifier = MagnitudePruning(model, 0.8, every=7, fine_tune=0.3, steps=30)
    optimizer = Adam(model.parameters(), 0.05)
    for step in train(model, sparsifier, optimizer, 30):
        assert sparsifier.sparsity() == (zeros(model[0].weight) + zeros(model[2].weight)) / 300
        if step >= 20:
            assert sparsifier.sparsity() == 0.8
    sparsifier.finalize()
    assert zeros(model[0].weight) + zeros(model[2].weight) == 240


def test_the_last_step_prunes_if_the_schedule_ends_there():
    model = mlp()
    sparsifier = MagnitudePruning(model, 0.8, every=9, schedule=Cubic(end=1.0), steps=20)
    for _ in train(model, sparsifier, Adam(model.parameters(), 0.05), 20):
        pass
    assert sparsifier.sparsity() == pytest.approx(0.8, abs=0.001)


def test_every_layer_keeps_something_and_it_is_said(recwarn):
    model = mlp()
    with torch.no_grad():
        model[2].weight *= 1e-3
    sparsifier = MagnitudePruning(model, 0.9, every=1, schedule=Cubic(end=0.5), steps=10)
    for _ in train(model, sparsifier, SGD(model.parameters(), 1e-6), 10):
        pass
    assert (zeros(model[0].weight), zeros(model[2].weight)) == (171, 99)
    assert [str(warning.message) for warning in recwarn] == [
        "2.weight would become all zero; its largest group is kept"
    ]


def test_pruning_goes_on_bit_for_bit():
    ends = []
    for stop in (20, 8):
        model = mlp()
        optimizer = Adam(model.parameters(), 0.02)
        sparsifier = MagnitudePruning(model, 0.7, every=3, fine_tune=0.2, steps=20)
        for _ in train(model, sparsifier, optimizer, stop):
            pass
        if stop < 20:
            old = (model.state_dict(), optimizer.state_dict(), sparsifier.state_dict())
            model = mlp()
            optimizer = Adam(model.parameters(), 0.02)
            sparsifier = MagnitudePruning(model, 0.7, every=3, fine_tune=0.2, steps=20)
            for part, state in zip((model, optimizer, sparsifier), old, strict=True):
                part.load_state_dict(state)
            for _ in train(model, sparsifier, optimizer, 20 - stop, stop):
                pass
        ends.append([parameter.detach().clone() for parameter in model.parameters()])
        sparsifier.release()
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"scope": "network"}, "scope must be"), ({"every": 0}, "every must be"), ({"every": True}, "every must be")],
)
def test_bad_options_of_pruning_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MagnitudePruning(mlp(), 0.5, **options)
