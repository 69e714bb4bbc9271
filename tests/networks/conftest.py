"""The laws of every network, over its cases."""

from tests.networks.laws import KINDS, NetworkLaws


def pytest_generate_tests(metafunc):
    if metafunc.cls is not None and issubclass(metafunc.cls, NetworkLaws) and "case" in metafunc.fixturenames:
        metafunc.parametrize("case", metafunc.cls.cases)
        if "kind" in metafunc.fixturenames:
            metafunc.parametrize("kind", KINDS)
