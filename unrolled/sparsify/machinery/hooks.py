"""Weights that are replaced while a model runs."""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from unrolled.sparsify.selection import Weight

Replace = Callable[[Weight, Tensor, torch.Generator | None], Tensor | None]
"""(weight, its values, generator of its noise or None in evaluation mode) ↦ what is used instead; None: the values."""

Disturb = Callable[[Weight, nn.Module, Tensor, Tensor], Tensor]
"""(weight, module, input, output) ↦ the output instead, in training mode."""


class WeightHooks:
    """Replaces weights from the call of a module to its end, and outputs of modules.

    Nothing is attached to the model: torch tells of every call of a module, and what is not one of this very model is
    left alone. So copies, pickles and averages of the model are plain models, and the keys of its state stay. While a
    module runs, the replacement lies before the parameter of each module that uses the weight, itself or inside of it;
    the parameter stays where it is, and gradients reach it through the replacement. It ends with the call, also by an
    exception.

    A weight is replaced once in each call of the model, however often and by whatever names it is used. If only a part
    of the model is called, that is done for the part. What gradient checkpointing computes again in the backward pass
    gets the replacement of the last call of the model.

    Noise of weights is drawn from generators whose seeds come from torch's global generator of the CPU, one draw for
    each call of the model in training mode.

    Parameters
    ----------
    model : Module
    weights : sequence of Weight
        those that are replaced.
    replace : function
        what is used in place of a weight. Evaluation mode is that of the first module that uses it. Methods, this one
        and `disturb`, are held weakly: an object that keeps these hooks and is dropped takes them along at once.
    disturb : function, optional
        what is used in place of an output.
    disturbed : mapping module → Weight
        the modules with one input and one output for which it is.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Sequence[Weight],
        replace: Replace,
        disturb: Disturb | None = None,
        disturbed: Mapping[nn.Module, Weight] | None = None,
    ):
        self.enabled = True
        self._weights, self._replace = list(weights), _weak(replace)
        self._disturb, self._disturbed = disturb and _weak(disturb), dict(disturbed or {})
        users: dict[nn.Module, list[int]] = {}
        for number, weight in enumerate(self._weights):
            for module, _ in weight.owners:
                users.setdefault(module, []).append(number)
        inside = {module: [n for part in module.modules() for n in users.get(part, ())] for module in model.modules()}
        self._inside = {module: list(dict.fromkeys(numbers)) for module, numbers in inside.items() if numbers}
        self._calls: list[tuple[nn.Module, list[int]]] = []  # those that run, and what was replaced for each
        self._replaced: set[int] = set()
        self._seeds: list[int] = []
        self._seeds_wanted, self._again = True, False
        self._first: set[nn.Module] = set()  # modules that were called by themselves, not by another of the model
        this = weakref.ref(self)

        def before(module: nn.Module, args: Any) -> None:
            hooks = this()
            if hooks is not None:
                hooks._before(module)

        def after(module: nn.Module, args: Any, *rest: Any) -> Any:  # without kwargs where there was an exception
            hooks = this()
            return None if hooks is None else hooks._after(module, args, *rest)

        handles = [
            register_module_forward_pre_hook(before),
            register_module_forward_hook(after, with_kwargs=True, always_call=True),
        ]
        self._ends = [weakref.finalize(self, _remove, handle) for handle in handles]

    def remove(self) -> None:
        """End it."""
        self.clear()
        for end in self._ends:
            end()

    def clear(self) -> None:
        """Take away what a call left that was interrupted from the keyboard; to be called between calls."""
        while self._calls:
            self._restore(self._calls.pop()[1])

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """While it lasts, nothing is replaced."""
        enabled, self.enabled = self.enabled, False
        try:
            yield
        finally:
            self.enabled = enabled

    def _before(self, module: nn.Module) -> None:
        numbers = self._inside.get(module)
        if numbers is None or not self.enabled:
            return
        if not self._calls:
            self._begin(module)
        fresh = [number for number in numbers if number not in self._replaced]
        self._calls.append((module, fresh))
        for number in fresh:
            self._replaced.add(number)
            self._put(number)

    def _after(self, module: nn.Module, args: Any, *rest: Any) -> Any:
        if self._calls and self._calls[-1][0] is module:
            self._restore(self._calls.pop()[1])
        weight, output = self._disturbed.get(module), rest[-1]
        if weight is None or self._disturb is None or output is None or not (self.enabled and module.training):
            return None
        return self._disturb(weight, module, args[0] if args else rest[0]["input"], output)

    def _begin(self, module: nn.Module) -> None:
        # In the backward pass something is computed again. Where it was called by itself, its generator is set back,
        # and draws the same; where it was called by the model, the draw of the model is used again.
        if torch._C._current_graph_task_id() == -1:
            self._first.add(module)
        self._again = module not in self._first
        self._seeds_wanted = not self._again

    def _generator(self, number: int, device: torch.device) -> torch.Generator:
        if self._seeds_wanted or not self._seeds:
            self._seeds = torch.randint(2**32, (len(self._weights),), device="cpu").tolist()
            self._seeds_wanted = False
        return torch.Generator(device).manual_seed(self._seeds[number])

    def _put(self, number: int) -> None:
        weight = self._weights[number]
        values = weight.module._parameters.get(weight.owners[0][1])
        if values is None:
            raise ValueError(f"model: {weight.name} was replaced after the strategy that acts on it was made")
        generator = self._generator(number, values.device) if weight.module.training else None
        # Checkpointing counts what is saved for the backward pass, and did not see this the first time.
        with saved_tensors_hooks(Tensor.detach, Tensor.detach) if self._again else nullcontext():
            instead = self._replace(weight, values, generator)
        if instead is not None:
            for module, attribute in weight.owners:
                module.__dict__[attribute] = instead
                _tell(module)

    def _restore(self, numbers: list[int]) -> None:
        for number in numbers:
            self._replaced.discard(number)
            for module, attribute in self._weights[number].owners:
                if module.__dict__.pop(attribute, None) is not None:
                    _tell(module)


def _weak(function: Callable[..., Any]) -> Callable[..., Any]:
    if not isinstance(function, MethodType):
        return function
    method = weakref.WeakMethod(function)

    def call(*args: Any) -> Any:
        bound = method()
        assert bound is not None, "whose method it is keeps the hooks"
        return bound(*args)

    return call


def _remove(handle: RemovableHandle) -> None:
    handle.remove()
    # torch keeps that the hook wanted the keyword arguments, and takes it for a hook when a model is compiled.
    torch.nn.modules.module._global_forward_hooks_with_kwargs.pop(handle.id, None)


def _tell(module: nn.Module) -> None:
    """Recurrent modules have a list of their weights."""
    if isinstance(module, nn.RNNBase):
        module.__dict__["_flat_weights"] = [getattr(module, name, None) for name in module._flat_weights_names]
