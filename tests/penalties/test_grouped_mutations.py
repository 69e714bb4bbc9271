"""Wrong proximal maps of groups, as they have been published, do not pass the laws."""

import math

import pytest
import torch

from tests.penalties.groups import (
    GROUPINGS,
    keeps_the_first_of_the_largest,
    l1_minus_l2_value,
    prox_is_that_of_the_norms,
    prox_is_the_global_minimiser,
    sparse_group_value,
)
from unrolled.penalties import L0, L1, MCP, Grouped, L1MinusL2, SparseGroup, Whole

STEPS = (0.1, 1.0, 2.5)


def draws():
    generator = torch.Generator().manual_seed(0)
    drawn = [2 * torch.randn(2, generator=generator, dtype=torch.float64) for _ in range(3)]
    return [*drawn, torch.tensor([0.3, -0.9], dtype=torch.float64)]


def everywhere(prox, value):
    for v in draws():
        for step in STEPS:
            prox_is_the_global_minimiser(prox, value, v, step)


class SignedArgmax(L1MinusL2):
    def _first_of_largest(self, z, peak):
        return torch.nn.functional.one_hot(self.signed.argmax(), len(z)).bool()

    def prox(self, v, step):
        object.__setattr__(self, "signed", v)
        return super().prox(v, step)


class EveryLargest(L1MinusL2):
    def _first_of_largest(self, z, peak):
        return z == peak


class Composed(SparseGroup):
    exact = True


class PlainWeights(Grouped):
    def _weights(self, shape, like):
        return torch.ones((), dtype=like.dtype)


def test_signed_argmax_is_caught():
    with pytest.raises(AssertionError):
        everywhere(SignedArgmax(0.8).prox, l1_minus_l2_value(0.8))
    with pytest.raises(AssertionError):
        keeps_the_first_of_the_largest(SignedArgmax().prox)


def test_keeping_all_of_the_largest_is_caught():
    with pytest.raises(AssertionError):
        keeps_the_first_of_the_largest(EveryLargest().prox)


@pytest.mark.parametrize("inner", [L0(), MCP(1.0, 0.5)])
def test_a_composition_that_claims_to_be_exact_is_caught(inner):
    with pytest.raises(AssertionError):
        everywhere(Composed(inner, Grouped(L1(), Whole())).prox, sparse_group_value(inner, L1(), 2**0.5, 0.5))


def test_missing_sizes_are_caught():
    for grouping, shape, groups in GROUPINGS.values():
        v = torch.linspace(-1, 2, math.prod(shape)).double().reshape(shape)
        with pytest.raises(AssertionError):
            prox_is_that_of_the_norms(PlainWeights(L1(), grouping), shape, groups, v, 0.1)


def test_thresholding_entries_instead_of_norms_is_caught():
    with pytest.raises(AssertionError):
        everywhere(L1().prox, lambda z: 2**0.5 * z.norm(dim=1))
