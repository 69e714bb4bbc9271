"""Networks of deepinv: a denoiser alone, and algorithms that it unfolds with denoisers in them."""

from typing import Literal, get_args

import torch
from torch import Tensor

from unrolled.networks import (
    AdjointStart,
    ComposedNetwork,
    GradientStep,
    Phase,
    ProximalGradientPhase,
    ProximalStep,
    RelaxedADMMPhase,
)
from unrolled.operators import Identity, LinearOperator
from unrolled.weights.converting.denoiser_weights import Denoiser, denoiser_in, dncnn, drunet, unet
from unrolled.weights.converting.foreign_files import ForeignWeights
from unrolled.weights.converting.key_mapping import (
    From,
    before_softplus,
    counted,
    fill_from,
    kept,
    listed,
    made_of,
    placed,
)

Algorithm = Literal["PGD", "HQS", "ADMM"]

SEEN = (r"init_params_algo\..*", r"params_algo\.(lambda|beta)\..*", r"prior\.\d+\.denoiser\..*")
"""Names under which their networks keep the same numbers a second time, those of numbers that nothing depends on (λ
with denoisers, β but in ADMM), and those that denoisers are read by."""

PARAMETERS = ("stepsize", "g_param")
"""The numbers of an algorithm that a phase has here: its step, and the noise level that its denoiser is told."""


def deepinv_dncnn(weights: ForeignWeights) -> tuple[ComposedNetwork, LinearOperator]:
    """DnCNN as a network that denoises."""
    return _alone(weights, dncnn(weights))


def deepinv_drunet(
    weights: ForeignWeights, *, noise_range: tuple[float, float] = (0.0, 0.2)
) -> tuple[ComposedNetwork, LinearOperator]:
    """DRUNet as a network that denoises, and is told the noise level.

    Parameters
    ----------
    weights : ForeignWeights
    noise_range : (low, high), 0 <= low < high
        the noise levels that it was trained for, where white is 1; not told any, it takes the lowest.
    """
    return _alone(weights, drunet(weights), noise_range)


def deepinv_unet(
    weights: ForeignWeights, *, residual: bool = True, circular: bool = False
) -> tuple[ComposedNetwork, LinearOperator]:
    """U-Net as a network that denoises.

    Parameters
    ----------
    weights : ForeignWeights
    residual, circular : bool
        as it was made there, with residual=… and circular_padding=…, which no file tells.
    """
    return _alone(weights, unet(weights, "", residual, circular))


def _alone(
    weights: ForeignWeights, denoiser: Denoiser, noise_range: tuple[float, float] | None = None
) -> tuple[ComposedNetwork, LinearOperator]:
    """A denoiser as a network of one phase, whose data step changes nothing where the start is what was measured."""
    with made_of(weights):
        prior = denoiser.make(1.0, [] if noise_range is None else [noise_range])
        network = ComposedNetwork(ProximalGradientPhase(prior), 1, start=AdjointStart(), noise_range=noise_range)
    origins = placed(denoiser.tensors, "phases.0.prior.")
    fill_from(network, {**origins, "phases.0.data_step.raw_weight": kept("step", 1.0)}, weights, (".*",))
    return network, Identity()


def deepinv_unfolded(
    weights: ForeignWeights,
    *,
    algorithm: Algorithm = "PGD",
    operator: LinearOperator | None = None,
    phases: int | None = None,
    step: float | None = None,
    sigma: float | None = None,
    residual: bool = True,
    circular: bool = False,
) -> tuple[ComposedNetwork, LinearOperator]:
    """An algorithm unfolded with denoisers (priors PnP) and the data fidelity L2, from Aᴴy.

    Parameters
    ----------
    weights : ForeignWeights
    algorithm : "PGD", "HQS" or "ADMM"
        which one it was, with g_first=False; no file tells it.
    operator : LinearOperator, optional
        by default Identity; any other may be used later.
    phases : int, optional
        max_iter, if neither steps nor denoisers are there of every phase.
    step : float > 0, optional
        stepsize, if it was not trained.
    sigma : float > 0, optional
        g_param or sigma_denoiser, if it was not trained and the denoiser is told it.
    residual, circular : bool
        see `deepinv_unet`.

    Raises
    ------
    ValueError
        if something is given that the file holds, or not given that it lacks.
    """
    if algorithm not in get_args(Algorithm):
        raise ValueError(f"algorithm: must be one of {', '.join(get_args(Algorithm))}, got {algorithm!r}")
    known = [*PARAMETERS, *(["beta"] if algorithm == "ADMM" else [])]
    counts = {name: counted(weights, rf"params_algo\.{name}\.(\d+)") for name in known}
    counts["prior"] = counted(weights, r"prior\.(\d+)\.denoiser\.")
    if not counts["prior"]:
        raise ValueError(
            f"weights: {weights.name} has no prior.0.denoiser, as unfolded algorithms of deepinv with a denoiser have; "
            f"it has {listed(sorted(weights.tensors))}"
        )
    for name, given, argument in (("stepsize", step, "step"), ("g_param", sigma, "sigma")):
        if counts[name] and given is not None:
            raise ValueError(f"{argument}: is in the file, as params_algo.{name}; leave it out")
    several = {count for count in counts.values() if count > 1}
    if len(several) > 1:
        raise ValueError(f"weights: {weights.name} has parts for {sorted(several)} phases, and they should be as many")
    length = next(iter(several), phases)
    if length is None or phases not in (None, length):
        raise ValueError(f"phases: must be {length or 'given, as the file does not tell them'}, got {phases!r}")
    denoisers = [
        denoiser_in(weights, f"prior.{number}.denoiser.", residual, circular) for number in range(counts["prior"])
    ]
    takes_level = denoisers[0].takes_level
    if not counts["stepsize"] and step is None:
        raise ValueError("step: must be given, as the file has no params_algo.stepsize: it was not trained")
    if takes_level and not counts["g_param"] and sigma is None:
        raise ValueError("sigma: must be given, as the file has no params_algo.g_param: it was not trained")
    if not takes_level and sigma is not None:
        raise ValueError("sigma: must be left out, for the denoiser is not told it")
    shared = not several
    origins: dict[str, From | Tensor] = {}
    for phase in range(1 if shared else length):
        own = {name: phase if count > 1 else 0 for name, count in counts.items()}
        prior = f"phases.{phase}.prior."
        origins |= placed(denoisers[own["prior"]].tensors, prior)
        name = f"params_algo.stepsize.{own['stepsize']}"
        weight = before_softplus(name if step is None else "step", inverse=algorithm != "PGD")
        origins[f"phases.{phase}.data_step.raw_weight"] = (
            From(name, weight) if step is None else weight(torch.tensor(step, dtype=torch.float64))
        )
        if algorithm == "ADMM":
            name = f"params_algo.beta.{own['beta']}"
            origins[f"phases.{phase}.raw_relaxation"] = (
                From(name, before_softplus(name)) if counts["beta"] else kept("beta", 1.0)
            )
        if takes_level:
            name = f"params_algo.g_param.{own['g_param']}"
            origins[f"{prior}raw_sigma"] = From(name, before_softplus(name)) if sigma is None else kept("sigma", sigma)
    ignored = [*SEEN, *([] if takes_level else [r"params_algo\.g_param\..*"])]
    with made_of(weights, copies=length):
        first = denoisers[0].make(sigma or 1.0, [])
        # All take a step on the data, and then the denoiser.
        first_phase: Phase = {
            "PGD": lambda: ProximalGradientPhase(first, GradientStep()),
            "HQS": lambda: ProximalGradientPhase(first, ProximalStep()),
            "ADMM": lambda: RelaxedADMMPhase(first, ProximalStep(), multipliers="start"),
        }[algorithm]()
        network = ComposedNetwork(first_phase, length, shared, start=AdjointStart())
    fill_from(network, origins, weights, ignored)
    return network, Identity() if operator is None else operator
