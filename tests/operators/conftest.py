"""The laws of every operator, over its cases."""

import os

from tests.operators.laws import OperatorLaws

FULL = bool(os.environ.get("UNROLLED_TEST_FULL"))


def pytest_generate_tests(metafunc):
    cls = metafunc.cls
    if cls is None or not issubclass(cls, OperatorLaws) or "case" not in metafunc.fixturenames:
        return
    cases = list(cls.cases)
    if metafunc.function.__name__ == "test_compiles_to_one_graph" and not FULL:
        cases = list(cls.compiled or cases)
    metafunc.parametrize("case", cases)
