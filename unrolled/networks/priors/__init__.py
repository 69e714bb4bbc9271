"""Learned priors: maps from images to images, which stand where an algorithm has a proximal map or a denoiser."""

from unrolled.networks.priors.drunet import DRUNet
from unrolled.networks.priors.fields_of_experts import FieldsOfExperts
from unrolled.networks.priors.half_resolution_prior import HalfResolutionPrior
from unrolled.networks.priors.map_prior import MapPrior
from unrolled.networks.priors.module_prior import ModulePrior, as_prior
from unrolled.networks.priors.prior import Prior
from unrolled.networks.priors.residual_cnn import ResidualCNN
from unrolled.networks.priors.sparsifying_prior import SparsifyingPrior
from unrolled.networks.priors.symmetric_prior import SymmetricPrior
from unrolled.networks.priors.unet import UNet
from unrolled.networks.priors.window_attention_prior import WindowAttentionPrior

__all__ = [
    "DRUNet",
    "FieldsOfExperts",
    "HalfResolutionPrior",
    "MapPrior",
    "ModulePrior",
    "Prior",
    "ResidualCNN",
    "SparsifyingPrior",
    "SymmetricPrior",
    "UNet",
    "WindowAttentionPrior",
    "as_prior",
]
