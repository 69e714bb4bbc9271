"""Penalties stay on the device of what they are given, and never ask for a value: run without data, on `meta`.

On each device that there is, they give the same numbers.
"""

import pytest
import torch

from tests.helpers import OnMeta, assert_alike
from tests.pairs import FULL, in_turn
from tests.penalties import laws
from tests.penalties.cases import CLOSED, FAMILIES, NAMES, default
from tests.penalties.groups import GROUPINGS
from unrolled.networks.shrinkage import Shrinkage, ShrinkageMixture
from unrolled.penalties import L0, L1, MCP, Grouped, L1MinusL2, LogSum, SparseGroup, Weighted

pytestmark = pytest.mark.device


def meta(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta", requires_grad=True)


def faces(penalty, v, step, thresholded=None, dual=True):
    """Everything that a penalty can be asked, and the gradients of it. (A dual may be a long loop.)"""
    with OnMeta():
        eta = penalty.eta(v)
        results = [penalty.prox(v, step), penalty.value(v), penalty.derivative(v), eta]
        results += [penalty.keep_probability(v, 0.3)]
        if dual:
            results += [penalty.dual(eta.detach().abs(), *([] if thresholded is None else [v.shape]))]
        if isinstance(step, torch.Tensor):
            results += [penalty.threshold(step) if thresholded is None else penalty.threshold(step, v.shape)]
        sum(result.abs().sum() for result in results if result.requires_grad).backward()
    return results


@pytest.mark.parametrize("name", CLOSED)
def test_penalties_whose_parameters_are_learned(name):
    learned = CLOSED[name](**{key: meta(4) for key in laws.numbers(CLOSED[name]())})
    assert all(result.is_meta for result in faces(learned, meta(3, 4), meta()))


@pytest.mark.parametrize("name", ["L1", "MCP", "Lp"])
def test_weighted_penalties(name):
    assert all(result.is_meta for result in faces(Weighted(CLOSED[name](), [0.5, 1.0, 2.0, 0.0]), meta(3, 4), meta()))


@pytest.mark.parametrize(("name", "dtype"), in_turn(list(CLOSED), [torch.complex64, torch.bfloat16], 1, FULL))
def test_penalties_of_numbers_and_other_types(name, dtype):
    for result in faces(CLOSED[name](), meta(3, 4, dtype=dtype), 0.4, dual=False):
        assert result.is_meta


@pytest.mark.parametrize("groups", GROUPINGS)
def test_penalties_of_groups(groups):
    grouping, shape, _ = GROUPINGS[groups]
    v, step = meta(*shape), meta()
    faces(Grouped(MCP(), grouping), v, step, shape)
    with OnMeta():
        for penalty in (Grouped(L1(), grouping, None), L1MinusL2(0.8, grouping)):
            (penalty.prox(v, step).sum() + penalty.value(v)).sum().backward()


@pytest.mark.parametrize("penalty", [L1(), MCP(), L0(), LogSum()], ids=str)
def test_penalties_between_groups(penalty):
    grouping, shape, _ = GROUPINGS["filters"]
    for step in (meta(), 0.4):
        faces(Grouped(penalty, grouping), meta(*shape), step, shape)


@pytest.mark.parametrize("penalty", [L1(), pytest.param(MCP(), marks=pytest.mark.full)], ids=str)
def test_penalties_inside_and_between_groups(penalty):
    grouping, shape, _ = GROUPINGS["filters"]
    with OnMeta():
        SparseGroup(penalty, Grouped(penalty, grouping)).prox(meta(*shape), meta()).sum().backward()


@pytest.mark.parametrize(("channels", "learn"), [(None, False), (4, True)])
def test_shrinkages(channels, learn):
    for name in FAMILIES if learn else ("L1", "MCP"):
        if not CLOSED[name]().prox_has_step_gradient:
            continue
        layer = Shrinkage(CLOSED[name](), channels, 0.1, learn).to("meta")
        with OnMeta():
            layer(meta(2, 4, 5, 5)).sum().backward()
            assert layer.threshold.is_meta
    for layer in (
        Shrinkage(MCP(), channels, 0.1, learn).to("meta"),
        ShrinkageMixture([L1(), MCP()], channels, 0.1, learn).to("meta"),
    ):
        with OnMeta():
            layer(meta(2, 4, 5, 5, dtype=torch.complex64)).abs().sum().backward()
            assert layer.threshold.is_meta


def test_what_leaves_its_device_is_seen():
    with pytest.raises(AssertionError, match="computed on cpu"), OnMeta():
        torch.zeros(2)
    with pytest.raises(RuntimeError, match="cannot be called on meta tensors"), OnMeta():
        meta(1).item()


@pytest.mark.parametrize("name", NAMES)
def test_penalties_are_the_same_on_every_device(name, device):
    penalty, v = default(name), torch.linspace(-3, 3, 25)

    def everything(v):
        return penalty.prox(v, 0.1), penalty.value(v), penalty.derivative(v), penalty.keep_probability(v, 0.3)

    for found, here in zip(everything(v.to(device)), everything(v), strict=True):
        assert_alike(found, here, device)


@pytest.mark.parametrize("groups", GROUPINGS)
def test_penalties_of_groups_are_the_same_on_every_device(groups, device):
    grouping, shape, _ = GROUPINGS[groups]
    penalty, v = Grouped(MCP(), grouping), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert_alike(penalty.prox(v.to(device), 0.2), penalty.prox(v, 0.2), device)
