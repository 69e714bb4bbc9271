"""The laws of every operator, over its cases."""

from tests.operators.laws import OperatorLaws


def pytest_generate_tests(metafunc):
    if metafunc.cls is not None and issubclass(metafunc.cls, OperatorLaws) and "case" in metafunc.fixturenames:
        metafunc.parametrize("case", metafunc.cls.cases)
