"""The laws of every network, over its cases."""

from zlib import crc32

import pytest

from tests.networks.laws import KINDS, NetworkLaws
from tests.pairs import FULL, in_turn
from unrolled.networks import ISTANetPlus

REFERENCE = ISTANetPlus
"""The network on which laws that are about the class of all networks are tried with every argument."""

COSTLY = {
    "test_a_few_steps_of_training_beat_the_start",  # for which real images take three times as many steps
    "test_the_implicit_gradient_is_that_of_many_unrolled_phases",
}
"""Laws of which by default the first case alone is tried, on complex images."""

SHORT = {"test_compiles_to_one_graph_with_the_same_result", "test_is_the_same_on_every_device"}
"""Laws that are tried on the first case alone: one takes seconds, so by default on one network, and one differs
little between cases."""

BOTH = {
    "test_reconstructs_images_of_the_shape_and_kind_of_the_start",
    "test_images_of_a_batch_do_not_mix",
    "test_every_parameter_receives_a_gradient",
    "test_gradients_equal_finite_differences",
}
"""Laws of the phases, which do one thing with real and another with complex images: the first case of every network is
tried on both. Other laws are those of the class of all networks, and are tried on one kind of images, in turn."""

NUMBERS = {"every": ([1, 2, 3, 5, 9], []), "tile": ([1, 34, 77, 1000], [22])}
"""Arguments of laws: all are tried on the first case of the reference; on others one in turn, and those that follow."""


def turn(cls: type[NetworkLaws], law: str) -> int:
    """A number that differs between networks and between laws, and is always the same."""
    return crc32(f"{cls.network_class.__name__}.{law}".encode())


def pytest_generate_tests(metafunc):
    cls = metafunc.cls
    if cls is None or not issubclass(cls, NetworkLaws) or "case" not in metafunc.fixturenames:
        return
    law, names, reference = metafunc.function.__name__, list(cls.cases), cls.network_class is REFERENCE
    first, place = names[0], turn(cls, law)
    if law in SHORT and not FULL:
        compiled_elsewhere = "compiles" in law and not reference
        names = [pytest.param(first, marks=[pytest.mark.full] if compiled_elsewhere else [])]
    for argument in NUMBERS.keys() & set(metafunc.fixturenames):
        several, always = NUMBERS[argument]
        metafunc.parametrize(
            ("case", argument),
            [
                (case, number)
                for index, case in enumerate(names)
                for number in (
                    [*several, *always]
                    if FULL or (reference and case == first)
                    else [several[(place + index) % len(several)], *always]
                )
            ],
        )
        return
    if "kind" not in metafunc.fixturenames:
        metafunc.parametrize("case", names)
        return
    pairs = [(case, kind) for case in names for kind in KINDS]
    if not FULL:
        kinds = KINDS[place % 2 :] + KINDS[: place % 2]
        of_first = ["complex"] if law in COSTLY else KINDS if reference or law in BOTH else kinds[:1]
        others = [] if law in COSTLY else in_turn(names[1:], kinds[::-1], 1)
        pairs = [(first, kind) for kind in of_first] + others
    metafunc.parametrize(("case", "kind"), pairs)
