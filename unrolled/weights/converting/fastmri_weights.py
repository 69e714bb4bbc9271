"""Networks of fastMRI: the U-Net that reconstructs magnitude images."""

import re
from dataclasses import replace

from unrolled.networks import AdjointStart, ComposedNetwork, ProximalGradientPhase, UNet
from unrolled.operators import Identity, LinearOperator
from unrolled.weights.converting.denoiser_weights import inside, read_as
from unrolled.weights.converting.foreign_files import ForeignWeights
from unrolled.weights.converting.key_mapping import fill_from, kept, placed
from unrolled.weights.limits import at_most
from unrolled.weights.priors_of_others import from_fastmri_unet

FIGURES = re.compile(r"(NMSE|SSIM|PSNR|ValLoss|TotExamples|TotSliceExamples)\..*|loss\..*")
"""Names in checkpoints of its training that are no weights: sums of figures, and the window of its loss."""


def fastmri_unet(weights: ForeignWeights, *, normalized: bool = True) -> tuple[ComposedNetwork, LinearOperator]:
    """The U-Net as a network that improves an image.

    Parameters
    ----------
    weights : ForeignWeights
    normalized : bool
        whether the network takes off the mean of an image and divides it by its standard deviation, and undoes both in
        the end, as fastMRI's data transform does before it and its program for inference after it.
    """
    weights = network_alone(weights, "unet.")
    with read_as("U-Net", weights):
        options, tensors = from_fastmri_unet(weights.tensors)
        channels = tensors["last.weight"].shape[0]
    with at_most(weights.tensors, weights.length):
        prior = UNet(**options, normalized=normalized, channels=channels)
        network = ComposedNetwork(ProximalGradientPhase(prior), 1, start=AdjointStart())
    origins = {**placed(tensors, "phases.0.prior."), "phases.0.data_step.raw_weight": kept("step", 1.0)}
    fill_from(network, origins, weights, (".*",))
    return network, Identity()


def network_alone(weights: ForeignWeights, prefix: str) -> ForeignWeights:
    """The weights with the names that the network itself has, also of a checkpoint of its training.

    There a name stands before them, and what is no weight, which is left out, beside them.
    """
    others = [key for key in weights.tensors if not key.startswith(prefix) and not FIGURES.fullmatch(key)]
    return weights if others else replace(weights, tensors=inside(weights, prefix))
