"""Unrolled networks: x̂ = network(y, operator)."""

from unrolled.networks.block_start import BlockStart
from unrolled.networks.channelwise import apart, mean_square, per_channel, together
from unrolled.networks.composed import ComposedNetwork
from unrolled.networks.data_steps import DataStep, GradientStep, ProximalStep, gradient
from unrolled.networks.differentiation import Differentiation, Implicit, Recompute, Unroll
from unrolled.networks.phases import (
    AlgorithmPhase,
    DataConsistencyPhase,
    FeatureMaps,
    Images,
    Measurements,
    Phase,
    ProximalGradientPhase,
    RelaxedADMMPhase,
    SoftConsistencyPhase,
    VariationalPhase,
)
from unrolled.networks.positive_numbers import positive
from unrolled.networks.presets import EPGN, EndToEndVarNet, ISTANetPlus, MoDL, OriginalISTANetPlus, VariationalNetwork
from unrolled.networks.priors import DRUNet, FieldsOfExperts, MapPrior, ModulePrior, Prior, ResidualCNN, UNet, as_prior
from unrolled.networks.sensitivities import SensitivityNetwork
from unrolled.networks.starts import AdjointStart, ConjugateGradientStart, LinearStart, Start
from unrolled.networks.unrolled import UnrolledNetwork

__all__ = [
    "EPGN",
    "AdjointStart",
    "AlgorithmPhase",
    "BlockStart",
    "ComposedNetwork",
    "ConjugateGradientStart",
    "DRUNet",
    "DataConsistencyPhase",
    "DataStep",
    "Differentiation",
    "EndToEndVarNet",
    "FeatureMaps",
    "FieldsOfExperts",
    "GradientStep",
    "ISTANetPlus",
    "Images",
    "Implicit",
    "LinearStart",
    "MapPrior",
    "Measurements",
    "MoDL",
    "ModulePrior",
    "OriginalISTANetPlus",
    "Phase",
    "Prior",
    "ProximalGradientPhase",
    "ProximalStep",
    "Recompute",
    "RelaxedADMMPhase",
    "ResidualCNN",
    "SensitivityNetwork",
    "SoftConsistencyPhase",
    "Start",
    "UNet",
    "Unroll",
    "UnrolledNetwork",
    "VariationalNetwork",
    "VariationalPhase",
    "apart",
    "as_prior",
    "gradient",
    "mean_square",
    "per_channel",
    "positive",
    "together",
]
