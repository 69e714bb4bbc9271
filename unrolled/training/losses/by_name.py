"""Losses by their names, and sums of them, as configs and `fit` take them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from torch import Tensor

from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.system.scalars import plain_number
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
from unrolled.training.losses.measurement_losses import SURE
from unrolled.training.losses.splitting_loss import SplittingLoss
from unrolled.training.losses.ssdu import SSDU

LOSSES: dict[str, type[Loss]] = {
    "mse": MSELoss,
    "l1": L1Loss,
    "log_mse": LogMSELoss,
    "huber": HuberLoss,
    "charbonnier": CharbonnierLoss,
    "ssim": SSIMLoss,
    "edges": EdgeLoss,
    "ssdu": SSDU,
    "splitting": SplittingLoss,
    "sure": SURE,
    "equivariant": EquivariantImaging,
}
"""By name, each with its defaults."""

PHASES = "phases"
"""Stands among the weights of a sum for the decay of `PhaseLoss`."""

LossOfImages = Callable[[Tensor, Tensor], Tensor]
"""(reconstruction, truth) ↦ scalar."""

LossGiven = Loss | LossOfImages | str | Mapping[str, float]
"""What `as_loss` makes a loss of."""


def as_loss(given: LossGiven | None) -> Loss | None:
    """The loss that is meant.

    Parameters
    ----------
    given :
        a name of `LOSSES`; weights of losses that compare images, {"mse": 1, "ssim": 0.1}, where "phases" is the decay
        of `PhaseLoss`; a `Loss`, or an object that is called as one and has `needs_truth`; a function (reconstruction,
        truth) ↦ scalar of your own, to which nothing is added; or None.

    Returns
    -------
    Loss, or None for None

    Raises
    ------
    ValueError
        for unknown names, weights that are negative or no numbers, and what is none of these.
    """
    if given is None or isinstance(given, Loss):
        return given
    if isinstance(given, str):
        return _class(given)()
    if isinstance(given, Mapping):
        return _sum(given)
    if isinstance(given, type) or not callable(given):
        raise ValueError(f"loss: must be one of {_names()}, weights of them, a Loss or a function, got {given!r:.200}")
    return cast(Loss, given) if hasattr(given, "needs_truth") else OwnLoss(given)


def _sum(given: Mapping[str, float]) -> Loss:
    weights = {name: plain_number(f"loss: {name}", value, float) for name, value in given.items()}
    decay = weights.pop(PHASES, None)
    parts: list[ImageLoss] = []
    for name in weights:
        loss = _class(name)()
        if not isinstance(loss, ImageLoss):
            raise ValueError(f"loss: sums are of losses that compare images, and {name!r} learns from measurements")
        parts.append(loss)
    if not parts:
        raise ValueError(f"loss: must have at least one of {_names(ImageLoss)} with a weight, got {dict(given)!r}")
    total = WeightedSum(parts, list(weights.values()))
    return total if decay is None else PhaseLoss(total, decay)


def _class(name: Any) -> type[Loss]:
    if name not in LOSSES:
        raise ValueError(f"loss: must be one of {_names()}, or a class, got {name!r:.200}")
    return LOSSES[name]


def _names(base: type = Loss) -> str:
    return ", ".join(name for name, cls in LOSSES.items() if issubclass(cls, base))


@dataclass(frozen=True)
class OwnLoss(Loss):
    """A function of reconstruction and truth: what it returns, and nothing else.

    Parameters
    ----------
    function : callable (reconstruction, truth) ↦ scalar
    """

    function: LossOfImages

    needs_truth: ClassVar[bool] = True

    def __call__(
        self,
        network: UnrolledNetwork,
        y: Tensor,
        operator: LinearOperator,
        truth: Tensor | None = None,
        *,
        noise: float | Tensor | None = None,
    ) -> Tensor:
        if truth is None:
            raise ValueError(f"loss: {self.function!r:.200} needs the true images, got None")
        told = {"noise": noise} if network.takes_noise and noise is not None else {}
        return self.function(network(y, operator, **told), truth)
