"""ISTA-Net+ built with deepinv (`pip install 'unrolled[compare]'`): its unfolded proximal gradient, equal denoisers."""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.plain import Plain, PlainISTAPhase
from unrolled.operators import LinearOperator
from unrolled.vision import import_torchvision


class _Denoiser(nn.Module):
    """The learned proximal map of a plain phase as deepinv wants it."""

    def __init__(self, phase: PlainISTAPhase):
        super().__init__()
        self.phase = phase

    def forward(self, x: Tensor, sigma: Any = None, **_: Any) -> Tensor:
        return self.phase.denoise(x)


class DeepinvISTA(nn.Module):
    """deepinv's PGD, unfolded, on our operator, from our start."""

    def __init__(self, plain: Plain, operator: LinearOperator):
        import_torchvision()  # which deepinv imports
        import deepinv
        from deepinv.optim import L2, PGD, PnP

        super().__init__()
        self.start = plain.start
        self.physics = deepinv.physics.LinearPhysics(A=operator, A_adjoint=operator.adjoint)
        self.model = PGD(
            data_fidelity=L2(),
            prior=[PnP(denoiser=_Denoiser(phase)) for phase in plain.phases],
            stepsize=[float(torch.nn.functional.softplus(phase.raw_step.detach())) for phase in plain.phases],
            g_param=[0.0] * len(plain.phases),
            max_iter=len(plain.phases),
            custom_init=lambda y, physics: plain.start(y, operator),
            unfold=True,
        )

    def forward(self, y: Tensor, operator: LinearOperator) -> Tensor:
        return self.model(y, self.physics)

    def loss(self, x: Tensor, y: Tensor, operator: LinearOperator) -> Tensor:
        return (self(y, operator) - x).square().mean()
