"""That every prior is under the laws."""

import importlib
from pathlib import Path

from tests.helpers import concrete_subclasses
from tests.networks.priors.laws import PriorLaws
from unrolled.networks import MapPrior, ModulePrior


def test_every_prior_has_laws():
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        importlib.import_module(f"tests.networks.priors.{path.stem}")
    tested = {law.prior_class for law in PriorLaws.__subclasses__() if "cases" in vars(law)}
    assert tested | {ModulePrior} >= set(concrete_subclasses(MapPrior))
