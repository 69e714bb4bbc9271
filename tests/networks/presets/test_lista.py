"""Learned ISTA: the laws, ISTA as what it begins with, and how much better it becomes."""

import pytest
import torch

from tests.networks.dictionary_networks import (
    DictionaryLaws,
    best_of_ista,
    dictionary,
    ista,
    sparse_codes,
    trained_error,
)
from tests.networks.laws import double, pictures
from unrolled.networks import LISTA, AdjointStart, Implicit
from unrolled.operators import Dense
from unrolled.penalties import L1, MCP


class TestLISTA(DictionaryLaws):
    network_class = LISTA
    cases = {
        "shared": lambda **options: LISTA.of(
            DictionaryLaws.operator(options.pop("complex_images", False)), **{"threshold": 0.02, **options}
        ),
        "support selection, told the noise": lambda **options: LISTA.of(
            DictionaryLaws.operator(options.pop("complex_images", False)),
            **{
                "threshold": 0.02,
                "shared": False,
                "trusted": 0.1,
                "noise_range": (0.01, 0.2),
                "start": AdjointStart(),  # from 0 the first W₂ would have no gradient
                **options,
            },
        ),
        "a mixture per entry": lambda **options: LISTA.of(
            DictionaryLaws.operator(options.pop("complex_images", False)),
            **{
                "threshold": 0.02,
                "penalty": [L1(), MCP(1.0, 2.0)],
                "learn_penalty": True,
                "shrink_entries": True,
                **options,
            },
        ),
    }

    def contracting(self, network):
        with torch.no_grad():
            for phase in network.phases:
                phase.of_code.mul_(0.2)

    def test_the_implicit_gradient_is_that_of_many_unrolled_phases(self, case, kind):
        if case.startswith("support selection"):
            with pytest.raises(ValueError, match="trusted must be 0 with shared phases"):
                self.make(case, kind, shared=True, differentiation=Implicit())
            return
        super().test_the_implicit_gradient_is_that_of_many_unrolled_phases(case, kind)


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("shared", [False, True])
def test_untrained_it_is_ista(kind, shared):
    matrix = dictionary(complex_numbers=kind == "complex")
    operator = Dense(matrix, 4, 5).double()
    z = double(pictures(4, 5, kind == "complex"))
    y = operator(z)
    network = LISTA.of(operator, phases=7, shared=shared, threshold=0.03).double()
    network.fitted = False  # once more, in double precision
    network.fit_operator(operator)
    threshold = network.phases[0].shrink.shrinkage.threshold.item()
    assert threshold == pytest.approx(0.03)
    images = network.iterates(y, operator)
    assert (images[0] == 0).all()
    for number, image in enumerate(images):
        expected = ista(operator.matrix, y[:, 0], threshold, number)
        torch.testing.assert_close(image[:, 0].flatten(1), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_it_is_its_equation(kind):
    network, operator, z = TestLISTA().make("support selection, told the noise", kind, phases=3)
    y, code = operator(z)[:, 0], operator.adjoint(operator(z))[:, 0].flatten(1)
    found = network(operator(z), operator, noise=0.05)
    condition = torch.full((3, 1), 0.05)
    for number, phase in enumerate(network.phases):
        first, second = (
            torch.complex(*weight.unbind(-1)) if kind == "complex" else weight
            for weight in (phase.of_measurements, phase.of_code)
        )
        v = y @ first.mT + code @ second.mT
        threshold = phase.shrink.shrinkage.step * phase.factors(condition)
        code = torch.sgn(v) * (v.abs() - threshold).clamp(min=0)
        trusted = min(2 * (number + 1), 2)  # of 20 entries a tenth in every phase, at most 13 percent
        for row, entries in enumerate(v.abs()):
            for place in entries.argsort(descending=True)[:trusted].tolist():
                if entries[place] > threshold[row]:
                    code[row, place] = v[row, place]
    torch.testing.assert_close(found[:, 0].flatten(1), code)


def test_trained_it_is_far_better_than_ista():
    torch.manual_seed(0)
    operator, z = Dense(dictionary(15, 30), 5, 6), sparse_codes(500, 5, 6)
    learned = trained_error(LISTA.of(operator, phases=6, shared=False, threshold=0.05), operator, z)
    assert learned < best_of_ista(operator, z, 6) - 4.5


def test_its_size_is_that_of_the_paper():
    # 250·500 and 500·500 weights, and a threshold, or one for every entry as in the paper.
    assert LISTA(250, 20, 25).parameter_count == 375_001
    assert LISTA(250, 20, 25, shrink_entries=True).parameter_count == 375_500
    assert LISTA(250, 20, 25, 3, shared=False).parameter_count == 3 * 375_001
    assert LISTA(250, 20, 25, complex_images=True).parameter_count == 750_001


def test_shared_phases_trust_no_entries():
    with pytest.raises(ValueError, match=r"LISTA: trusted must be 0 with shared phases, .* got 0\.01"):
        LISTA(3, 2, 3, trusted=0.01)
