"""One iteration of an algorithm, with a learned prior and a data step in it."""

from unrolled.networks.phases.accelerated_proximal_gradient import AcceleratedProximalGradientPhase
from unrolled.networks.phases.admm import ADMMPhase
from unrolled.networks.phases.algorithm_phase import AlgorithmPhase
from unrolled.networks.phases.data_consistency import DataConsistencyPhase
from unrolled.networks.phases.extra_proximal_gradient import ExtraProximalGradientPhase
from unrolled.networks.phases.feature_gradient import FeatureGradientPhase
from unrolled.networks.phases.half_quadratic import HalfQuadraticPhase
from unrolled.networks.phases.learned_primal_dual_phase import LearnedPrimalDualPhase
from unrolled.networks.phases.phase import FeatureMaps, Images, Measurements, Phase, State, Step
from unrolled.networks.phases.primal_dual import PrimalDualPhase
from unrolled.networks.phases.proximal_gradient import ProximalGradientPhase
from unrolled.networks.phases.recurrent import RecurrentPhase
from unrolled.networks.phases.soft_consistency import SoftConsistencyPhase
from unrolled.networks.phases.variational_phase import VariationalPhase

__all__ = [
    "ADMMPhase",
    "AcceleratedProximalGradientPhase",
    "AlgorithmPhase",
    "DataConsistencyPhase",
    "ExtraProximalGradientPhase",
    "FeatureGradientPhase",
    "FeatureMaps",
    "HalfQuadraticPhase",
    "Images",
    "LearnedPrimalDualPhase",
    "Measurements",
    "Phase",
    "PrimalDualPhase",
    "ProximalGradientPhase",
    "RecurrentPhase",
    "SoftConsistencyPhase",
    "State",
    "Step",
    "VariationalPhase",
]
