"""MoDL, a variational network and unfolded ADMM beside deepinv's, of equal sizes and with equal weights.

    python -m benchmarks.unfolded --json docs/performance/unfolded.json

(`pip install 'unrolled[compare]'`). Both have the same denoiser, a plain network of five layers with 64 maps, the same
operator and the same numbers of the algorithm, and make the same image, which is looked at first. Everything is timed
in turn in one process.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import command
from benchmarks.machine import interleaved
from unrolled.networks import (
    AdjointStart,
    ComposedNetwork,
    GradientStep,
    ProximalGradientPhase,
    ProximalStep,
    ResidualCNN,
    VariationalPhase,
)
from unrolled.operators import Blur, CartesianMask, Coils, GaussianKernel, LinearOperator, MultiCoilFourier
from unrolled.system import import_torchvision
from unrolled.weights import convert

FEATURES, DEPTH, PHASES = 64, 5, 5
SIDE, COILS = 96, 4
BATCHES = {"training": 4, "reconstruction": 1}
ACCURACY = 1e-3
"""Of the largest value: by how much images may differ, where both solve their systems by conjugate gradients."""

TOLERANCE = 1e-6
"""Of the residual at which both end conjugate gradients; deepinv's own is 1e-4."""

PEER, OURS, HALF = "deepinv, float32", "unrolled, float32", "unrolled, bfloat16"


@dataclass
class Pair:
    """The same network twice.

    Parameters
    ----------
    name : str
        of the table.
    theirs, ours : Module
    operator, physics
        what is measured, here and there.
    complex_images : bool
    """

    name: str
    theirs: nn.Module
    ours: nn.Module
    operator: LinearOperator
    physics: Any
    complex_images: bool = False

    def images(self, count: int) -> Tensor:
        """Smooth random images, for noise would be no image."""
        generator = torch.Generator().manual_seed(0)
        parts = torch.rand(count, 2, SIDE, SIDE, generator=generator)
        smooth = torch.nn.functional.avg_pool2d(parts, 9, 1, 4)
        return torch.complex(smooth[:, :1], smooth[:, 1:]) if self.complex_images else smooth[:, :1]

    def image(self, variant: str, y: Tensor) -> Tensor:
        """What a variant makes of measurements, complex numbers as channels."""
        if variant == PEER:
            found: Tensor = self.theirs(_as_channels(y), self.physics)
            return found
        with torch.autocast(y.device.type, torch.bfloat16) if variant == HALF else nullcontext():
            return _as_channels(self.ours(y, self.operator))

    def network(self, variant: str) -> nn.Module:
        return self.theirs if variant == PEER else self.ours


def pairs() -> Iterator[Pair]:
    """All networks that both have."""
    import_torchvision()  # which deepinv imports
    import deepinv

    torch.manual_seed(0)
    operator = MultiCoilFourier(Coils(COILS), CartesianMask(4), SIDE, SIDE, centered=True)
    mask = operator.mask.expand(SIDE, SIDE).float()
    physics = deepinv.physics.MultiCoilMRI(mask=mask, coil_maps=operator.maps[None], img_size=(SIDE, SIDE))
    physics.tol = TOLERANCE

    denoiser, prior = _denoisers(deepinv)
    modl = deepinv.models.MoDL(denoiser, num_iter=PHASES)
    phase = ProximalGradientPhase(prior, ProximalStep(1.0))
    network = ComposedNetwork(phase, PHASES, shared=True, start=AdjointStart(), complex_images=True)
    yield Pair("MoDL", modl, network, operator, physics, True)

    denoiser, prior = _denoisers(deepinv)
    varnet = deepinv.models.VarNet(_Taken(denoiser), num_cascades=PHASES)
    phases = VariationalPhase(prior, GradientStep(1.0))
    network = ComposedNetwork(phases, PHASES, shared=True, start=AdjointStart(), complex_images=True)
    yield Pair("variational network", varnet, network, operator, physics, True)

    blur = Blur(GaussianKernel(1.6), boundary="circular")
    kernel = blur.kernel[None, None]
    priors = [
        deepinv.optim.PnP(deepinv.models.DnCNN(1, 1, depth=DEPTH, nf=FEATURES, pretrained=None)) for _ in range(PHASES)
    ]
    admm = deepinv.optim.ADMM(
        data_fidelity=deepinv.optim.L2(),
        prior=priors,
        unfold=True,
        max_iter=PHASES,
        stepsize=[5.0] * PHASES,
        beta=[1.0] * PHASES,
        sigma_denoiser=[0.1] * PHASES,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "admm.pth"
        torch.save(admm.state_dict(), file)
        network = convert(file, "deepinv-unfolded", algorithm="ADMM", licence="BSD-3-Clause").network
    physics = deepinv.physics.BlurFFT((1, SIDE, SIDE), filter=kernel)
    yield Pair("ADMM", admm, network, blur, physics)


class _Taken(nn.Module):
    """What a denoiser takes away: deepinv's cascade subtracts what it is given, which is R(x) = x − D(x)."""

    def __init__(self, denoiser: nn.Module):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, sigma: Any = None) -> Tensor:
        return x - self.denoiser(x)


def _denoisers(deepinv: Any) -> tuple[nn.Module, ResidualCNN]:
    """The denoiser of complex images, here and there, with the same weights; so small that phases do not diverge."""
    theirs = deepinv.models.DnCNN(2, 2, depth=DEPTH, nf=FEATURES, pretrained=None)
    ours = ResidualCNN(FEATURES, DEPTH, complex_images=True)
    with torch.no_grad():
        for layer, own in zip([theirs.in_conv, *theirs.conv_list, theirs.out_conv], ours.layers, strict=True):
            layer.weight.mul_(0.5)
            own.weight.copy_(layer.weight)
            own.bias.copy_(layer.bias)
    return theirs, ours


def runner(pair: Pair, variant: str, task: str, x: Tensor) -> Callable[[], Any]:
    """One step of training, or one reconstruction."""
    y, network = pair.operator(x), pair.network(variant)
    if task == "reconstruction":

        def reconstruct() -> Tensor:
            with torch.no_grad():
                return pair.image(variant, y)

        return reconstruct
    truth = _as_channels(x)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-8)  # so small that both stay as they are

    def train() -> None:
        loss = (pair.image(variant, y) - truth).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return train


def difference(pair: Pair) -> float:
    """By how much the images differ, over the largest value."""
    y = pair.operator(pair.images(2))
    with torch.no_grad():
        theirs, ours = (pair.image(variant, y) for variant in (PEER, OURS))
    return float((ours - theirs).abs().max() / theirs.abs().max())


def rows_of(pair: Pair, rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """The figures of a network.

    Raises
    ------
    ValueError
        if the two make other images.
    """
    pair.ours.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as `fit` and `load` lay them
    found = difference(pair)
    if found > ACCURACY:
        raise ValueError(
            f"{pair.name}: images must agree within {ACCURACY} of the largest value, they differ by {found:.2g}"
        )
    rows = []
    for task, count in BATCHES.items():
        x = pair.images(count)
        times = interleaved({name: runner(pair, name, task, x) for name in (PEER, OURS, HALF)}, device, rounds)
        for name, seconds in times.items():
            rows.append(
                {
                    "network": pair.name,
                    "task": task,
                    "variant": name,
                    "milliseconds": {key: 1e3 * value / count for key, value in seconds.items()},
                    "ratio": times[PEER]["median"] / seconds["median"],
                    "difference": found,
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The table of the page."""
    lines = [
        "| network | task | variant | ms / image | ratio |",
        "|---|---|---|---:|---:|",
    ]
    for row in rows:
        time = row["milliseconds"]
        cells = [
            row["network"],
            row["task"],
            row["variant"],
            f"{time['median']:.1f} ({time['low']:.1f}–{time['high']:.1f})",
            f"{row['ratio']:.2f}×",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for pair in pairs():
        rows += rows_of(pair, options.rounds, torch.device("cpu"))
        command.write(options.json, {"rounds": options.rounds, "rows": rows})
    print(table(rows))


def _as_channels(x: Tensor) -> Tensor:
    """Complex images or measurements in their form: (batch, 2, …)."""
    return torch.view_as_real(x).movedim(-1, 1).squeeze(2) if x.is_complex() else x


if __name__ == "__main__":
    main()
