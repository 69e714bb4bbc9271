"""Unrolled networks: x̂ = network(y, operator)."""

from unrolled.networks.channelwise import apart, mean_square, per_channel, together
from unrolled.networks.composed import ComposedNetwork
from unrolled.networks.data_steps import DataStep, DualStep, GradientStep, ProximalStep, WeightedStep, gradient
from unrolled.networks.differentiation import Differentiation, Implicit, Recompute, Unroll
from unrolled.networks.learned_start import LearnedStart
from unrolled.networks.phases import (
    AcceleratedProximalGradientPhase,
    ADMMPhase,
    AlgorithmPhase,
    DataConsistencyPhase,
    ExtraProximalGradientPhase,
    FeatureMaps,
    HalfQuadraticPhase,
    Images,
    Measurements,
    Phase,
    PrimalDualPhase,
    ProximalGradientPhase,
)
from unrolled.networks.positive_numbers import positive
from unrolled.networks.presets import EPGN, ADMMNet, DeepEquilibrium, FISTANet, HQSNet, ISTANetPlus, MoDL
from unrolled.networks.priors import MapPrior, ModulePrior, Prior, ResidualCNN, as_prior
from unrolled.networks.starts import AdjointStart, ConjugateGradientStart, LinearStart, Start
from unrolled.networks.unrolled import UnrolledNetwork

__all__ = [
    "EPGN",
    "ADMMNet",
    "ADMMPhase",
    "AcceleratedProximalGradientPhase",
    "AdjointStart",
    "AlgorithmPhase",
    "ComposedNetwork",
    "ConjugateGradientStart",
    "DataConsistencyPhase",
    "DataStep",
    "DeepEquilibrium",
    "Differentiation",
    "DualStep",
    "ExtraProximalGradientPhase",
    "FISTANet",
    "FeatureMaps",
    "GradientStep",
    "HQSNet",
    "HalfQuadraticPhase",
    "ISTANetPlus",
    "Images",
    "Implicit",
    "LearnedStart",
    "LinearStart",
    "MapPrior",
    "Measurements",
    "MoDL",
    "ModulePrior",
    "Phase",
    "PrimalDualPhase",
    "Prior",
    "ProximalGradientPhase",
    "ProximalStep",
    "Recompute",
    "ResidualCNN",
    "Start",
    "Unroll",
    "UnrolledNetwork",
    "WeightedStep",
    "apart",
    "as_prior",
    "gradient",
    "mean_square",
    "per_channel",
    "positive",
    "together",
]
