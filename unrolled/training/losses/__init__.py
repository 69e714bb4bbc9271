"""What training minimises: with the true images, or with measurements alone."""

from unrolled.training.losses.by_name import LOSSES, LossGiven, as_loss
from unrolled.training.losses.equivariance import EquivariantImaging
from unrolled.training.losses.image_losses import (
    CharbonnierLoss,
    EdgeLoss,
    HuberLoss,
    ImageLoss,
    L1Loss,
    LogMSELoss,
    MSELoss,
    PhaseLoss,
    SSIMLoss,
    WeightedSum,
)
from unrolled.training.losses.loss import Loss
from unrolled.training.losses.measurement_losses import PURE, SURE, ConsistencyLoss, MeasurementLoss
from unrolled.training.losses.splitting_loss import SplittingLoss
from unrolled.training.losses.ssdu import SSDU

__all__ = [
    "LOSSES",
    "PURE",
    "SSDU",
    "SURE",
    "CharbonnierLoss",
    "ConsistencyLoss",
    "EdgeLoss",
    "EquivariantImaging",
    "HuberLoss",
    "ImageLoss",
    "L1Loss",
    "LogMSELoss",
    "Loss",
    "LossGiven",
    "MSELoss",
    "MeasurementLoss",
    "PhaseLoss",
    "SSIMLoss",
    "SplittingLoss",
    "WeightedSum",
    "as_loss",
]
