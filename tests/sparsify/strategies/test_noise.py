"""What strategies by noise, gates and reweighting have in common: copies, resumes, groups, and how they end."""

import copy
import pickle

import pytest
import torch
from torch import nn

from unrolled.penalties import (
    Filters,
    LogSum,
    VariationalDropout,
)
from unrolled.sparsify import AdaProx, AdaptiveDropout, HardConcreteGates, ReweightedTikhonov, VariationalNoise, WarmUp
from unrolled.system.devices import seed_generators

STRATEGIES = {
    "adaptive": lambda model, **options: AdaptiveDropout(model, LogSum(0.1), **options),
    "gaussian": lambda model, **options: AdaptiveDropout(model, LogSum(0.1), noise="gaussian", **options),
    "additive": VariationalNoise,
    "local": lambda model, **options: VariationalNoise(model, parametrisation="local", **options),
    "plain": lambda model, **options: VariationalNoise(model, VariationalDropout(), parametrisation="plain", **options),
    "gates": HardConcreteGates,
}
ALSO = {
    "alternating": lambda model, **options: ReweightedTikhonov(model, LogSum(0.1), **options),
    "joint": lambda model, **options: ReweightedTikhonov(model, LogSum(0.1), update="joint", **options),
    "shrinking": lambda model, **options: AdaProx(model, LogSum(0.1), **options),
}


def every(table):
    return pytest.mark.parametrize("make", table.values(), ids=table.keys())


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))


def train(model, sparsifier, steps, optimizer=None, rate=0.05):
    optimizer = optimizer or torch.optim.Adam([*model.parameters(), *sparsifier.parameters()], lr=rate)
    for _ in range(steps):
        seed_generators(sparsifier.step_count)
        x = torch.randn(16, 1, 4, 4)
        label = (x[:, 0, 0, 0] > 0).long()
        optimizer.zero_grad()
        (nn.functional.cross_entropy(model(x), label) + sparsifier.loss()).backward()
        optimizer.step()
        sparsifier.step(optimizer)
    return optimizer


@every(STRATEGIES)
def test_copies_are_plain_and_keys_stay(make):
    model, x = small_model(), torch.randn(2, 1, 4, 4)
    keys, plain = list(model.state_dict()), model(x)
    sparsifier = make(model, strength=1e-3)
    train(model, sparsifier, 2)
    assert list(model.state_dict()) == keys
    other = small_model()
    other.load_state_dict(model.state_dict())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), other(x))
        assert torch.equal(twin(x), twin(x))
    assert not torch.equal(model(x), model(x))
    sparsifier.finalize()
    assert torch.equal(model(x), model(x))
    assert list(model.state_dict()) == keys
    assert not torch.equal(model(x), plain)


@every(STRATEGIES | ALSO)
def test_a_run_goes_on_bit_for_bit(make):
    ends = []
    for stop in (False, True):
        model = small_model()
        sparsifier = make(model, target=0.5, steps=12)
        optimizer = train(model, sparsifier, 6)
        if stop:
            states = copy.deepcopy((model.state_dict(), optimizer.state_dict(), sparsifier.state_dict()))
            model = small_model()
            sparsifier = make(model, target=0.5, steps=12)
            optimizer = torch.optim.Adam([*model.parameters(), *sparsifier.parameters()], lr=0.05)
            for part, state in zip((model, optimizer, sparsifier), states, strict=True):
                part.load_state_dict(state)
        train(model, sparsifier, 6, optimizer)
        ends.append([sparsifier.strength, *map(torch.clone, [*model.parameters(), *sparsifier.parameters()])])
    assert ends[0][0] == ends[1][0]
    assert all(torch.equal(a, b) for a, b in zip(ends[0][1:], ends[1][1:], strict=True))


@pytest.mark.parametrize(
    ("name", "strength"), [("local", 0.03), ("joint", 0.01), ("alternating", 0.01), ("shrinking", 0.005)]
)
def test_a_strength_leads_to_exact_zeros_and_little_is_cut(name, strength):
    model = small_model()
    sparsifier = (STRATEGIES | ALSO)[name](model, strength=strength)
    learned = {"params": sparsifier.parameters(), "lr": 0.1}
    train(model, sparsifier, 200, torch.optim.Adam([{"params": model.parameters()}, learned], lr=0.02))
    assert 0.3 < sparsifier.sparsity() < 0.97
    assert_ends_well(model, sparsifier)


def assert_ends_well(model, sparsifier):
    torch.manual_seed(0)
    x = torch.randn(1000, 1, 4, 4)
    label = (x[:, 0, 0, 0] > 0).long()
    share = sparsifier.sparsity()

    def right():
        return (model.eval()(x).argmax(1) == label).float().mean().item()

    before = right()
    sparsifier.finalize()
    zeros = sum(int((model[part].weight == 0).sum()) for part in (0, 3))
    assert zeros / (36 + 128) == pytest.approx(share, abs=1e-6)
    assert right() > 0.9
    assert abs(right() - before) < 0.03


@every(STRATEGIES)
def test_fine_tuning_is_without_noise_after_a_resume_too(make):
    model = small_model()
    sparsifier = make(model, strength=1e-3, fine_tune=0.5, steps=4)
    optimizer = train(model, sparsifier, 3)
    x = torch.randn(2, 1, 4, 4)
    assert torch.equal(model(x), model(x))
    state = copy.deepcopy(sparsifier.state_dict())
    sparsifier.release()
    sparsifier = make(model, strength=1e-3, fine_tune=0.5, steps=4)
    sparsifier.load_state_dict(state)
    weights = [model[part].weight.detach().clone() for part in (0, 3)]
    assert torch.equal(model(x), model(x))
    assert optimizer is not None
    sparsifier.finalize()
    assert all(torch.equal(model[part].weight, before) for part, before in zip((0, 3), weights, strict=True))


@every(STRATEGIES | ALSO)
def test_at_strength_0_nothing_is_infinite(make):
    model = small_model()
    with torch.no_grad():
        model[0].weight[0] = 0
    sparsifier = make(model, strength=1e-3, schedule=WarmUp(0.5), steps=4)
    train(model, sparsifier, 4)
    assert all(parameter.isfinite().all() for parameter in [*model.parameters(), *sparsifier.parameters()])


@every(STRATEGIES | ALSO)
def test_groups_fall_together(make):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2))
    with torch.no_grad():
        model[0].weight[:8] *= 1e-4
    sparsifier = make(model, strength=1e-2, groups=Filters(), include="0")
    train(model, sparsifier, 2, rate=1e-6)
    with torch.no_grad():  # what was learned, of half of the filters
        for parameter in sparsifier.parameters():
            if not getattr(sparsifier, "additive", False):
                parameter[:8] = 9.0 if isinstance(sparsifier, VariationalNoise) else -9.0
    sparsifier.finalize()
    dead = (model[0].weight == 0).flatten(1)
    assert dead[:8].all()
    assert not dead[8:].any()
