"""The task of reconstruction: images are measured, the network gives them back."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unrolled import weights
from unrolled.data import Batches
from unrolled.description import describe
from unrolled.metrics import psnr
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.training.distributed import in_shards
from unrolled.training.task import Task

Loss = Callable[[Tensor, Tensor], Tensor]


class Reconstructor(nn.Module):
    """A network and its operator as one model, so that both are trained, averaged and moved together."""

    def __init__(self, network: UnrolledNetwork, operator: LinearOperator):
        super().__init__()
        self.network, self.operator = network, operator

    def forward(self, x: Tensor) -> Tensor:
        """Measure the images x and reconstruct them."""
        return self.network(self.operator(x), self.operator)


class ReconstructionTask(Task):
    """Reconstruct images from their own measurements.

    Parameters
    ----------
    network, operator
    batches : Batches
        of training images.
    validation : sequence of Tensor, each (channel, height, width) in [0, 1]
        held-out images of sizes that the operator can measure; never those of a test set.
    loss : callable (reconstruction, truth) → scalar, optional
        your own loss; by default that of the network, the mean squared error and what the network adds to it.
    device : torch.device, optional
    """

    score = "psnr"

    def __init__(
        self,
        network: UnrolledNetwork,
        operator: LinearOperator,
        batches: Batches,
        validation: Sequence[Tensor],
        loss: Loss | None = None,
        device: torch.device | None = None,
    ):
        if not validation:
            raise ValueError("validation: needs at least one image")
        self.device = torch.device("cpu") if device is None else device
        self.model: Reconstructor = Reconstructor(network, operator).to(  # type: ignore[call-overload]
            self.device, memory_format=torch.channels_last
        )
        self.batches, self.own_loss = batches, loss
        self.validation = [image.unsqueeze(0).to(self.device) for image in validation]
        self.epoch = len(batches)

    @property
    def sparsified(self) -> nn.Module:
        return self.model.network

    def example(self) -> tuple[Tensor, LinearOperator]:
        operator = self.model.operator
        return operator(self.validation[0]), operator

    def batch(self, step: int, size: int, part: range | None = None) -> Tensor:
        return self.batches.batch(step, size, part).to(self.device, non_blocking=True)

    def loss(self, model: nn.Module, batch: Tensor, step: int) -> Tensor:
        assert isinstance(model, Reconstructor)
        if self.own_loss is not None:
            return self.own_loss(model(batch), batch)
        return model.network.loss(batch, model.operator(batch), model.operator)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """The mean PSNR over the validation images, and that of the network's start."""
        assert isinstance(model, Reconstructor)
        network, operator = model.network, model.operator

        def figures(x: Tensor) -> tuple[float, float]:
            y = operator(x)
            return float(psnr(network(y, operator), x)), float(psnr(network.start(y, operator), x))

        score, start = zip(*in_shards(figures, self.validation), strict=True)
        return {"psnr": sum(score) / len(score), "start_psnr": sum(start) / len(start)}

    def save(self, model: nn.Module, path: Path, card: dict[str, Any]) -> None:
        assert isinstance(model, Reconstructor)
        weights.save(path, model.network, model.operator, card)

    def facts(self) -> dict[str, str]:
        model = self.model
        first = self.batches.batch(0, 1).cpu().numpy().tobytes()
        return {
            "network": _recipe(model.network),
            "operator": _recipe(model.operator),
            "data": f"{len(self.batches)} samples, the first with the hash {hashlib.sha256(first).hexdigest()[:12]}",
        }


def _recipe(thing: Any) -> str:
    return json.dumps(describe(thing), default=lambda value: type(value).__name__)
