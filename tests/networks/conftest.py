"""The laws of every network, over its cases."""

from tests.networks.laws import KINDS, NetworkLaws
from tests.pairs import FULL


def pytest_generate_tests(metafunc):
    cls = metafunc.cls
    if cls is None or not issubclass(cls, NetworkLaws) or "case" not in metafunc.fixturenames:
        return
    law, names = metafunc.function.__name__, list(cls.cases)
    if law == "test_compiles_to_one_graph_with_the_same_result" and not FULL:  # which takes seconds
        names = names[:1]
    if "kind" not in metafunc.fixturenames:
        metafunc.parametrize("case", names)
        return
    pairs = [(case, kind) for case in names for kind in KINDS]
    if law == "test_a_few_steps_of_training_beat_the_start" and not FULL:  # real images take four times as many steps
        pairs = [(case, kind) for case, kind in pairs if kind == "complex" or case == names[0]]
    metafunc.parametrize(("case", "kind"), pairs)
