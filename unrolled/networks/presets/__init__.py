"""Networks by their names: a phase, a prior and a start, joined as a paper joins them."""

from unrolled.networks.presets.end_to_end_varnet import EndToEndVarNet
from unrolled.networks.presets.epgn import EPGN
from unrolled.networks.presets.ista_net_plus import ISTANetPlus
from unrolled.networks.presets.modl import MoDL
from unrolled.networks.presets.original_ista_net_plus import OriginalISTANetPlus

__all__ = ["EPGN", "EndToEndVarNet", "ISTANetPlus", "MoDL", "OriginalISTANetPlus", "VariationalNetwork"]
from unrolled.networks.presets.variational_network import VariationalNetwork
