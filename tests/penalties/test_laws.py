"""Every law of a penalty, over every penalty that exists."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pairs import FULL, in_turn
from tests.penalties import laws
from tests.penalties.cases import FEW, NAMES, default, drawn
from unrolled.penalties.numeric import NumericPenalty

STEPS = st.floats(1e-3, 10)  # beyond every weak-convexity bound

every_penalty = pytest.mark.parametrize("name", NAMES)
some = settings(deadline=None, derandomize=True)


def examples(name: str, law) -> int:
    """How many draws: fewer where each is costly, many more with `make test-full`."""
    few = 1 if law in COSTLY or (name in FEW and not FULL) else 2
    return few * (10 if FULL else 1)


OF_STEPS = [
    laws.prox_is_the_global_minimiser,
    laws.threshold_is_where_the_prox_leaves_zero,
    laws.prox_is_odd_monotone_and_shrinks,
    laws.prox_of_complex_numbers_keeps_the_phase,
    laws.dropout_is_the_reweighted_penalty,
    laws.gradients_of_prox_are_its_differences,
    laws.gradients_of_threshold_are_its_differences,
    laws.digits_are_kept,
]
COSTLY = [
    laws.gradients_of_prox_are_its_differences,
    laws.gradients_of_threshold_are_its_differences,
    laws.gradients_of_the_other_face_are_its_differences,
]
OF_VALUES = [
    laws.derivative_is_that_of_the_value,
    laws.eta_is_the_quotient,
    laws.dual_is_the_supremum_of_its_definition,
    laws.value_is_the_minimum_over_eta_reached_at_eta,
    laws.keeping_more_of_the_larger_is_concavity_in_the_square,
    laws.gradients_of_the_other_face_are_its_differences,
]


THINNED = {laws.gradients_of_prox_are_its_differences: 12, laws.gradients_of_the_other_face_are_its_differences: 14}


def thinned(name: str, law) -> tuple[int, ...]:
    """At which of its points a law is asked, where each point has a costly curve of its own."""
    return (THINNED[law],) if law in THINNED and name in FEW and not FULL else ()


@every_penalty
@pytest.mark.parametrize("law", OF_STEPS, ids=lambda law: law.__name__)
def test_law_for_a_step(name, law):
    @given(data=st.data(), step=STEPS)
    @settings(some, max_examples=examples(name, law))
    def holds(data, step):
        law(drawn(name, data), step, *thinned(name, law))

    holds()


@every_penalty
@pytest.mark.parametrize("law", OF_STEPS[:3], ids=lambda law: law.__name__)
def test_law_at_steps_where_the_prox_changes_its_kind(name, law):
    # Bounds of convexity and edges of pieces at the default parameters, and steps next to them.
    penalty = default(name)
    # What is found numerically knows no such bounds, and takes longer.
    close = (1.0,) if isinstance(penalty, NumericPenalty) and not FULL else (1 - 1e-12, 1.0, 1 + 1e-12, 1 + 1e-3)
    turn = OF_STEPS.index(law)
    for index, step in enumerate((0.25, 0.5, 1.0, 2.0, 2.4184, 2.7, 3.0, 4.0, 4.7)):
        if not FULL and index % 3 != turn:  # one law at each
            continue
        # Each step itself or one of those beside it in turn, for every law another.
        for factor in close if FULL else (close[(index + turn) % len(close)],):
            law(penalty, step * factor)


@every_penalty
@pytest.mark.parametrize("law", OF_VALUES, ids=lambda law: law.__name__)
def test_law_of_values(name, law):
    @given(data=st.data())
    @settings(some, max_examples=examples(name, law))
    def holds(data):
        law(drawn(name, data), *thinned(name, law))

    holds()


EXTREMES = [(1e-3, torch.float32), (2.0, torch.float64), (9.0, torch.float32)]
EXTREMES += [(1e-3, torch.float64), (2.0, torch.float32), (9.0, torch.float64)]


@pytest.mark.parametrize(
    ("name", "step", "dtype"),
    [(name, *extreme) for name, extreme in in_turn(NAMES, EXTREMES, 2, whole=FULL)],
)
def test_extremes(name, step, dtype):
    laws.extremes_are_right(default(name), step, dtype)
    laws.gradients_are_finite_everywhere(default(name), step, dtype)


@every_penalty
def test_sampled_masks_add_the_predicted_penalty(name):
    laws.masks_add_the_predicted_penalty(default(name))
