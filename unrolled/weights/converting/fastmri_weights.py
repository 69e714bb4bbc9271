"""Networks of fastMRI: the U-Net for magnitude images, and the end-to-end variational network for k-space."""

import re
from dataclasses import replace
from typing import Any

from torch import Tensor

from unrolled.networks import AdjointStart, ComposedNetwork, EndToEndVarNet, ProximalGradientPhase, UNet
from unrolled.operators import CartesianMask, Coils, Identity, LinearOperator, MultiCoilFourier
from unrolled.weights.converting.denoiser_weights import inside, read_as
from unrolled.weights.converting.foreign_files import ForeignWeights
from unrolled.weights.converting.key_mapping import From, before_softplus, counted, fill_from, kept, made_of, placed
from unrolled.weights.converting.priors_of_others import from_fastmri_unet

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
    with made_of(weights):
        prior = UNet(**options, normalized=normalized, channels=channels)
        network = ComposedNetwork(ProximalGradientPhase(prior), 1, start=AdjointStart())
    origins = {**placed(tensors, "phases.0.prior."), "phases.0.data_step.raw_weight": kept("step", 1.0)}
    fill_from(network, origins, weights, (".*",))
    return network, Identity()


def fastmri_varnet(
    weights: ForeignWeights, *, operator: LinearOperator | None = None
) -> tuple[EndToEndVarNet, LinearOperator]:
    """The end-to-end VarNet, with the network that estimates the maps of the coils.

    Its `magnitude` is what that of fastMRI returns.

    Parameters
    ----------
    weights : ForeignWeights
    operator : LinearOperator, optional
        by default of columns at acceleration 4 of 320 × 320 frequencies by 8 coils. Any other may be used later: the
        network takes its mask, and no maps.
    """
    weights = network_alone(weights, "varnet.")
    phases = counted(weights, r"cascades\.(\d+)\.")
    parts = {f"phases.{phase}.prior.": f"cascades.{phase}.model.unet." for phase in range(phases)}
    parts["maps.prior."] = "sens_net.norm_unet.unet."
    made: dict[str, dict[str, Any]] = {}
    origins: dict[str, From | Tensor] = {}
    for ours, theirs in parts.items():
        with read_as("U-Net", weights, theirs):
            made[ours], tensors = from_fastmri_unet(inside(weights, theirs))
            if tensors["last.weight"].shape[0] != 2:
                raise ValueError(f"must be for a real and an imaginary part, got {len(tensors['last.weight'])} maps")
        origins |= placed(tensors, ours)
    for phase in range(phases):
        name = f"cascades.{phase}.dc_weight"
        origins[f"phases.{phase}.step.raw_weight"] = From(name, before_softplus(name))
    (features, scales), (map_features, map_scales) = (
        _doubled(weights, made[part]) for part in ("phases.0.prior.", "maps.prior.")
    )
    with made_of(weights):
        network = EndToEndVarNet(
            phases, features, scales, map_features, map_scales, residual=False, complex_images=True
        )
    fill_from(network, origins, weights, [f"{re.escape(theirs)}.*" for theirs in parts.values()])
    if operator is None:
        operator = MultiCoilFourier(Coils(8), CartesianMask(), 320, 320, centered=True)
    return network, operator


def _doubled(weights: ForeignWeights, options: dict[str, Any]) -> tuple[int, int]:
    """The maps at the size of the image, and how many times it is halved: of all U-Nets in a VarNet they are doubled.

    Raises
    ------
    ValueError
        if they are not.
    """
    features, scales = options["features"], options["scales"]
    if features != [features[0] << scale for scale in range(scales + 1)]:
        raise ValueError(f"weights: {weights.name}: a U-Net must double its maps at every size, got {features}")
    return features[0], scales


def network_alone(weights: ForeignWeights, prefix: str) -> ForeignWeights:
    """The weights with the names that the network itself has, also of a checkpoint of its training.

    There a name stands before them, and what is no weight, which is left out, beside them.
    """
    others = [key for key in weights.tensors if not key.startswith(prefix) and not FIGURES.fullmatch(key)]
    return weights if others else replace(weights, tensors=inside(weights, prefix))
