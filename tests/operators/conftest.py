"""The laws of every operator, over its cases."""

from tests.operators.laws import OperatorLaws
from tests.pairs import FULL

COSTLY = {
    "test_compiles_to_one_graph": 1,
    "test_gradients_of_solve_equal_finite_differences": 1,
    "test_is_the_same_on_every_device": 1,
    "test_makes_and_asks_for_nothing_on_other_devices": 2,
    "test_takes_whatever_holds_numbers_in_its_own_precision": 2,
    "test_refuses_what_it_cannot_mean_by_name": 2,
    "test_survives_pickle_and_state_dict": 4,
    "test_moves_with_its_tensors": 4,
    "test_is_in_full_precision_under_autocast": 4,
    "test_in_single_precision": 6,
}
"""Of how many cases of each operator these laws are, unless all are asked for: those that take long, and those that
say little of a case that they do not say of its class."""


def pytest_generate_tests(metafunc):
    cls = metafunc.cls
    if cls is None or not issubclass(cls, OperatorLaws) or "case" not in metafunc.fixturenames:
        return
    cases = list(cls.cases)
    if (law := metafunc.function.__name__) in COSTLY and not FULL:
        cases = list(cls.compiled or cases)[: COSTLY[law]]
    metafunc.parametrize("case", cases)
