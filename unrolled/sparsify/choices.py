"""What a strategy of sparsifying may choose: when it acts, what it adds, learns, ranks and makes zero."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.penalties import L1MinusL2, Penalty
from unrolled.penalties.ard import ARD
from unrolled.sparsify.course import Course
from unrolled.sparsify.machinery.capture import Capture, largest_unit
from unrolled.sparsify.machinery.companions import Companions
from unrolled.sparsify.machinery.control import Control
from unrolled.sparsify.machinery.ending import masks_of
from unrolled.sparsify.machinery.hooks import WeightHooks
from unrolled.sparsify.machinery.masks import Masks
from unrolled.sparsify.machinery.survivors import Survivors
from unrolled.sparsify.selection import Weight


class Choices:
    """The parts a strategy is put together of, each with what it is by default. `Sparsifier` runs them.

    A strategy adds something to the loss (`loss_now`), acts after a step of the optimiser (`act`), has hooks that
    replace weights while the model runs (`hooks`, made in `attach`), learns parameters (`learned`), has a rule of its
    own for zeros (`zeroed`), and, where `captures` is set, a `ranking` of what becomes 0 first with a target. It says
    in `check_penalty` what it cannot do with a penalty.

    Attributes
    ----------
    model : Module
    penalty : Penalty
        as it was given; each weight has its own, on groups if there are groups.
    weights : list of Weight
        what it acts on. Tensors that it keeps for a weight lie in `weight.extra`, and are saved with the state.
    course : Course
        target, schedule and steps, and where in the run it is.
    survivors : Survivors
        writes weights so that none becomes all zero.
    companions : Companions
        what becomes 0 along with the weights.
    learned : dict
        name of a weight → the parameter that is learned for it.
    hooks : WeightHooks or None
    capture : Capture or None
    """

    model: nn.Module
    penalty: Penalty
    weights: list[Weight]
    course: Course
    survivors: Survivors
    companions: Companions
    learned: dict[str, nn.Parameter]
    hooks: WeightHooks | None
    capture: Capture | None

    needs_zeros: ClassVar[bool] = True
    """Whether zeros come from the penalty's threshold, so that one without is refused."""

    acts_in_forward: ClassVar[bool] = False
    """Whether it acts while the model runs, by hooks: then the model cannot be compiled to one graph."""

    captures: ClassVar[bool] = False
    """Whether a target is met by setting to 0 what `ranking` puts lowest, and not by the strength; see `Capture`."""

    def check_penalty(self, penalty: Penalty) -> None:
        """Raise a ValueError if the strategy cannot do with this penalty."""
        if isinstance(penalty, ARD):
            raise ValueError(f"{type(self).__name__}: ARD belongs to a matrix of data, it has no meaning for weights")
        # Lou and Yan's l1 − l2 has no threshold, for a single number is kept, but zeros it has.
        if self.needs_zeros and not (penalty.exact_zeros or isinstance(penalty, L1MinusL2)):
            raise ValueError(
                f"{type(self).__name__}: {penalty!r} never gives exact zeros; L1, LogSum, MCP, TransformedL1 … do"
            )

    def initial_strength(self) -> float:
        """The strength at the first step of a run with a target. A search begins low, for zeros may never come back."""
        return 1e-7

    def make_control(self) -> Control | None:
        """What finds the strength that meets a target; None if the strategy counts zeros itself."""
        return None if self.captures else Control()

    def grain(self) -> float:
        """How closely a target can be met at all: half of the largest number of weights that fall at once, as a share
        of all."""
        return max(map(largest_unit, self.weights)) / 2 / sum(weight.parameter.numel() for weight in self.weights)

    def make_companions(self) -> Companions:
        """What becomes 0 along with the weights."""
        return Companions(self.model, self.weights)

    def attach(self) -> None:
        """Put hooks on the model, make parameters: called once, when the strategy is complete."""

    def detach(self) -> None:
        """Take away what `attach` put there; called when fine tuning begins, and again at the end."""
        if self.hooks is not None:
            self.hooks.remove()

    def parameters(self) -> list[nn.Parameter]:
        """What the optimiser has to learn besides the model."""
        return list(self.learned.values())

    def loss_now(self) -> Tensor:
        """What the strategy adds to the loss at this step."""
        return self.weights[0].parameter.real.new_zeros(())

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        """What the strategy does after the optimiser's step, without recording gradients; by default it captures.

        Parameters
        ----------
        optimizer : Optimizer
        options : mapping
            id of a parameter → its group of options in the optimiser (`lr` …).
        """
        if self.capture is not None:
            self.capture.act(self.ranking)

    def ranking(self, weight: Weight) -> Tensor:
        """What is lowest is captured first, of equals the smaller in magnitude: of the shape of the weight, or with one
        number for each of its groups. By default the η̂ of the penalty."""
        return weight.eta

    def zeroed(self, weight: Weight) -> Tensor:
        """The weight with the zeros of the strategy's own rule, without gradient."""
        return weight.parameter.detach()

    def sparse(self, weight: Weight) -> Tensor:
        """What `finalize` writes into a weight: same shape, with exact zeros, without gradient."""
        captured = self.captures and self.course.target is not None
        return weight.parameter.detach() if captured else self.zeroed(weight)

    def masking(self) -> Masks:
        """What keeps the zeros of the weights, and those of their companions."""
        return masks_of(self.model, self.weights, self.companions)
