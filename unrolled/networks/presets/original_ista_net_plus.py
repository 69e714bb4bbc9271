"""ISTA-Net+ as the program of its authors computes it, for the weights that were trained with it."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from unrolled.networks.channelwise import apart, together
from unrolled.networks.data_steps.gradient_data_step import gradient
from unrolled.networks.differentiation import Differentiation, Implicit
from unrolled.networks.phases.phase import Phase, State
from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.networks.unrolled import UnrolledNetwork
from unrolled.operators import LinearOperator


class OriginalISTANetPlus(UnrolledNetwork):
    """x⁺ = b + G(H̃(soft(H(D(b))))), b = x − ρ∇f(x), in the form of its authors' program, whose weights it takes.

    ISTA-Net+ (Zhang, Ghanem, CVPR 2018). It differs from `ISTANetPlus`, which is preferable for training, in three
    points that a trained network depends on:

    - every 3×3 convolution pads its own input by zeros, so that values near the border differ;
    - step and threshold are numbers of any sign, and not positive by construction;
    - with a block, the maps see every block by itself, as if it were an image.

    Every channel of an image is reconstructed alike.

    Parameters
    ----------
    phases : int
    features : int
        feature maps.
    block : int, optional
        side of the blocks, in pixels, that are images of their own for the learned maps: 33 in their program for
        compressive sensing. By default the image is seen as a whole, as in their program for magnetic resonance.
    symmetry : float >= 0
        weight of the term ‖H̃(H(d)) − d‖² in the loss, the mean over the phases.
    differentiation, start, complex_images
        see `UnrolledNetwork`.

    Examples
    --------
    >>> OriginalISTANetPlus(phases=9).parameter_count
    336978
    """

    def __init__(
        self,
        phases: int = 9,
        features: int = 32,
        block: int | None = None,
        symmetry: float = 0.01,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
    ):
        check_sizes("OriginalISTANetPlus", phases=phases, features=features, block=1 if block is None else block)
        if not symmetry >= 0:
            raise ValueError(f"OriginalISTANetPlus: symmetry must be >= 0, got {symmetry!r}")
        if isinstance(differentiation, Implicit):
            raise ValueError("OriginalISTANetPlus: differentiation must not be Implicit, for no phase is shared")
        super().__init__(
            [OriginalISTAPhase(features, 2 if complex_images else 1, block) for _ in range(phases)],
            1,
            differentiation,
            start,
            complex_images,
        )
        self.symmetry = symmetry

    def in_training(
        self, y: Tensor, operator: LinearOperator, *, noise: float | Tensor | None = None, every_phase: bool = False
    ) -> tuple[list[Tensor], Tensor | None]:
        """Reconstructions and, weighted, the mean asymmetry of the maps over the phases."""
        if not self.symmetry:
            return super().in_training(y, operator, noise=noise, every_phase=every_phase)
        steps = [phase.with_asymmetry for phase in self.sequence if isinstance(phase, OriginalISTAPhase)]
        states = self.states(steps, y, operator, noise, every_phase)
        return [state[0] for state in states], self.symmetry * states[-1][1] / len(steps)


class OriginalISTAPhase(Phase):
    """x⁺ = b + G(H̃(soft(H(D(b))))), b = x − ρ∇f(x), with H = conv ∘ ReLU ∘ conv and H̃ likewise, each conv padded.

    Parameters
    ----------
    features : int
    parts : int
        1, or 2 for complex images.
    block : int, optional
        see `OriginalISTANetPlus`.
    """

    def __init__(self, features: int = 32, parts: int = 1, block: int | None = None):
        super().__init__()
        self.step, self.threshold = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.01))
        self.first = nn.Conv2d(parts, features, 3, padding=1, bias=False)  # D
        self.analysis = _pair(features)  # H
        self.synthesis = _pair(features)  # H̃
        self.last = nn.Conv2d(features, parts, 3, padding=1, bias=False)  # G
        nn.init.xavier_normal_(self.first.weight)
        nn.init.zeros_(self.last.weight)
        self.block = block
        # Tiles of whole blocks need nothing of what is around them.
        self.reach, self.alignment = (6, 1) if block is None else (0, block)

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        b = state[0] - self.step * gradient(state[0], y, operator)
        correction = self.last(self.synthesis(self.shrunk(self.analysis(self.first(self.images(b))))))
        return (b + self.joined(correction, b),)

    def with_asymmetry(
        self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None
    ) -> State:
        """The phase for training, whose state is the image and, after the first phase, the sum of the asymmetries."""
        x, *so_far = state
        b = x - self.step * gradient(x, y, operator)
        d = self.first(self.images(b))
        features = self.analysis(d)
        asymmetry = (self.synthesis(features) - d).to(x.real.dtype).square().mean()
        correction = self.last(self.synthesis(self.shrunk(features)))
        return b + self.joined(correction, b), so_far[0] + asymmetry if so_far else asymmetry

    def shrunk(self, v: Tensor) -> Tensor:
        """sign(v)·max(|v| − θ, 0), which for θ < 0 grows."""
        return v.sign() * F.relu(v.abs() - self.threshold.to(v.dtype))

    def images(self, b: Tensor) -> Tensor:
        """What the maps see, (…, 1 or 2, height, width): every channel, or every block of it.

        Raises
        ------
        ValueError
            unless the sides are multiples of the block.
        """
        single = apart(b)
        if self.block is None:
            return single
        if single.shape[2] % self.block or single.shape[3] % self.block:
            raise ValueError(
                f"OriginalISTANetPlus: images must have sides that are multiples of the block, {self.block}, got "
                f"{tuple(b.shape)}"
            )
        return rearrange(
            single, "n parts (rows p) (cols q) -> (n rows cols) parts p q", p=self.block, q=self.block
        ).contiguous()

    def joined(self, maps: Tensor, b: Tensor) -> Tensor:
        """The inverse of `images`, an image of the shape and kind of b."""
        if self.block is not None:
            rows, columns = b.shape[2] // self.block, b.shape[3] // self.block
            maps = rearrange(
                maps, "(n rows cols) parts p q -> n parts (rows p) (cols q)", rows=rows, cols=columns
            ).contiguous()
        return together(maps, b)


def _pair(features: int) -> nn.Sequential:
    layers = [nn.Conv2d(features, features, 3, padding=1, bias=False) for _ in range(2)]
    for layer in layers:
        nn.init.xavier_normal_(layer.weight)
    return nn.Sequential(layers[0], nn.ReLU(inplace=True), layers[1])
