"""The cases and kinds that the laws of priors are tested of."""

from tests.networks.priors.laws import KINDS, PriorLaws
from tests.pairs import FULL, in_turn


def pytest_generate_tests(metafunc):
    """Every law of every case; a kind of images it is tested of in turn, or in the long run all."""
    law = metafunc.cls
    if law is None or not issubclass(law, PriorLaws) or "case" not in metafunc.fixturenames:
        return
    cases = list(law.cases)
    if "kind" not in metafunc.fixturenames:
        metafunc.parametrize("case", cases)
        return
    pairs = [(case, kind) for case in cases for kind in KINDS]
    some = [(cases[0], "complex"), *in_turn(cases, [kind for kind in KINDS if kind != "complex"], 1)]
    metafunc.parametrize(("case", "kind"), pairs if FULL else some)
