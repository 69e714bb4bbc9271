"""The networks that are compared, and their sizes.

Each is made as its class makes it by default in all but its sizes: those whose phases have weights of their own have
about .2 to .3 million of them; those that share one map among all phases have about half of that. The variational
network has few, for its learned activations take the time of many convolutions.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.comparison.problems import Problem
from unrolled.networks import (
    EPGN,
    ADMMNet,
    ComposedNetwork,
    DeepEquilibrium,
    EndToEndVarNet,
    FeaturePGN,
    FISTANet,
    HalfResolutionPrior,
    HQSNet,
    ISTANetPlus,
    LearnedPrimalDual,
    MoDL,
    OriginalISTANetPlus,
    ProximalGradientPhase,
    RecurrentInferenceMachine,
    Start,
    UnrolledNetwork,
    VariationalNetwork,
)
from unrolled.penalties import L1

CONFIGS = Path(__file__).parents[2] / "configs" / "networks"
RATE = 2.0e-3
"""The learning rate of a network that has no config."""


@dataclass(frozen=True)
class Entry:
    """A network to compare.

    Parameters
    ----------
    make : class or function
        of the network.
    sizes : dict
        its arguments.
    """

    make: Callable[..., UnrolledNetwork]
    sizes: dict[str, Any] = field(default_factory=dict)

    def network(self, problem: Problem) -> UnrolledNetwork:
        """The network for a problem: that every network begins with the same image is part of the problem."""
        known = inspect.signature(self.make).parameters
        given = {"complex_images": problem.complex_images, "start": problem.start()}
        return self.make(**self.sizes, **{name: value for name, value in given.items() if name in known})

    @property
    def rate(self) -> float:
        """The learning rate of its config."""
        config = CONFIGS / f"{self.make.__name__}.yaml"
        if not config.exists():
            return RATE
        return float(yaml.safe_load(config.read_text())["training"]["learning_rate"])


def half_resolution(
    phases: int, features: int, blocks: int, complex_images: bool = False, start: Start | None = None
) -> UnrolledNetwork:
    """Proximal gradient steps with residual blocks of shrinkages at half of the resolution."""
    prior = HalfResolutionPrior(features, blocks, L1(), complex_images=complex_images)
    return ComposedNetwork(ProximalGradientPhase(prior), phases, start=start, complex_images=complex_images)


ENTRIES = {
    "EPGN": Entry(EPGN, {"phases": 6, "features": 32}),
    "EPGN, plain": Entry(EPGN, {"phases": 6, "features": 32, "variant": "plain"}),
    "half resolution": Entry(half_resolution, {"phases": 6, "features": 32, "blocks": 2}),
    "FeaturePGN": Entry(FeaturePGN, {"phases": 6, "features": 32, "blocks": 2}),
    "ISTANetPlus": Entry(ISTANetPlus, {"phases": 6, "features": 32}),
    "OriginalISTANetPlus": Entry(OriginalISTANetPlus, {"phases": 6, "features": 32}),
    "FISTANet": Entry(FISTANet, {"phases": 6, "features": 64, "depth": 5}),
    "ADMMNet": Entry(ADMMNet, {"phases": 8, "features": 32, "depth": 5}),
    "HQSNet": Entry(HQSNet, {"phases": 6, "features": 64, "depth": 5}),
    "MoDL": Entry(MoDL, {"phases": 5, "features": 64, "depth": 5}),
    "LearnedPrimalDual": Entry(LearnedPrimalDual, {"phases": 8, "features": 32}),
    "VariationalNetwork": Entry(VariationalNetwork, {"phases": 6, "filters": 16, "size": 7, "functions": 31}),
    "EndToEndVarNet": Entry(
        EndToEndVarNet, {"phases": 4, "features": 6, "scales": 3, "map_features": 4, "map_scales": 3}
    ),
    "RecurrentInferenceMachine": Entry(RecurrentInferenceMachine, {"phases": 8, "features": 64}),
    "DeepEquilibrium": Entry(DeepEquilibrium, {"phases": 12, "features": 64, "depth": 5}),
}

LEFT_OUT = {
    "ALISTA": "for sparse codes of a dictionary",
    "DictionaryNetwork": "for sparse codes of a dictionary",
    "LISTA": "for sparse codes of a dictionary",
}
"""Networks with a name that are not compared, and why."""
