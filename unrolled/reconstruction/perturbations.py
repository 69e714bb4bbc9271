"""How a reconstruction holds up when the measurements are not those of training."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from unrolled.data.stores import to_float
from unrolled.metrics import shown_psnr
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.reconstruction.evaluation import named_images
from unrolled.reconstruction.pipeline import check_image, device_of, pad
from unrolled.solvers.methods import METHODS, classical
from unrolled.system.scalars import as_number, whole_number
from unrolled.system.scales import Scale
from unrolled.weights.chosen import resolve

Reconstruct = Callable[[Tensor, LinearOperator], Tensor]
NOISE = (0.0, 0.01, 0.02, 0.05, 0.1)
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5)
PERTURBATIONS = (0.0, 0.005, 0.01, 0.02, 0.05)


def robustness(
    network: UnrolledNetwork | str | Path,
    operator: LinearOperator | None,
    images: str | Path | dict[str, Any] | Sequence[Any],
    *,
    methods: Sequence[str] = ("wavelet-l1", "tv"),
    noise: Sequence[float] = NOISE,
    ratios: Sequence[float] = RATIOS,
    perturbations: Sequence[float] = PERTURBATIONS,
    steps: int = 8,
    seed: int = 0,
    scale: Scale | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """PSNR of a network and of classical methods when the measurements change.

    Four tests: white noise is added to the measurements (complex if they are); they are taken by other operators than
    in training, as many; by operators of other ratios; and they are moved a little in the direction that is worst for
    the method itself, found by gradient ascent on its squared error with ‖δ‖ <= ε‖y‖, from a random start.

    Classical methods know the operator, and for noise its level: their strength is the default plus what is usual
    against noise. The network is as it is, and told the noise level if it takes it.

    Parameters
    ----------
    network, operator
        as trained, or the name or file of weights, and None. Only noise and perturbations are tested if the operator
        knows no others of its kind (`alternatives` and `at_ratio`, as `MaskedFourier` and `BlockCompressedSensing` do).
    images
        as in `unrolled.evaluate`.
    methods : sequence of str
        classical methods to compare with, of `unrolled.solvers.methods.METHODS`.
    noise : sequence of float >= 0
        standard deviations, for images in which white is 1 and, of operators that the network brings to the norm 1,
        in parts of their norm; of complex measurements that of both parts together.
    ratios : sequence of float in (0, 1]
        numbers of measurements per pixel.
    perturbations : sequence of float >= 0
        norms ε of the worst cases, in parts of the measurements' norm.
    steps : int
        how many steps the ascent to a worst case takes.
    seed : int
        decides the noise, the other operators, and where the ascent starts.
    scale : float, (black, white), "max" or a percentile such as "99.5%", optional
        what white is in the images, as in `unrolled.evaluate`; it is PSNR's peak.
    progress : bool

    Returns
    -------
    dict
        for each of "noise", "operator", "ratio", "perturbation" a dict of "values" and, for "network" and every method,
        the mean PSNR in dB at each of them

    Raises
    ------
    ValueError
        for a wrong argument or image.
    """
    noise = _numbers("noise", noise, math.inf)
    ratios, perturbations = _numbers("ratios", ratios, 1, above=True), _numbers("perturbations", perturbations, 1)
    steps, seed = whole_number("steps:", steps), whole_number("seed:", seed, 0)
    network, operator = resolve(network, operator)
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"methods: must be of {', '.join(METHODS)}, got {method!r}")
    batch = []
    for name, image in named_images(images, scale):
        try:
            unit = to_float(image.read())
            check_image(unit, operator)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        batch.append(pad(unit.unsqueeze(0).to(device_of(network, operator)), operator.multiple))
    others = _others(operator, ratios, seed)
    tests: dict[str, list[Any]] = {"noise": list(noise), **{name: list(made) for name, made in others.items()}}
    tests["perturbation"] = list(perturbations)
    result: dict[str, Any] = {}
    total = sum(map(len, tests.values())) * len(batch)
    with tqdm(total=total, disable=not progress, unit="image", leave=False) as bar:
        for test, values in tests.items():
            rows: dict[str, list[float]] = {name: [] for name in ("network", *methods)}
            for value in values:
                measured_by = others[test][value] if test in others else operator
                scores: dict[str, list[float]] = {name: [] for name in rows}
                for index, x in enumerate(batch):
                    generator = torch.Generator().manual_seed(seed + index)
                    y = measured_by(x)
                    level = value if test == "noise" else 0.0
                    y = y + level * network.norm_of(measured_by) * _white(y, generator)
                    for name in rows:
                        run = _reconstruction(name, network, level)
                        noisy = y
                        if test == "perturbation" and value:
                            noisy = y + worst(run, measured_by, y, x, value * float(y.norm()), steps, generator)
                        with torch.no_grad():
                            found = run(noisy, measured_by)
                        scores[name].append(float(shown_psnr(_magnitude(found).cpu(), _magnitude(x).cpu())))
                    bar.update()
                for name, each in scores.items():
                    rows[name].append(sum(each) / len(each))
            result[test] = {"values": values, **rows}
    return result


def worst(
    run: Reconstruct,
    operator: LinearOperator,
    y: Tensor,
    x: Tensor,
    radius: float,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """A perturbation δ of the measurements, ‖δ‖ <= radius, that makes the error of a reconstruction large.

    By projected gradient ascent on ‖run(y + δ) − x‖² (Antun and others, PNAS 117, 2020), from noise of half the size;
    what the operator does not measure stays unmeasured. The best δ of all steps is returned.
    """
    delta = operator.sampled(_white(y, generator))
    delta = radius / 2 * delta / delta.norm()
    best, largest = delta, -math.inf
    for step in range(steps + 1):
        delta = delta.detach().requires_grad_()
        error = (run(y + delta, operator) - x).abs().square().sum()
        reached = float(error.detach())
        if reached > largest:
            best, largest = delta.detach(), reached
        if step == steps:
            break
        (slope,) = torch.autograd.grad(error, delta)
        slope = operator.sampled(slope)
        delta = delta.detach() + radius / 2 * slope / slope.norm().clamp(min=1e-30)
        delta = delta * min(1.0, radius / float(delta.norm()))
    return best


def _numbers(name: str, values: Any, high: float, above: bool = False) -> list[float]:
    """Numbers in [0, high], or in (0, high]."""
    found = [as_number(value) for value in values] if np.ndim(values) == 1 else [None]
    if any(value is None or not 0 <= value <= high or (above and value == 0) for value in found):
        raise ValueError(f"{name}: must be numbers in {'(' if above else '['}0, {high}], got {values!r}")
    return [value for value in found if value is not None]


def _reconstruction(name: str, network: UnrolledNetwork, level: float) -> Reconstruct:
    if name == "network":
        return partial(network, noise=level) if network.takes_noise else network
    if not level:
        return lambda y, operator: classical(name, y, operator, iterations=60, scale=1.0)
    # About the threshold that removes white noise from an orthonormal transform of this size, halved.
    return lambda y, operator: classical(name, y, operator, strength=2e-3 + level, iterations=60, scale=1.0)


def _others(operator: LinearOperator, ratios: Sequence[float], seed: int) -> dict[str, dict[Any, LinearOperator]]:
    """Other operators of the same ratio, and of other ratios, by their names and values; none if there are none."""
    same = operator.alternatives(seed)
    made = {ratio: operator.at_ratio(ratio, seed) for ratio in ratios}
    others: dict[str, dict[Any, LinearOperator]] = {
        "operator": {"as trained": operator, **same} if same else {},
        "ratio": {ratio: other for ratio, other in made.items() if other is not None},
    }
    return {test: each for test, each in others.items() if each}


def _white(y: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(y.shape, dtype=y.dtype, generator=generator).to(y.device)


def _magnitude(x: Tensor) -> Tensor:
    return x.abs() if x.is_complex() else x
