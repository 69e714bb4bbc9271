"""Unrolled networks: x̂ = network(y, operator)."""

from unrolled.networks.channelwise import apart, mean_square, per_channel, together
from unrolled.networks.composed import ComposedNetwork
from unrolled.networks.data_steps import DataStep, GradientStep, ProximalStep, gradient
from unrolled.networks.differentiation import Differentiation, Implicit, Recompute, Unroll
from unrolled.networks.phases import (
    AlgorithmPhase,
    DataConsistencyPhase,
    FeatureGradientPhase,
    FeatureMaps,
    Images,
    Measurements,
    Phase,
    ProximalGradientPhase,
    SoftConsistencyPhase,
    VariationalPhase,
)
from unrolled.networks.positive_numbers import positive
from unrolled.networks.presets import EPGN, EndToEndVarNet, FeaturePGN, ISTANetPlus, MoDL, VariationalNetwork
from unrolled.networks.priors import (
    DRUNet,
    FieldsOfExperts,
    HalfResolutionPrior,
    MapPrior,
    ModulePrior,
    Prior,
    ResidualCNN,
    SparsifyingPrior,
    SymmetricPrior,
    UNet,
    WindowAttentionPrior,
    as_prior,
)
from unrolled.networks.sensitivities import SensitivityNetwork
from unrolled.networks.starts import AdjointStart, ConjugateGradientStart, LinearStart, Start
from unrolled.networks.unrolled import UnrolledNetwork

__all__ = [
    "EPGN",
    "AdjointStart",
    "AlgorithmPhase",
    "ComposedNetwork",
    "ConjugateGradientStart",
    "DRUNet",
    "DataConsistencyPhase",
    "DataStep",
    "Differentiation",
    "EndToEndVarNet",
    "FeatureGradientPhase",
    "FeatureMaps",
    "FeaturePGN",
    "FieldsOfExperts",
    "GradientStep",
    "HalfResolutionPrior",
    "ISTANetPlus",
    "Images",
    "Implicit",
    "LinearStart",
    "MapPrior",
    "Measurements",
    "MoDL",
    "ModulePrior",
    "Phase",
    "Prior",
    "ProximalGradientPhase",
    "ProximalStep",
    "Recompute",
    "ResidualCNN",
    "SensitivityNetwork",
    "SoftConsistencyPhase",
    "SparsifyingPrior",
    "Start",
    "SymmetricPrior",
    "UNet",
    "Unroll",
    "UnrolledNetwork",
    "VariationalNetwork",
    "VariationalPhase",
    "WindowAttentionPrior",
    "apart",
    "as_prior",
    "gradient",
    "mean_square",
    "per_channel",
    "positive",
    "together",
]
