"""The laws of every operator, over its cases."""

from tests.operators.laws import OperatorLaws
from tests.pairs import FULL

COSTLY = {"test_compiles_to_one_graph", "test_gradients_of_solve_equal_finite_differences"}
"""Laws of two cases of each operator alone, unless all are asked for."""


def pytest_generate_tests(metafunc):
    cls = metafunc.cls
    if cls is None or not issubclass(cls, OperatorLaws) or "case" not in metafunc.fixturenames:
        return
    cases = list(cls.cases)
    if metafunc.function.__name__ in COSTLY and not FULL:
        cases = list(cls.compiled or cases)[:2]
    metafunc.parametrize("case", cases)
