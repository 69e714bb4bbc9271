"""Numbers of NumPy and tensors without axes are taken as those of Python; what is no real number is refused by name."""

import numpy as np
import pytest
import torch
from torch import nn

from unrolled.penalties import L1, LogSum
from unrolled.sparsify import (
    CGES,
    AdaProx,
    AttentionHeads,
    Growth,
    HardConcreteGates,
    MagnitudePruning,
    Masks,
    PricedGroups,
    ProximalStep,
    ReweightedTikhonov,
    SparseGroupLasso,
    VariableSplitting,
    VariationalNoise,
    WarmUp,
)
from unrolled.system.scalars import as_number


def layer():
    return nn.Linear(4, 3)


# How an argument is given, where it is found then, and whether it is a whole number.
ARGUMENTS = {
    "target": (lambda v: MagnitudePruning(layer(), v), lambda s: s.target, False),
    "fine_tune": (lambda v: MagnitudePruning(layer(), 0.5, fine_tune=v), lambda s: s.course.fine_tune, False),
    "steps": (lambda v: MagnitudePruning(layer(), 0.5, steps=v), lambda s: s.steps, True),
    "every": (lambda v: MagnitudePruning(layer(), 0.5, every=v), lambda s: s.every, True),
    "strength": (lambda v: ProximalStep(layer(), L1(), v), lambda s: s.base_strength, False),
    "cutoff": (lambda v: AdaProx(layer(), LogSum(1e-3), 0.1, cutoff=v), lambda s: s.rule.cutoff, False),
    "beta": (lambda v: VariableSplitting(layer(), L1(), 0.1, beta=v), lambda s: s.base_beta, False),
    "group_strength": (
        lambda v: SparseGroupLasso(layer(), L1(), 0.1, group_strength=v),
        lambda s: s.group_lasso,
        False,
    ),
    "samples": (lambda v: SparseGroupLasso(layer(), L1(), 0.1, samples=v), lambda s: s.samples, True),
    "mu": (lambda v: CGES(layer(), 0.1, mu=[v]), lambda s: s.mu[0], False),
    "floor": (lambda v: ReweightedTikhonov(layer(), LogSum(1e-3), 0.1, floor=v), lambda s: s.floor, False),
    "log_eta_weight": (
        lambda v: ReweightedTikhonov(layer(), LogSum(1e-3), 0.1, update="joint", log_eta_weight=v),
        lambda s: s.log_eta_weight,
        False,
    ),
    "initial": (lambda v: VariationalNoise(layer(), strength=0.1, initial=v), lambda s: s.initial, False),
    "initial_keep": (
        lambda v: HardConcreteGates(layer(), strength=0.1, initial_keep=v),
        lambda s: s.initial_keep,
        False,
    ),
    "end": (WarmUp, lambda s: s.end, False),
    "rate": (Growth, lambda s: s.rate, False),
    "prices": (lambda v: PricedGroups({"0": v}), lambda s: s.price("0.weight"), False),
    "heads": (AttentionHeads, lambda s: s.heads, True),
}
every_argument = pytest.mark.parametrize("name", ARGUMENTS)
REAL = [
    np.float32(0.5),
    np.float16(0.5),
    np.float64(0.5),
    np.array(0.5),
    torch.tensor(0.5),
    torch.tensor(0.5).bfloat16(),
]
WHOLE = [np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor(3, dtype=torch.int16)]


@every_argument
def test_every_kind_of_number_is_taken_as_one_of_python(name):
    make, found, whole = ARGUMENTS[name]
    for value in WHOLE if whole else REAL:
        kept = found(make(value))
        assert kept == (3 if whole else 0.5), value
        assert type(kept) is (int if whole else float), value


NO_NUMBERS = [
    True, np.True_, torch.tensor(True), float("nan"), np.float32("nan"), float("inf"), torch.tensor(float("-inf")),
    1j, np.complex64(0.5), torch.tensor(0.5 + 0j), "0.5", b"3", [0.5], np.array([0.5]), torch.tensor([3]), {},
    np.datetime64("2020-01-01"), torch.empty((), device="meta"),
]  # fmt: skip


@every_argument
def test_what_is_no_real_number_is_refused_by_name(name):
    make, _, _ = ARGUMENTS[name]
    for value in NO_NUMBERS:
        with pytest.raises(ValueError, match=rf"\b{name}\b.* must be "):
            make(value)


def test_a_number_of_another_kind_is_the_same_recipe():
    plain, numpy = (MagnitudePruning(layer(), value, fine_tune=value) for value in (0.5, np.float32(0.5)))
    assert plain.recipe() == numpy.recipe()
    state = plain.state_dict()
    numpy.load_state_dict(state)


def test_the_length_of_a_run_is_checked_when_it_is_told_later():
    sparsifier = MagnitudePruning(layer(), 0.5)
    for value in (0, 2.5, True, "ten"):
        with pytest.raises(ValueError, match="MagnitudePruning: steps must be a whole number >= 1"):
            sparsifier.steps = value
    sparsifier.steps = np.int32(7)
    assert sparsifier.steps == 7


def test_masks_of_arrays_and_lists():
    parameter = nn.Parameter(torch.ones(2, 2))
    for mask in (np.array([[True, False], [True, True]]), [[True, False], [True, True]]):
        masks = Masks([parameter], [mask])
        masks.apply()
        assert parameter.tolist() == [[1, 0], [1, 1]]
        masks.remove()
    with pytest.raises(ValueError, match=r"a mask must be bool and of shape \(2, 2\)"):
        Masks([parameter], [np.ones((2, 2))])
    with pytest.raises(ValueError, match="masks must be 1, one a parameter, got 2"):
        Masks([parameter], [[[True] * 2] * 2] * 2)


@pytest.mark.parametrize(("value", "wanted"), [(3, 3), (2.5, 2.5), (np.int8(-2), -2), (torch.tensor(1e-3), 1e-3)])
def test_as_number(value, wanted):
    assert as_number(value) == pytest.approx(wanted)
    assert isinstance(as_number(value), type(wanted))


@pytest.mark.parametrize("mu", [0.5, "0.5", [0.5, 0.5], [], None.__class__, np.array(0.5)])
def test_mu_of_another_length_is_refused(mu):
    with pytest.raises(ValueError, match=r"CGES: mu must be 1 numbers in \[0, 1\]"):
        CGES(layer(), 0.1, mu=mu)
