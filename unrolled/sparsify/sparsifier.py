"""What every strategy of sparsifying shares: what it acts on, when it is called, and how it ends."""

import json
import math
import warnings
import weakref
from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.weak import WeakTensorKeyDictionary

from unrolled.penalties import L1MinusL2, Penalty
from unrolled.penalties.ard import ARD
from unrolled.sparsify.groups import Groups, PricedGroups, grouping_of, penalty_of
from unrolled.sparsify.machinery.companions import Companions
from unrolled.sparsify.machinery.control import Control
from unrolled.sparsify.machinery.masks import Masks
from unrolled.sparsify.machinery.optimizer_metric import groups_of
from unrolled.sparsify.schedules import Constant, Cubic, Schedule
from unrolled.sparsify.selection import Weight, count_zeros, select_weights
from unrolled.system.recipes import Described, describe

_taken = WeakTensorKeyDictionary()
"""Parameter → weak reference to the strategy that acts on it."""


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

    A subclass overrides what it needs of `loss_now`, `act`, `sparse`, `parameters`, `attach`, `detach` and says in
    `check_penalty` what it cannot do with a penalty. Tensors that it keeps for a weight lie in `weight.extra`, and are
    saved with the state.

    Parameters
    ----------
    model : Module
    penalty : Penalty
        ρ of (task loss) + strength · Σ ρ(w).
    strength : float > 0
        give either this or target.
    target : float in [0, 1)
        the share of the chosen weights that shall be exactly 0 at the end. Strategies that write zeros, or are as good
        as their proximal map, find the strength on the way; the others take out what they rank lowest (`Capturing`).
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
        if target is not None and not (is_number(target) and 0 <= target < 1):
            raise ValueError(f"{name}: target must be in [0, 1), the share of zeros, got {target!r}")
        if not (is_number(fine_tune) and 0 <= fine_tune < 1):
            raise ValueError(f"{name}: fine_tune must be in [0, 1), a part of the run, got {fine_tune!r}")
        if schedule is not None and not isinstance(schedule, Schedule):
            raise ValueError(f"{name}: schedule must be a Schedule, got {schedule!r}")
        if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
            raise ValueError(f"{name}: steps must be a whole number >= 1, got {steps!r}")
        self.model, self.penalty, self.target, self.fine_tune = model, penalty, target, fine_tune
        self.schedule = schedule or (Constant() if target is None else Cubic(end=0.7))
        self.weights = select_weights(model, include, exclude)
        if isinstance(groups, PricedGroups):
            groups.check([weight.name for weight in self.weights])
        for weight in self.weights:
            weight.penalty = penalty_of(weight, penalty, groups)
        self.check_penalty(penalty)
        self.control = self.make_control() if target is not None else None
        self.base_strength = self.initial_strength() if strength is None else float(strength)
        self.steps = steps
        self.step_count = 0
        self.masks: Masks | None = None
        self.finalized = False
        self._names = [parameter for parameter, _ in model.named_parameters()]
        self._said: set[str] = set()
        self._seen_versions: tuple[int, ...] = ()
        self._seen_count = 0.0
        self._seen_optimizer: weakref.ref[Optimizer] | None = None
        self._claim()
        self.companions = Companions(model, self.weights)
        self.attach()
        self._remember()

    # What a strategy is

    needs_zeros: ClassVar[bool] = True
    """Whether zeros come from the penalty's threshold, so that one without is refused."""

    acts_in_forward: ClassVar[bool] = False
    """Whether it acts while the model runs, by hooks: then the model cannot be compiled to one graph."""

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
        """Where the search for the strength that meets a target begins: from below, for zeros may never come back."""
        return 1e-7

    def make_control(self) -> Control | None:
        """What finds the strength that meets a target; None if the strategy counts zeros itself."""
        return Control()

    def attach(self) -> None:
        """Put hooks on the model, make parameters: called once, at the end of the constructor."""

    def detach(self) -> None:
        """Take away what `attach` put there; called when fine tuning begins, and again at the end."""

    def parameters(self) -> list[nn.Parameter]:
        """What the optimiser has to learn besides the model."""
        return []

    def loss_now(self) -> Tensor:
        """What the strategy adds to the loss at this step."""
        return self.weights[0].parameter.real.new_zeros(())

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        """What the strategy does after the optimiser's step; without recording gradients.

        Parameters
        ----------
        optimizer : Optimizer
        options : mapping
            id of a parameter → its group of options in the optimiser (`lr` …).
        """

    def sparse(self, weight: Weight) -> Tensor:
        """What `finalize` writes into a weight: same shape, with exact zeros, without gradient."""
        return weight.parameter.detach()

    def masking(self) -> Masks:
        """What keeps the zeros of the weights, and those of the companions of dead filters."""
        dead = self.companions.dead({weight.name: weight.parameter for weight in self.weights})
        zeros = [weight.parameter == 0 for weight in self.weights]
        parameters = [weight.parameter for weight in self.weights]
        companions = [self.model.get_parameter(name) for name in dead]
        return Masks([*parameters, *companions], [~mask for mask in (*zeros, *dead.values())])

    # What users call

    @property
    def progress(self) -> float:
        """The part of the run that is over; 0 as long as its length is not known."""
        return 0.0 if self.steps is None else min(1.0, self.step_count / self.steps)

    @property
    def strength(self) -> float:
        """The strength at this step, and 0 while zeros are only kept."""
        if self.masks is not None:
            return 0.0
        return self.base_strength * (self.schedule.factor(self.progress) if self.target is None else 1.0)

    @property
    def wanted(self) -> float | None:
        """The share of zeros that there should be at this step, on the way to the target."""
        if self.target is None:
            return None
        return self.target * self.schedule.factor(min(1.0, self.progress / (1 - self.fine_tune)))

    def loss(self) -> Tensor:
        """What to add to the loss of the task: a scalar, 0 for strategies that act elsewhere."""
        self._check_open("loss")
        return self.weights[0].parameter.real.new_zeros(()) if self.masks is not None else self.loss_now()

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
        self._check_model()
        if self._needs_length() and self.steps is None:
            raise ValueError(f"{type(self).__name__}: say how many steps the run takes: steps=…")
        options = groups_of(optimizer)
        self._check_optimizer(options)
        if not self._stepped(optimizer):
            return
        if self.masks is None:
            self.act(optimizer, options)
            self.companions.silence({weight.name: self.sparse(weight) for weight in self.companions.weights})
            if self.control is not None:
                assert self.wanted is not None
                assert self.steps is not None
                acting = max(1, round(self.steps * (1 - self.fine_tune)))
                self.base_strength = self.control.adjusted(self.base_strength, self.wanted, self.share_by_rule, acting)
        self.step_count += 1
        if self.masks is None and self.fine_tune and self.progress >= 1 - self.fine_tune:
            self._keep_zeros()
        self._remember(optimizer)

    @torch.no_grad()
    def sparse_weights(self) -> dict[str, Tensor]:
        """By name, what `finalize` would write into the weights now. A weight keeps at least one number or group."""
        return {weight.name: self._at_least_one(weight, self._sparse_now(weight)) for weight in self.weights}

    @torch.no_grad()
    def sparsity(self) -> float:
        """The share of exact zeros among the chosen weights, if it ended now."""
        tensors = [self._sparse_now(weight) for weight in self.weights]
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
        own = dict(model.named_parameters())
        before = {name: own[name].detach().clone() for name in self._touched()}
        untouched = self._versions() == self._seen_versions
        with torch.no_grad():
            self._write(own)
        try:
            with self._silent():
                yield model
        finally:
            with torch.no_grad():
                for name, values in before.items():
                    own[name].copy_(values)
            if untouched:  # what was written here is no step of an optimiser
                self._seen_versions = self._versions()

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
        self._check_model()
        for name, values in self.sparse_weights().items():
            if not values.isfinite().all():
                raise ValueError(f"finalize: {name} would get numbers that are not finite; the model is left as it is")
        self._write(dict(self.model.named_parameters()))
        self.release()
        return self.masking() if keep_mask else None

    def release(self) -> None:
        """Let go of the model as it is, without making anything zero."""
        if self.masks is not None:
            self.masks.remove()
        self.companions.close()
        self.detach()
        for weight in self.weights:
            _taken.pop(weight.parameter, None)
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
            "seen_count": self._seen_count,
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
        self.step_count, self.base_strength = state["step_count"], state["base_strength"]
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
        self._seen_count, self._seen_optimizer = state["seen_count"], None
        self._remember()

    # Inside

    def _needs_length(self) -> bool:
        return self.target is not None or bool(self.fine_tune) or not isinstance(self.schedule, Constant)

    def _claim(self) -> None:
        for weight in self.weights:
            other = _taken.get(weight.parameter)
            other = other and other()
            if other is not None:
                raise ValueError(f"{type(self).__name__}: {type(other).__name__} already acts on {weight.name}")
        for weight in self.weights:
            _taken[weight.parameter] = weakref.ref(self)

    def _check_open(self, method: str) -> None:
        if self.finalized:
            raise ValueError(f"{method}: this {type(self).__name__} is finalized; make another one to go on")

    def _check_model(self) -> None:
        own, made = dict(self.model.named_parameters()), f"after {type(self).__name__} was made"
        for weight in self.weights:
            if own.get(weight.name, weight.parameter) is not weight.parameter:
                raise ValueError(f"model: {weight.name} was replaced {made}")
            if not weight.parameter.requires_grad:
                raise ValueError(f"model: {weight.name} was frozen {made}")
        if list(own) != self._names:
            changed = sorted(set(own) ^ set(self._names)) or list(own)
            raise ValueError(f"model: parameters were added or removed {made}: {', '.join(changed)}")

    def _check_optimizer(self, options: Mapping[int, Any]) -> None:
        for weight in self.weights:
            if id(weight.parameter) not in options:
                raise ValueError(f"optimizer: it does not hold {weight.name}, which {type(self).__name__} acts on")
        if any(id(parameter) not in options for parameter in self.parameters()):
            raise ValueError(
                "optimizer: it does not hold sparsifier.parameters(); make it of [*model.parameters(), "
                "*sparsifier.parameters()]"
            )

    def _stepped(self, optimizer: Optimizer) -> bool:
        """Whether the optimiser changed something since the last call: loss scaling may have skipped its step."""
        # A fused optimiser leaves no trace in the versions of what it changes, but counts the steps that it takes.
        if not any(group.get("fused") for group in optimizer.param_groups):
            return self._versions() != self._seen_versions
        known = self._seen_optimizer is None or self._seen_optimizer() is optimizer
        return self._count(optimizer) != (self._seen_count if known else 0.0)

    def _versions(self) -> tuple[int, ...]:
        return tuple(weight.parameter._version for weight in self.weights)

    def _count(self, optimizer: Optimizer) -> float:
        """How many steps an optimiser has taken with the weights, all counted."""
        counts = [optimizer.state.get(weight.parameter, {}).get("step") for weight in self.weights]
        tensors = [torch.as_tensor(count, dtype=torch.float64) for count in counts if count is not None]
        return float(torch.stack([count.to(tensors[0].device) for count in tensors]).sum()) if tensors else 0.0

    def _remember(self, optimizer: Optimizer | None = None) -> None:
        self._seen_versions = self._versions()
        if optimizer is not None and any(group.get("fused") for group in optimizer.param_groups):
            self._seen_count, self._seen_optimizer = self._count(optimizer), weakref.ref(optimizer)

    def _keep_zeros(self) -> None:
        """Write the zeros, and from now on only keep them."""
        self._write(dict(self.model.named_parameters()))
        self.detach()
        self.masks = self.masking()

    def _sparse_now(self, weight: Weight) -> Tensor:
        return self.sparse(weight) if self.masks is None else weight.parameter.detach()

    def _touched(self) -> list[str]:
        """The names of the parameters that finalize writes."""
        return [weight.name for weight in self.weights] + self.companions.names()

    def _write(self, own: Mapping[str, Tensor]) -> None:
        values = self.sparse_weights()
        dead = self.companions.dead(values)
        for name, numbers in values.items():
            own[name].copy_(numbers)
        for name, zero in dead.items():
            own[name].masked_fill_(zero, 0)

    @contextmanager
    def _silent(self) -> Iterator[None]:
        """While it lasts, the strategy's hooks do nothing."""
        yield

    def _overwrite(self, weights: Sequence[Weight], values: Sequence[Tensor]) -> None:
        """Give weights new values; one that would become all zero keeps its largest number or group."""
        alive = torch.stack([new.any().to(values[0].device) for new in values]).tolist()  # one answer from the device
        for weight, new, lives in zip(weights, values, alive, strict=True):
            weight.parameter.copy_(new if lives else self._at_least_one(weight, new))

    def _at_least_one(self, weight: Weight, values: Tensor) -> Tensor:
        """A weight that would become all zero keeps its largest number or group, as the model has it now."""
        if values.any() or not weight.parameter.any():
            return values
        self._say_kept(weight)
        return largest_group(weight, weight.parameter.detach())

    def _say_kept(self, weight: Weight) -> None:
        if weight.name not in self._said:
            self._said.add(weight.name)
            warnings.warn(f"{weight.name} would become all zero; its largest group is kept", stacklevel=4)


def largest_group(weight: Weight, values: Tensor) -> Tensor:
    """The values of the group with the largest norm, or of the largest number, and 0 elsewhere."""
    grouping = grouping_of(weight.penalty)
    magnitudes = values.abs()
    norms = magnitudes if grouping is None else grouping.norm(magnitudes / magnitudes.max())  # tiny squares are 0
    best = torch.zeros_like(norms).flatten()
    best[norms.argmax()] = 1
    best = best.reshape(norms.shape)
    return values * (best if grouping is None else grouping.spread(best, values.shape)).to(values.dtype)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _as_text(value: Any) -> Any:
    try:
        return describe(value)
    except (AttributeError, ValueError):
        return getattr(value, "__qualname__", None) or repr(value)
