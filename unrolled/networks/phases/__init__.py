"""One iteration of an algorithm, with a learned prior and a data step in it."""

from unrolled.networks.phases.algorithm_phase import AlgorithmPhase
from unrolled.networks.phases.data_consistency import DataConsistencyPhase
from unrolled.networks.phases.phase import FeatureMaps, Images, Measurements, Phase, State, Step
from unrolled.networks.phases.proximal_gradient import ProximalGradientPhase
from unrolled.networks.phases.relaxed_admm import RelaxedADMMPhase
from unrolled.networks.phases.soft_consistency import SoftConsistencyPhase
from unrolled.networks.phases.variational_phase import VariationalPhase

__all__ = [
    "AlgorithmPhase",
    "DataConsistencyPhase",
    "FeatureMaps",
    "Images",
    "Measurements",
    "Phase",
    "ProximalGradientPhase",
    "RelaxedADMMPhase",
    "SoftConsistencyPhase",
    "State",
    "Step",
    "VariationalPhase",
]
