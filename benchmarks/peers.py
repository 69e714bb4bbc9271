"""The same things by other libraries (`pip install 'unrolled[compare]'`).

ISTA-Net+ built with deepinv: its unfolded proximal gradient, equal denoisers. Proximal maps of skglm and pyproximal.
Sparsifying by torch itself, Torch-Pruning and torchao.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.plain import Plain, PlainISTAPhase
from unrolled.operators import LinearOperator
from unrolled.penalties import L0, L1, MCP, SCAD, ElasticNet, Exponential, Geman, LogSum, Lp, SeparablePenalty
from unrolled.system import import_torchvision


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


ArrayMap = Callable[[np.ndarray], np.ndarray]


def proximal_maps(step: float) -> dict[str, tuple[SeparablePenalty, dict[str, ArrayMap]]]:
    """Penalties that other libraries have too: by name the penalty here, and its proximal map by each library."""
    import pyproximal as pp
    from skglm import penalties as sk

    return {
        "L1": (L1(), {"skglm": _skglm(sk.L1(1.0), step), "pyproximal": _pyproximal(pp.L1(), step)}),
        "L0": (L0(), {"pyproximal": _pyproximal(pp.L0(), math.sqrt(2 * step))}),  # which takes the threshold
        "ElasticNet": (ElasticNet(0.9), {"skglm": _skglm(sk.L1_plus_L2(1.0, 0.9), step)}),
        "MCP": (MCP(1.0, 2.0), {"skglm": _skglm(sk.MCPenalty(1.0, 2.0), step)}),
        "SCAD": (
            SCAD(1.0, 3.7),
            {"skglm": _skglm(sk.SCAD(1.0, 3.7), step), "pyproximal": _pyproximal(pp.SCAD(1.0, 3.7), step)},
        ),
        "LogSum": (
            LogSum(1.0),
            {
                "skglm": _skglm(sk.LogSumPenalty(1.0, 1.0), step),
                "pyproximal": _pyproximal(pp.Log(math.log(2.0), 1.0), step),
            },
        ),
        "Lp(1/2)": (Lp(1 / 2), {"skglm": _skglm(sk.L0_5(1.0), step)}),
        "Lp(2/3)": (Lp(2 / 3), {"skglm": _skglm(sk.L2_3(1.0), step)}),
        "Geman": (Geman(1.3), {"pyproximal": _pyproximal(pp.Geman(1.0, 1.3), step)}),
        "Exponential": (Exponential(1.0), {"pyproximal": _pyproximal(pp.ETP(1 - math.exp(-1.0), 1.0), step)}),
    }


def _skglm(penalty: Any, step: float) -> ArrayMap:
    """The loop over single numbers that skglm's solvers run, compiled for each type, into an array made once."""
    from skglm.utils.jit_compilation import compiled_clone
    from skglm.utils.prox_funcs import _prox_vec

    compiled = {kind: compiled_clone(penalty, kind is np.float32) for kind in (np.float32, np.float64)}
    made: dict[type, np.ndarray] = {}

    def run(v: np.ndarray) -> np.ndarray:
        kind = v.dtype.type
        made.setdefault(kind, np.empty_like(v))
        return _prox_vec(made[kind], v, compiled[kind], kind(step))

    return run


def _pyproximal(operator: Any, step: float) -> ArrayMap:
    return lambda v: operator.prox(v, step)


def sparsifiers(strength: float, example: Tensor) -> dict[str, Callable[[nn.Module], tuple[Any, Any]]]:
    """Other libraries' ways to sparsify: by name, a function of the model that gives what `sparsify.step_of` takes."""

    def nothing() -> Tensor:
        return torch.zeros(())

    def torch_masks(model: nn.Module) -> tuple[Any, Any]:
        from torch.nn.utils import prune

        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                prune.l1_unstructured(module, "weight", 0.5)
        return (nothing, lambda optimizer: None, []), None

    def batch_norm_scales(model: nn.Module) -> tuple[Any, Any]:
        import torch_pruning

        importance = torch_pruning.importance.BNScaleImportance()
        pruner = torch_pruning.pruner.BNScalePruner(model, example, importance, reg=strength)

        def wrap(optimizer: Any, model: nn.Module) -> Any:
            return _Before(optimizer, lambda: pruner.regularize(model))

        return (nothing, lambda optimizer: None, []), wrap

    def torchao(prox: str, groups: str) -> Callable[[nn.Module], tuple[Any, Any]]:
        def prepare(model: nn.Module) -> tuple[Any, Any]:
            from torchao.prototype.pat.optim import PruneOptimizer

            def wrap(optimizer: Any, model: nn.Module) -> Any:
                # Its groups have the options of the optimiser's own group, and what is to be done with them.
                (whole,) = optimizer.param_groups
                weights = [
                    module.weight
                    for module in model.modules()
                    if isinstance(module, nn.Conv2d) or (isinstance(module, nn.Linear) and groups == "ElemGrouper")
                ]
                chosen = {id(weight) for weight in weights}
                whole["params"] = [parameter for parameter in whole["params"] if id(parameter) not in chosen]
                options = {name: value for name, value in whole.items() if name != "params"}
                told = {"prox_type": prox, "group_type": groups, "reg_lambda": strength}
                optimizer.add_param_group({**options, **told, "params": weights})
                return PruneOptimizer(optimizer)

            return (nothing, lambda optimizer: None, []), wrap

        return prepare

    return {
        "half masked by torch.nn.utils.prune": torch_masks,
        "Torch-Pruning's BNScalePruner": batch_norm_scales,
        "torchao's PruneOptimizer, l1": torchao("ProxLasso", "ElemGrouper"),
        "torchao's PruneOptimizer, l1 of filters": torchao("ProxGroupLasso", "ConvFilterGrouper"),
    }


class _Before:
    """An optimiser before whose step something is done."""

    def __init__(self, optimizer: Any, before: Callable[[], Any]):
        self.optimizer, self.before = optimizer, before

    def step(self) -> None:
        self.before()
        self.optimizer.step()

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()
