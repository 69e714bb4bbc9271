"""Networks by their names: a phase, a prior and a start, joined as a paper joins them."""

from unrolled.networks.presets.admm_net import ADMMNet
from unrolled.networks.presets.deep_equilibrium import DeepEquilibrium
from unrolled.networks.presets.epgn import EPGN
from unrolled.networks.presets.fista_net import FISTANet
from unrolled.networks.presets.hqs_net import HQSNet
from unrolled.networks.presets.ista_net_plus import ISTANetPlus
from unrolled.networks.presets.modl import MoDL

__all__ = ["EPGN", "ADMMNet", "DeepEquilibrium", "FISTANet", "HQSNet", "ISTANetPlus", "MoDL"]
