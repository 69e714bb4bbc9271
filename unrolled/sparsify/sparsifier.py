"""What every strategy of sparsifying shares: what it acts on, when it is called, and how it ends."""

import json
import math
from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.penalties import L1MinusL2, Penalty
from unrolled.penalties.ard import ARD
from unrolled.sparsify.course import Course
from unrolled.sparsify.groups import Groups, PricedGroups, penalty_of
from unrolled.sparsify.machinery.arguments import is_number
from unrolled.sparsify.machinery.capture import Capture
from unrolled.sparsify.machinery.companions import Companions
from unrolled.sparsify.machinery.control import Control
from unrolled.sparsify.machinery.ending import masks_of, write, written
from unrolled.sparsify.machinery.guards import Guard
from unrolled.sparsify.machinery.hooks import WeightHooks
from unrolled.sparsify.machinery.masks import Masks
from unrolled.sparsify.machinery.optimizer_metric import groups_of
from unrolled.sparsify.machinery.survivors import Survivors
from unrolled.sparsify.schedules import Schedule
from unrolled.sparsify.selection import Weight, count_zeros, select_weights
from unrolled.system.recipes import Described, describe


class Sparsifier(Described, ABC):
    """Makes the weights of any model sparse while it is trained.

        sparsifier = Strategy(model, penalty, strength)
        optimizer = Adam([*model.parameters(), *sparsifier.parameters()])
        for batch in batches:
            loss = task_loss(model, batch) + sparsifier.loss()
            loss.backward(); optimizer.step(); optimizer.zero_grad()
            sparsifier.step(optimizer)
        sparsifier.finalize()

    No layer is replaced, and the keys of the model's `state_dict` stay what they are. After `finalize` the model's own
    parameters have exact zeros, and nothing is attached to it.

    A strategy is put together of parts: what it adds to the loss (`loss_now`), what it does after a step (`act`), hooks
    that replace weights while the model runs (`hooks`, made in `attach`), parameters that it learns (`learned`), its
    own rule for zeros (`zeroed`), and, where `captures` is set, a `ranking` of what becomes 0 first with a target. It
    says in `check_penalty` what it cannot do with a penalty. Its constructor hands `**options` on to this one and sets
    its attributes afterwards; `attach` comes when all of them are set. Tensors that it keeps for a weight lie in
    `weight.extra`, and are saved with the state.

    Parameters
    ----------
    model : Module
    penalty : Penalty
        ρ of (task loss) + strength · Σ ρ(w).
    strength : float > 0
        give either this or target.
    target : float in [0, 1)
        the share of the chosen weights that shall be exactly 0 at the end. Strategies that write zeros, or are as good
        as their proximal map, find the strength on the way; the others take out what they rank lowest (`Capture`).
    groups : Grouping or function (name, parameter, module) → Grouping or None
        what becomes zero together: `Filters()`, `InputChannels()`, `Each((0, 1))` (kernels), `Blocks((4, 4))`,
        `AttentionHeads(8)`, …; by default single numbers.
    include, exclude : str or sequence of str
        patterns of names of parameters or modules; by default all weights, and neither biases, norms nor embeddings.
    schedule : Schedule
        a factor on the strength; with a target, on the target: by default it rises by the cubic of gradual pruning.
    fine_tune : float in [0, 1)
        the last part of the run, in which the zeros stay and nothing else acts.
    steps : int
        how many steps the run takes; needed for a target, a schedule and fine_tune. The training loop says it itself.

    Raises
    ------
    ValueError
        if an argument is not allowed, a pattern matches nothing, another strategy acts on a weight, the weights cannot
        be grouped so, or the strategy cannot do with the penalty.
    """

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty,
        strength: float | None = None,
        *,
        target: float | None = None,
        groups: Groups | None = None,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        schedule: Schedule | None = None,
        fine_tune: float = 0.0,
        steps: int | None = None,
    ):
        name = type(self).__name__
        if not isinstance(penalty, Penalty):
            raise ValueError(f"{name}: penalty must be a Penalty, got {penalty!r}")
        if (strength is None) == (target is None):
            raise ValueError(f"{name}: give either strength or target, got strength={strength!r} and target={target!r}")
        if strength is not None and not (is_number(strength) and math.isfinite(strength) and strength > 0):
            raise ValueError(f"{name}: strength must be a finite number > 0, got {strength!r}")
        self.model, self.penalty = model, penalty
        self.course = Course(name, target, schedule, fine_tune, steps)
        self.base_strength = self.initial_strength() if strength is None else float(strength)
        self.weights = select_weights(model, include, exclude)
        if isinstance(groups, PricedGroups):
            groups.check([weight.name for weight in self.weights])
        for weight in self.weights:
            weight.penalty = penalty_of(weight, penalty, groups)
        self.survivors = Survivors()
        self.learned: dict[str, nn.Parameter] = {}
        self.hooks: WeightHooks | None = None
        self.masks: Masks | None = None
        self.finalized = False

    def constructed(self) -> None:
        """Check the penalty, claim the weights and attach: when the subclass has set its attributes too."""
        self.check_penalty(self.penalty)
        self.capture = Capture(self.weights, self.course, self.survivors) if self.captures else None
        self.control = None if self.course.target is None else self.make_control()
        self.guard = Guard(self, self.model, self.weights)
        self.companions = self.make_companions()
        self.attach()
        self.guard.remember()

    # What a strategy is

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

    # What users call

    @property
    def target(self) -> float | None:
        """The share of zeros that there shall be at the end."""
        return self.course.target

    @property
    def progress(self) -> float:
        """The part of the run that is over; 0 as long as its length is not known."""
        return self.course.progress

    @property
    def steps(self) -> int | None:
        """How many steps the run takes, as far as that is known."""
        return self.course.steps

    @steps.setter
    def steps(self, steps: int | None) -> None:
        self.course.steps = steps

    @property
    def step_count(self) -> int:
        """How many steps are over."""
        return self.course.step_count

    @property
    def strength(self) -> float:
        """The strength at this step, and 0 while zeros are only kept."""
        return self.base_strength * self.course.factor if self.masks is None else 0.0

    def loss(self) -> Tensor:
        """What to add to the loss of the task: a scalar, 0 for strategies that act elsewhere."""
        self._check_open("loss")
        if self.hooks is not None:
            self.hooks.clear()
        return self.loss_now() if self.masks is None else Sparsifier.loss_now(self)

    @torch.no_grad()
    def step(self, optimizer: Optimizer) -> None:
        """To be called after each step of the optimiser. If that was skipped, as loss scaling does, nothing happens.

        Raises
        ------
        ValueError
            if the optimiser does not hold all parameters, or the model is not as it was: parameters were added,
            replaced or frozen.
        """
        self._check_open("step")
        self.guard.check_model()
        if self._needs_length() and self.steps is None:
            raise ValueError(f"{type(self).__name__}: say how many steps the run takes: steps=…")
        options = groups_of(optimizer)
        self.guard.check_optimizer(options, self.parameters())
        if not self.guard.has_stepped(optimizer):
            return
        if self.masks is None:
            self.act(optimizer, options)
            self.companions.silence({weight.name: self.sparse(weight) for weight in self.companions.weights})
            if self.control is not None:
                wanted, steps = self.course.wanted, self.course.acting_steps
                assert wanted is not None
                self.base_strength = self.control.adjusted(self.base_strength, wanted, self.share_by_rule, steps)
        self.course.step_count += 1
        if self.masks is None and self.course.is_fine_tuning:
            self._write(self.model)
            self.detach()
            self.masks = self.masking()
        self.guard.remember(optimizer)

    @torch.no_grad()
    def sparse_weights(self) -> dict[str, Tensor]:
        """By name, what `finalize` would write into the weights now. A weight keeps at least one number or group."""
        if self.masks is not None:
            return {weight.name: weight.parameter.detach() for weight in self.weights}
        return {weight.name: self.survivors.at_least_one(weight, self.sparse(weight)) for weight in self.weights}

    @torch.no_grad()
    def sparsity(self) -> float:
        """The share of exact zeros among the chosen weights, if it ended now."""
        tensors = [weight.parameter if self.masks is not None else self.sparse(weight) for weight in self.weights]
        return count_zeros(tensors) / sum(tensor.numel() for tensor in tensors)

    def share_by_rule(self) -> float:
        """The share of zeros that the strength is judged by."""
        return self.sparsity()

    def figures(self) -> dict[str, float]:
        """Numbers for a log: sparsity, strength, and what else a strategy has to tell."""
        return {"sparsity": self.sparsity(), "strength": self.strength}

    @contextmanager
    def as_finalized(self, model: nn.Module | None = None) -> Iterator[nn.Module]:
        """While it lasts, a model has the weights that `finalize` would give it: to be validated with them.

        Parameters
        ----------
        model : Module, optional
            one with the same names, such as a copy; by default the sparsified one.
        """
        model = self.model if model is None else model
        with self.guard.overlooking(), written(model, self.sparse_weights(), self.companions), self._silent():
            yield model

    @torch.no_grad()
    def finalize(self, keep_mask: bool = False) -> Masks | None:
        """End it: exact zeros in the model's own parameters, nothing attached to it.

        Parameters
        ----------
        keep_mask : bool
            keep the zeros zero in further training, by whatever optimiser, until `remove` of what is returned is
            called.

        Raises
        ------
        ValueError
            if it was called before, the model is not as it was, or a weight would get numbers that are not finite; the
            model is left as it is then.
        """
        self._check_open("finalize")
        self.guard.check_model()
        for name, values in self.sparse_weights().items():
            if not values.isfinite().all():
                raise ValueError(f"finalize: {name} would get numbers that are not finite; the model is left as it is")
        self._write(self.model)
        self.release()
        return self.masking() if keep_mask else None

    def release(self) -> None:
        """Let go of the model as it is, without making anything zero."""
        if self.masks is not None:
            self.masks.remove()
        self.companions.close()
        self.detach()
        self.guard.release()
        self.finalized = True

    # State

    def recipe(self) -> str:
        """Strategy, penalty and options as text; two runs with different ones are not the same run."""
        arguments = {name: value for name, value in self.arguments.items() if name not in ("model", "steps")}
        return json.dumps({type(self).__name__: arguments}, default=_as_text, sort_keys=True)

    def state_dict(self) -> dict[str, Any]:
        """Everything that is needed to go on, as plain values and tensors."""
        return {
            "recipe": self.recipe(),
            "step_count": self.step_count,
            "seen_count": self.guard.seen_count,
            "steps": self.steps,
            "base_strength": self.base_strength,
            "control": self.control.state_dict() if self.control is not None else {},
            "weights": {weight.name: dict(weight.extra) for weight in self.weights},
            "learned": [parameter.detach().clone() for parameter in self.parameters()],
            "companions": self.companions.state_dict(),
            "masks": None if self.masks is None else self.masks.masks,
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises
        ------
        ValueError
            if it is that of another strategy, of other options or of another model.
        """
        self._check_open("load_state_dict")
        if state.get("recipe") != self.recipe():
            raise ValueError(f"sparsifier: the state is that of {state.get('recipe')}, this one is {self.recipe()}")
        names = [weight.name for weight in self.weights]
        if list(state["weights"]) != names or len(state["learned"]) != len(self.parameters()):
            raise ValueError(f"sparsifier: the state is of the weights {list(state['weights'])}, these are {names}")
        for weight in self.weights:
            kept = state["weights"][weight.name]
            weight.extra = {key: value.to(weight.parameter.device, copy=True) for key, value in kept.items()}
        for parameter, value in zip(self.parameters(), state["learned"], strict=True):
            parameter.copy_(value)
        self.course.step_count, self.base_strength = state["step_count"], state["base_strength"]
        self.steps = state["steps"] if self.steps is None else self.steps
        if self.control is not None:
            self.control.load_state_dict(state["control"])
        if self.masks is not None:
            self.masks.remove()
        if state["masks"] is not None:
            self.detach()
        self.companions.load_state_dict(state["companions"])
        self.masks = None
        if state["masks"] is not None:
            self.masks = self.masking()
            self.masks.masks = [
                kept.to(mask.device, copy=True) for kept, mask in zip(state["masks"], self.masks.masks, strict=True)
            ]
        self.guard.resume(state["seen_count"])

    # Inside

    def _needs_length(self) -> bool:
        return self.course.needs_length

    def _check_open(self, method: str) -> None:
        if self.finalized:
            raise ValueError(f"{method}: this {type(self).__name__} is finalized; make another one to go on")

    def _write(self, model: nn.Module) -> None:
        write(dict(model.named_parameters()), self.sparse_weights(), self.companions)

    def _silent(self) -> AbstractContextManager[None]:
        """While it lasts, the strategy's hooks do nothing."""
        return nullcontext() if self.hooks is None else self.hooks.disabled()


def _as_text(value: Any) -> Any:
    try:
        return describe(value)
    except (AttributeError, ValueError):
        return getattr(value, "__qualname__", None) or repr(value)
