"""The laws of every network, over its cases."""

import pytest

from tests.networks.laws import KINDS, NetworkLaws
from tests.pairs import FULL, in_turn
from unrolled.networks import ISTANetPlus

COSTLY = {
    "test_a_few_steps_of_training_beat_the_start",  # for which real images take three times as many steps
    "test_the_implicit_gradient_is_that_of_many_unrolled_phases",
}
"""Laws of which by default the first case alone is tried, on complex images."""

SHORT = {"test_compiles_to_one_graph_with_the_same_result", "test_is_the_same_on_every_device"}
"""Laws that are tried on the first case alone: one takes seconds, so by default on one network, and one differs
little between cases."""

NUMBERS = {"every": ([1, 2, 3, 5, 9], [2]), "tile": ([1, 22, 34, 77, 1000], [22, 1000])}
"""Arguments of laws, tried with the first case and with others."""


def pytest_generate_tests(metafunc):
    cls = metafunc.cls
    if cls is None or not issubclass(cls, NetworkLaws) or "case" not in metafunc.fixturenames:
        return
    law, names = metafunc.function.__name__, list(cls.cases)
    if law in SHORT and not FULL:
        compiled_elsewhere = "compiles" in law and cls.network_class is not ISTANetPlus
        names = [pytest.param(names[0], marks=[pytest.mark.full] if compiled_elsewhere else [])]
    for argument in NUMBERS.keys() & set(metafunc.fixturenames):
        first, others = NUMBERS[argument]
        numbers = {case: first if case == names[0] or FULL else others for case in names}
        metafunc.parametrize(("case", argument), [(case, number) for case in names for number in numbers[case]])
        return
    if "kind" not in metafunc.fixturenames:
        metafunc.parametrize("case", names)
        return
    pairs = [(case, kind) for case in names for kind in KINDS]
    if not FULL:  # the first case on both kinds of images, others on one
        pairs = [(names[0], "complex")] if law in COSTLY else pairs[:2] + in_turn(names[1:], KINDS, 1)
    metafunc.parametrize(("case", "kind"), pairs)
