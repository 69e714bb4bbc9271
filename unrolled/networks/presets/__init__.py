"""Networks by their names: a phase, a prior and a start, joined as a paper joins them."""

from unrolled.networks.presets.admm_net import ADMMNet
from unrolled.networks.presets.deep_equilibrium import DeepEquilibrium
from unrolled.networks.presets.end_to_end_varnet import EndToEndVarNet
from unrolled.networks.presets.epgn import EPGN
from unrolled.networks.presets.feature_pgn import FeaturePGN
from unrolled.networks.presets.fista_net import FISTANet
from unrolled.networks.presets.hqs_net import HQSNet
from unrolled.networks.presets.ista_net_plus import ISTANetPlus
from unrolled.networks.presets.learned_primal_dual import LearnedPrimalDual
from unrolled.networks.presets.modl import MoDL
from unrolled.networks.presets.recurrent_inference_machine import RecurrentInferenceMachine
from unrolled.networks.presets.variational_network import VariationalNetwork

__all__ = [
    "EPGN",
    "ADMMNet",
    "DeepEquilibrium",
    "EndToEndVarNet",
    "FISTANet",
    "FeaturePGN",
    "HQSNet",
    "ISTANetPlus",
    "LearnedPrimalDual",
    "MoDL",
    "RecurrentInferenceMachine",
    "VariationalNetwork",
]
