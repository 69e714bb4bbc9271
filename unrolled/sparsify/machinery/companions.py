"""Biases and norms behind dead filters."""

import sys
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from unrolled.sparsify.machinery.computed import computed_of
from unrolled.sparsify.machinery.layout import Layer, by_output
from unrolled.sparsify.selection import Weight

_BIASES = ("bias", "in_proj_bias")
_Norm = nn.modules.batchnorm._NormBase  # of batches and of instances: each channel by itself


class Companions:
    """What makes a dead filter emit something nevertheless: its bias, and scale and shift of the norm behind it.

    Only for weights with groups, and for filters, output units and heads that are 0 as a whole. A norm is behind a
    layer if it is given the very tensor that the layer returned, and never another one; that is seen in the model's
    first run. A compiled one shows nothing: after its first step nothing is compiled until it has run once more. Layers
    whose outcome is an output of the model keep their biases, and frozen parameters stay as they are.

    Parameters
    ----------
    model : Module
    weights : sequence of Weight
    """

    def __init__(self, model: nn.Module, weights: Sequence[Weight]):
        self.model = model
        self.weights = [weight for weight in weights if weight.grouping is not None and _layers(weight)]
        self.shifts: dict[str, list[str]] = {}
        self.scales: dict[str, list[str]] = {}
        self.means: dict[str, list[str]] = {}
        self._handles: list[RemovableHandle] = []
        self._waits = False
        self._end_waiting: Callable[[], object] = _nothing
        self._made = WeakTensorKeyDictionary()
        self._fed: dict[_Norm, list[nn.Module | None]] = {}
        if self.weights:
            self._check_biases()
            self._watch()

    @torch.no_grad()
    def silence(self, values: Mapping[str, Tensor]) -> None:
        """Set the shifts of dead filters to zero, so that the rest is trained without what they would emit.

        Their scales stay: without them, a filter could never come back. The running mean behind a filter that is 0
        becomes what it tends to, so that in evaluation mode it emits 0 at once.

        Parameters
        ----------
        values : mapping
            name of a weight → what it is, or is to become.

        Warns
        -----
        UserWarning
            at the second step, if the model has not been seen to run.
        """
        if self._handles:
            self._not_seen()
        else:
            self._end_waiting()
        for weight in self.weights:
            names = self.shifts.get(weight.name, [])
            if names or self.means.get(weight.name):
                dead = _dead(weight, values[weight.name])
                for name in names:
                    self.model.get_parameter(name).masked_fill_(dead, 0)
                gone = dead & _dead(weight, weight.parameter)
                for name in self.means.get(weight.name, []):
                    self.model.get_buffer(name).masked_fill_(gone, 0)

    def dead(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Name of a companion → True where it has to be 0 for these values of the weights."""
        found = {}
        for weight in self.weights:
            if names := self._names(weight):
                found.update(dict.fromkeys(names, _dead(weight, values[weight.name])))
        return found

    def write(self, own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        """Set to zero, among the parameters of a model or a copy, what has to be 0 for these values of the weights."""
        for name, zero in self.dead(values).items():
            own[name].masked_fill_(zero, 0)

    def names(self) -> list[str]:
        """Of all companions that are known."""
        return [name for weight in self.weights for name in self._names(weight)]

    def close(self) -> None:
        """End it: nothing stays on the model."""
        self._take_hooks()
        self._end_waiting()

    def _take_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._fed, self._made = [], {}, WeakTensorKeyDictionary()

    def state_dict(self) -> dict[str, Any]:
        """What the first run showed."""
        return {"shifts": self.shifts, "scales": self.scales, "means": self.means, "waits": self._waits}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Know it without a run."""
        if state["shifts"] or state["scales"]:
            self.shifts, self.scales, self.means = (dict(state[kind]) for kind in ("shifts", "scales", "means"))
            self.close()
        elif state.get("waits"):
            self._wait()

    def _names(self, weight: Weight) -> list[str]:
        return self.shifts.get(weight.name, []) + self.scales.get(weight.name, [])

    def _check_biases(self) -> None:
        owners = {(module, name) for weight in self.weights for module, _ in weight.owners for name in _BIASES}
        for computed in computed_of(self.model):
            if (computed.module, computed.attribute) in owners:
                raise ValueError(
                    f"model: {computed}, so that it cannot become 0 with a dead filter; undo it by {computed.remedy}"
                )

    def _watch(self) -> None:
        for module in self.model.modules():
            if isinstance(module, Layer | nn.MultiheadAttention):
                self._handles.append(module.register_forward_hook(_Hook(self._after_layer)))
            elif isinstance(module, _Norm):
                self._handles.append(module.register_forward_pre_hook(_Hook(self._before_norm)))
        whole: nn.Module = getattr(self.model, "_orig_mod", self.model)  # what torch.compile was given
        self._handles.append(whole.register_forward_hook(_Hook(self._after_model)))

    def _not_seen(self) -> None:
        """There was a step, and the model did not run as a whole, or ran compiled."""
        if not self._waits:
            self._wait()
            return
        biased = any(bias is not None for weight in self.weights for _, bias in _layers(weight))
        if biased or any(isinstance(module, _Norm) for module in self.model.modules()):
            warnings.warn(
                f"{type(self.model).__name__} was stepped twice and did not run as a whole, so that biases and norms "
                "behind dead filters stay as they are; make the sparsifier of the module that is called",
                stacklevel=4,
            )
        self.close()

    def _wait(self) -> None:
        self._waits, self._end_waiting = True, _without_compiling(self)

    def _after_layer(self, module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(module, nn.MultiheadAttention):
            module, output = module.out_proj, output[0]
        self._made[output] = module

    def _before_norm(self, module: _Norm, inputs: tuple[Any, ...]) -> None:
        source = self._made.get(inputs[0]) if inputs else None
        if isinstance(source, nn.Linear) and inputs[0].ndim > 2:
            source = None  # its units are on the last axis, the norm's channels on the second one
        self._fed.setdefault(module, []).append(source)

    def _after_model(self, _: nn.Module, __: Any, output: Any) -> None:
        outputs = {self._made.get(leaf) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)}
        buffers = {id(buffer): name for name, buffer in self.model.named_buffers()}
        names = {id(parameter): name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        behind: dict[nn.Module, list[_Norm]] = {}
        for norm, sources in self._fed.items():
            if len(set(sources)) == 1 and sources[0] is not None:
                behind.setdefault(sources[0], []).append(norm)
        for weight in self.weights:
            layers = _layers(weight)
            norms = [norm for layer, _ in layers for norm in behind.get(layer, [])]
            shifts = [bias for layer, bias in layers if layer not in outputs]
            shifts += [norm.bias for norm in norms]
            self.shifts[weight.name] = [names[id(bias)] for bias in shifts if id(bias) in names]
            self.scales[weight.name] = [names[id(norm.weight)] for norm in norms if id(norm.weight) in names]
            # Only behind layers without a bias that stays: what the norm is given is 0 then.
            biases = {id(bias) for _, bias in layers if bias is not None}
            silent = biases <= {id(bias) for bias in shifts if id(bias) in names}
            means = [norm.running_mean for norm in norms] if silent else []
            self.means[weight.name] = [buffers[id(mean)] for mean in means if id(mean) in buffers]
        self._waits = False
        self._take_hooks()


_waiting: list[object] = []
"""One for each of those that wait for a run that is not compiled, behind what ends it."""


def _without_compiling(owner: object) -> Callable[[], object]:
    """Let compiled functions run as they are until what this returns is called, or its owner is gone.

    For all who wait it is set once, and taken back when the last of them has ended.
    """
    if "torch._dynamo" not in sys.modules:  # nothing was compiled yet
        return _nothing
    if not _waiting:
        _waiting.append(torch.compiler.set_stance("force_eager"))
    token = object()
    _waiting.append(token)

    def end() -> None:
        _waiting.remove(token)
        if len(_waiting) == 1:
            _waiting.pop().__exit__(None, None, None)  # type: ignore[attr-defined]

    return weakref.finalize(owner, end)


class _Hook:
    """A hook that does nothing on copies of a model, and nothing while it is compiled."""

    def __init__(self, function: Callable[..., None]):
        self.function = function

    def __call__(self, *arguments: Any) -> None:
        if not torch.compiler.is_compiling():
            self.function(*arguments)

    def __deepcopy__(self, _: Any) -> "_Hook":
        return _Hook(_nothing)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Hook, (_nothing,)


def _nothing(*_: Any) -> None:
    pass


def _layers(weight: Weight) -> list[tuple[nn.Module, Tensor | None]]:
    """The layers that use a weight, each with the bias that its outputs have; none if they use it differently."""
    found: list[tuple[nn.Module, Tensor | None]] = []
    for module, attribute in weight.owners:
        if isinstance(module, Layer) and attribute == "weight":
            found.append((module, module.bias))
        elif isinstance(module, nn.MultiheadAttention) and attribute == "in_proj_weight":
            found.append((module, module.in_proj_bias))
    return found if len({type(module) for module, _ in weight.owners}) == 1 else []


def _dead(weight: Weight, values: Tensor) -> Tensor:
    return ~by_output(values, weight.module).any(1)
