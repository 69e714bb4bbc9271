"""What every strategy of sparsifying shares: what it acts on, when it is called, and how it ends."""

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.penalties import Penalty
from unrolled.sparsify.choices import Choices
from unrolled.sparsify.course import TOLERANCE, Course
from unrolled.sparsify.groups import Groups, PricedGroups, penalty_of
from unrolled.sparsify.machinery.arguments import number
from unrolled.sparsify.machinery.capture import Capture
from unrolled.sparsify.machinery.ending import write, written
from unrolled.sparsify.machinery.guards import Guard
from unrolled.sparsify.machinery.masks import Masks
from unrolled.sparsify.machinery.optimizer_metric import groups_of, unwrapped
from unrolled.sparsify.machinery.survivors import Survivors
from unrolled.sparsify.schedules import Schedule
from unrolled.sparsify.selection import count_zeros, select_weights
from unrolled.system.recipes import Described, describe
from unrolled.system.scalars import as_number


class Sparsifier(Described, Choices):
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

    A subclass is a strategy; what it may choose is listed in `Choices`. Its constructor hands `**options` on to this
    one and sets its own attributes afterwards; `attach` is called when all of them are set.

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

    checks_numbers = True

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
        if strength is not None:
            strength = number(name, "strength", strength, "a finite number > 0", lambda s: 0 < s < math.inf)
        self.model, self.penalty = model, penalty
        self.course = Course(name, target, schedule, fine_tune, steps)
        self.base_strength = self.initial_strength() if strength is None else float(strength)
        self.weights = select_weights(model, include, exclude)
        if isinstance(groups, PricedGroups):
            groups.check([weight.name for weight in self.weights])
        for weight in self.weights:
            weight.penalty = penalty_of(weight, penalty, groups)
        self.survivors = Survivors()
        self.learned = {}
        self.hooks = None
        self.masks: Masks | None = None
        self.finalized = False
        self._calls = {"loss": 0, "step": 0, "without a step of the optimiser": 0}

    def constructed(self) -> None:
        """Check the penalty, claim the weights and attach: when the subclass has set its attributes too."""
        self.check_penalty(self.penalty)
        self.capture = Capture(self.weights, self.course, self.survivors) if self.captures else None
        self.control = None if self.course.target is None else self.make_control()
        self.guard = Guard(self, self.model, self.weights)
        self.companions = self.make_companions()
        self.attach()
        self.guard.remember()

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
        self._calls["loss"] += 1
        if self.hooks is not None:
            self.hooks.clear()
        return self.loss_now() if self.masks is None else Choices.loss_now(self)

    @torch.no_grad()
    def step(self, optimizer: Optimizer) -> None:
        """To be called after each step of the optimiser. If that was skipped, as loss scaling does, nothing happens.

        Raises
        ------
        ValueError
            if the optimiser does not hold all parameters, or has steps that the strategy cannot do with; or the model
            is not as it was: parameters were added, replaced or frozen.
        """
        self._check_open("step")
        self.guard.check_model()
        if self._needs_length() and self.steps is None:
            raise ValueError(f"{type(self).__name__}: say how many steps the run takes: steps=…")
        optimizer = unwrapped(optimizer)
        options = groups_of(optimizer)
        self.guard.check_optimizer(options, self.parameters())
        self._calls["step"] += 1
        if not self.guard.has_stepped():
            self._calls["without a step of the optimiser"] += 1
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
        self.guard.remember()

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

        Warns
        -----
        UserWarning
            if the share of zeros is not the target: by more than half a point, and than groups of their size allow; or
            if `loss` was never called, which the strategy needs. It says what else was not as it has to be.

        Raises
        ------
        ValueError
            if it was called before, the model is not as it was, or a weight has no numbers or would get some that are
            not finite; the model is left as it is then.
        """
        self._check_open("finalize")
        self.guard.check_model()
        for weight in self.weights:
            if weight.parameter.is_meta:
                raise ValueError(f"finalize: {weight.name} lies on the device meta, where no number can become 0")
        sparse = self.sparse_weights()
        for name, values in sparse.items():
            if not values.isfinite().all():
                raise ValueError(f"finalize: {name} would get numbers that are not finite; the model is left as it is")
        self._check_run(list(sparse.values()))
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
        self.guard.remember()

    # Inside

    def _check_run(self, sparse: Sequence[Tensor]) -> None:
        """With a target, say it if that is missed, or if the strategy was not called as it has to be."""
        if self.target is None:
            return
        share, said = count_zeros(sparse) / sum(values.numel() for values in sparse), []
        calls, idle = self._calls, self._calls["without a step of the optimiser"]
        if abs(share - self.target) > max(TOLERANCE, self.grain()) + 1e-9:
            missed = f"the target of {self.target:.4g} is missed, {share:.4g} of the weights are zero"
            if self.progress < 1:
                missed += f", after {self.step_count} of {self.steps or 'an unknown number of'} steps"
            said.append(missed)
            if not (calls["step"] or self.step_count):
                said.append("step was never called, which belongs behind each step of the optimiser")
            if idle:
                said.append(f"in {idle} of {calls['step']} calls of step the optimiser had not stepped")
        if calls["step"] > idle and not calls["loss"] and type(self).loss_now is not Choices.loss_now:
            said.append("loss was never called, which belongs to the loss of the task")
        if said:
            warnings.warn(f"{type(self).__name__}: {'; '.join(said)}", stacklevel=4)

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
    number = as_number(value)
    if number is not None:
        return number
    try:
        return describe(value)
    except (AttributeError, ValueError):
        return getattr(value, "__qualname__", None) or repr(value)
