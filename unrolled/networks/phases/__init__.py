"""One iteration of an algorithm, with a learned prior and a data step in it."""

from unrolled.networks.phases.algorithm_phase import AlgorithmPhase
from unrolled.networks.phases.data_consistency import DataConsistencyPhase
from unrolled.networks.phases.learned_primal_dual_phase import LearnedPrimalDualPhase
from unrolled.networks.phases.phase import FeatureMaps, Images, Measurements, Phase, State, Step
from unrolled.networks.phases.proximal_gradient import ProximalGradientPhase
from unrolled.networks.phases.recurrent import RecurrentPhase

__all__ = [
    "AlgorithmPhase",
    "DataConsistencyPhase",
    "FeatureMaps",
    "Images",
    "LearnedPrimalDualPhase",
    "Measurements",
    "Phase",
    "ProximalGradientPhase",
    "RecurrentPhase",
    "State",
    "Step",
]
