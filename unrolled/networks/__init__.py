"""Unrolled networks: x̂ = network(y, operator)."""

from unrolled.networks.channelwise import apart, mean_square, per_channel, together
from unrolled.networks.composed import ComposedNetwork
from unrolled.networks.data_steps import DataStep, GradientStep, ProximalStep, gradient
from unrolled.networks.differentiation import Differentiation, Implicit, Recompute, Unroll
from unrolled.networks.phases import (
    AlgorithmPhase,
    DataConsistencyPhase,
    FeatureMaps,
    Images,
    LearnedPrimalDualPhase,
    Measurements,
    Phase,
    ProximalGradientPhase,
    RecurrentPhase,
)
from unrolled.networks.positive_numbers import positive
from unrolled.networks.presets import (
    ALISTA,
    EPGN,
    LISTA,
    DictionaryNetwork,
    ISTANetPlus,
    LearnedPrimalDual,
    MoDL,
    RecurrentInferenceMachine,
)
from unrolled.networks.priors import MapPrior, ModulePrior, Prior, ResidualCNN, as_prior
from unrolled.networks.starts import AdjointStart, ConjugateGradientStart, LinearStart, Start, ZeroStart
from unrolled.networks.unrolled import UnrolledNetwork

__all__ = [
    "ALISTA",
    "EPGN",
    "LISTA",
    "AdjointStart",
    "AlgorithmPhase",
    "ComposedNetwork",
    "ConjugateGradientStart",
    "DataConsistencyPhase",
    "DataStep",
    "DictionaryNetwork",
    "Differentiation",
    "FeatureMaps",
    "GradientStep",
    "ISTANetPlus",
    "Images",
    "Implicit",
    "LearnedPrimalDual",
    "LearnedPrimalDualPhase",
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
    "RecurrentInferenceMachine",
    "RecurrentPhase",
    "ResidualCNN",
    "Start",
    "Unroll",
    "UnrolledNetwork",
    "ZeroStart",
    "apart",
    "as_prior",
    "gradient",
    "mean_square",
    "per_channel",
    "positive",
    "together",
]
