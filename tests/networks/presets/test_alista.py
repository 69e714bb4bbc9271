"""ALISTA: the laws, its equation written out by itself, and how well it does with a few numbers that are learned."""

import pytest
import torch

from tests.networks.dictionary_networks import DictionaryLaws, best_of_ista, dictionary, sparse_codes, trained_error
from unrolled.networks import ALISTA
from unrolled.networks.dictionaries import analytic_weights
from unrolled.operators import Dense
from unrolled.penalties import LogSum


class TestALISTA(DictionaryLaws):
    network_class = ALISTA
    cases = {
        "as in the paper": lambda **options: ALISTA.of(
            DictionaryLaws.operator(options.pop("complex_images", False)), **{"threshold": 0.02, **options}
        ),
        "support selection, told the noise": lambda **options: ALISTA.of(
            DictionaryLaws.operator(options.pop("complex_images", False)),
            **{
                "threshold": 0.02,
                "penalty": LogSum(0.5),
                "trusted": 0.1,
                "most_trusted": 0.5,
                "noise_range": (0.01, 0.2),
                **options,
            },
        ),
    }
    narrow = False  # nothing but steps and thresholds is learned
    no_implicit = "ALISTA: differentiation must be Unroll.. or Recompute.., .* got Implicit"


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_it_is_its_equation(kind):
    network, operator, z = TestALISTA().make("as in the paper", kind, phases=3)
    matrix, y, code = operator.matrix, operator(z)[:, 0], torch.zeros_like(z)[:, 0].flatten(1)
    weights = analytic_weights(matrix.to(torch.complex128 if kind == "complex" else torch.float64)).to(matrix.dtype)
    for phase in network.phases:
        v = code - torch.nn.functional.softplus(phase.raw_step) * (code @ matrix.mT - y) @ weights.conj()
        code = torch.sgn(v) * (v.abs() - phase.shrink.shrinkage.step).clamp(min=0)
    torch.testing.assert_close(network(operator(z), operator)[:, 0].flatten(1), code)


@pytest.mark.parametrize("trusted", [0.0, 0.05])
def test_trained_it_is_far_better_than_ista(trusted):
    torch.manual_seed(0)
    operator, z = Dense(dictionary(15, 30), 5, 6), sparse_codes(500, 5, 6)
    network = ALISTA.of(operator, phases=6, trusted=trusted, threshold=0.05)
    learned = trained_error(network, operator, z, steps=60, rate=0.05)
    assert learned < best_of_ista(operator, z, 6) - 3


def test_its_size_is_that_of_the_paper():
    # A step and a threshold in every phase.
    assert ALISTA(250, 20, 25).parameter_count == 2 * 16


def test_weights_are_kept_once():
    network = ALISTA.of(DictionaryLaws.operator(), phases=5)
    assert [key for key in network.state_dict() if "matrix" in key] == ["analytic.matrix"]
    moved = network.double()
    assert all(phase.weights[0].matrix.dtype == torch.float64 for phase in moved.phases)


def test_a_dictionary_with_an_atom_of_zeros_is_refused():
    matrix = dictionary()
    matrix[:, 7] = 0
    with pytest.raises(ValueError, match="no column may be 0, but number 7 is"):
        ALISTA.of(Dense(matrix, 4, 5))
