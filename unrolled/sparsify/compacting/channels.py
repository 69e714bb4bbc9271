"""Dead channels, removed for real."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from unrolled.sparsify.compacting.coupling import dependency_graph
from unrolled.sparsify.compacting.dead_channels import REMOVABLE, UNKNOWN, ChannelGroup, ranges_of, tied_modules
from unrolled.sparsify.compacting.example import agree, copied, example_and_noise, in_float64, outputs_of
from unrolled.sparsify.machinery.computed import computed_of
from unrolled.sparsify.machinery.layout import Layer, by_output, is_depthwise, layers_of, width
from unrolled.sparsify.selection import check_values, parameters_of


@dataclass(frozen=True)
class Compaction:
    """What `compaction` gives.

    Attributes
    ----------
    model : Module
        the smaller one.
    removed : dict
        layer → its output channels or units that are gone, counted as they were.
    kept : dict
        layer → dead output channels or units that are still there, each with the reason.
    parameters : (int, int)
        how many numbers the model had, and has.
    """

    model: nn.Module
    removed: Mapping[str, list[int]]
    kept: Mapping[str, dict[int, str]]
    parameters: tuple[int, int]

    def __str__(self) -> str:
        before, after = self.parameters
        lines = [f"{before:,} parameters → {after:,} ({after / max(before, 1):.1%})"]
        lines += [f"  {name}: {len(channels)} removed" for name, channels in self.removed.items()]
        for name, reasons in self.kept.items():
            for reason in sorted(set(reasons.values())):
                count = list(reasons.values()).count(reason)
                lines.append(f"  {name}: {count} dead kept, {reason}")
        return "\n".join(lines)


def compact(model: nn.Module, example: Any) -> nn.Module:
    """The model without its dead filters, channels and units: a smaller one with the same outputs.

    What is 0 for every input, or read by nobody, is removed from all layers that it runs through: of sequential,
    residual and concatenating networks, through norms, activations, depthwise and transposed convolutions, pixel
    shuffles, and from a convolution to a dense layer. Filters that always emit the same number are removed where that
    can move into the biases of the layers that read it, which zero padding forbids. A layer keeps at least one channel;
    inputs and outputs of the model stay as they are. `compaction` tells what was removed, and what was not and why.

    Parameters
    ----------
    model : Module
        left as it is.
    example : Any
        what the model is called with: a tuple has positional arguments, a dict those by keyword, anything else is the
        only argument.

    Returns
    -------
    Module, in the modes (training or evaluation), types and devices of the model

    Raises
    ------
    ValueError
        if torch-pruning is not installed, the model cannot be copied, run on the example or traced, a parameter has no
        numbers, or a layer uses what is computed from parameters: by a parametrization, a weight or spectral norm, a
        mask of `torch.nn.utils.prune`.

    Warns
    -----
    UserWarning
        if channels seemed to be removable, but the outputs would have changed; they are kept.

    Notes
    -----
    Which channels hang together is found by the dependency graph of Torch-Pruning (Fang et al., CVPR 2023). That a
    channel is 0 or constant is tested by putting noise of either sign in place of all that the layers compute; that
    outputs are the same in evaluation mode, on the example and on noise of its shape, in float64 if the model runs in
    it.
    """
    return compaction(model, example).model


def compaction(model: nn.Module, example: Any) -> Compaction:
    """As `compact`, with what was removed and what was kept."""
    pruning = _torch_pruning()
    if not isinstance(model, nn.Module):
        raise ValueError(f"compact: model must be a torch.nn.Module, got {type(model).__name__}")
    check_values(parameters_of(model).values())
    for computed in computed_of(model):
        raise ValueError(f"compact: {computed}, not a parameter that can be made smaller; undo it by {computed.remedy}")
    with torch.random.fork_rng(), torch.inference_mode(False):
        return _Compactor(pruning, model, example).run()


def _torch_pruning() -> ModuleType:
    try:
        import torch_pruning
    except ImportError as error:
        raise ValueError("compact needs Torch-Pruning: pip install 'unrolled[compact]'") from error
    return torch_pruning


@dataclass
class _Removal:
    """Output channels of a layer, and what is coupled with them."""

    layer: str
    kind: str
    channels: list[int]
    constants: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    """Layer that reads them → channel → the numbers that it gets of it."""


class _Compactor:
    """Removes what can be, on a copy in float64, until nothing more is found."""

    def __init__(self, pruning: ModuleType, model: nn.Module, example: Any):
        self.pruning, self.original = pruning, model
        self.model = copied(model).eval()
        self.inputs = example_and_noise(example, model)
        if any(isinstance(leaf, Tensor) and not leaf.numel() for leaf in tree_leaves(self.inputs)):
            raise ValueError("example: must have numbers, for outputs are compared on it; got an empty tensor")
        try:
            outputs_of(self.model, self.inputs[0])
        except Exception as error:
            raise ValueError(f"example: the model cannot be run on it: {error}") from error
        self._widen()
        self.reference = [outputs_of(self.model, inputs) for inputs in self.inputs]
        self.channels = {name: list(range(width(module))) for name, module in layers_of(self.model)}
        self.refused: dict[tuple[str, str], str] = {}
        self.reasons: dict[str, list[str]] = {}

    def run(self) -> Compaction:
        while removals := self.find():
            found = self.try_out(removals)
            if found is not None:
                self.model, self.channels = found
        self._narrow()
        removed = {}
        for name, module in layers_of(self.original):
            gone = sorted(set(range(width(module))) - set(self.channels[name]))
            if gone:
                removed[name] = gone
        sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in (self.original, self.model)]
        return Compaction(self.model, removed, self._kept(), (sizes[0], sizes[1]))

    def find(self) -> list[_Removal]:
        """What could be removed from the model as it is now."""
        graph = self.graph(self.model)
        ranges, tied = ranges_of(self.model, self.inputs), tied_modules(self.model)
        names = {module: name for name, module in self.model.named_modules()}
        self.reasons, removals = {}, []
        taken: set[nn.Module] = set()
        for layer in [module for module in graph.module2node if isinstance(module, Layer)]:
            if is_depthwise(layer):
                continue  # those before it decide
            try:
                group = ChannelGroup(graph, layer)
                reasons, constants = group.judge(ranges, names, tied)
                outputs = list(group.outputs())
                channels = self._removable(group, names[layer], reasons)
            except Exception as error:
                self.reasons[names[layer]] = [f"the dependency graph fails at it: {error}"] * width(layer)
                continue
            for module, own, mine in outputs:
                known = self.reasons.setdefault(
                    names[module], ["it is coupled with channels that are alive"] * width(module)
                )
                for index, channel in zip(own, mine, strict=True):
                    known[index] = UNKNOWN if channel is None else reasons[channel]
            # What another removal has changed the numbering of waits for the next round.
            changed = {module for module, _, mine in outputs if set(mine) & set(channels)}
            if channels and not changed & taken:
                taken |= changed
                kind = "constant" if any(reasons[i] == "constant" for i in channels) else "zero"
                chosen = {name: {i: values[i] for i in channels if i in values} for name, values in constants.items()}
                removals.append(_Removal(names[layer], kind, channels, chosen))
        return removals

    def _removable(self, group: ChannelGroup, name: str, reasons: list[str]) -> list[int]:
        """The channels that can go; of those that cannot, the reasons are made up for."""
        channels = []
        for i, kind in enumerate(reasons):
            if (name, kind) in self.refused:
                reasons[i] = self.refused[name, kind]
            elif kind in REMOVABLE:
                channels.append(i)
        if channels and len(channels) == len(reasons):
            reasons[channels.pop()] = "it is the last one"
        for i in group.incomplete(channels):
            channels.remove(i)
            reasons[i] = "it is coupled with channels that are alive"
        return channels

    def try_out(self, removals: list[_Removal]) -> tuple[nn.Module, dict[str, list[int]]] | None:
        """The model without these, or without part of them if not all can go; None, and a refusal, if none can."""
        found = self._without(removals)
        if isinstance(found, tuple):
            return found
        if len(removals) > 1:
            half = len(removals) // 2
            return self.try_out(removals[:half]) or self.try_out(removals[half:])
        only = removals[0]
        self.refused[only.layer, only.kind] = found
        warnings.warn(
            f"compact: {only.layer} keeps {len(only.channels)} channels that seemed to be removable: {found}",
            stacklevel=5,
        )
        return None

    def _without(self, removals: list[_Removal]) -> tuple[nn.Module, dict[str, list[int]]] | str:
        """The model without these, verified, and its channels; or why that is not possible."""
        model, channels = copied(self.model), dict(self.channels)
        try:
            graph = self.graph(model)
            layers = dict(layers_of(model))
            names = {module: name for name, module in layers.items()}
            for removal in removals:
                group = ChannelGroup(graph, layers[removal.layer], removal.channels)
                if not group.removable():
                    return "it is coupled with channels that are alive"
                for name, constants in removal.constants.items():
                    group.fold(layers[name], constants)
                for module, gone, _ in group.outputs():
                    before = channels[names[module]]
                    channels[names[module]] = [before[i] for i in range(len(before)) if i not in set(gone)]
                group.prune()
            outputs = [outputs_of(model, inputs) for inputs in self.inputs]
        except Exception as error:  # sizes that the model's own code counts on, or what the graph got wrong
            return f"the model would not run without them ({str(error).splitlines()[0] if str(error) else error!r})"
        same = all(agree(a, b, self.tolerance) for a, b in zip(self.reference, outputs, strict=True))
        return (model, channels) if same else "the outputs would change"

    def graph(self, model: nn.Module) -> Any:
        """The dependency graph."""
        return dependency_graph(self.pruning, model, self.inputs[0])

    def _widen(self) -> None:
        """Work in float64, if the model can."""
        self.tolerance = 1e-5
        try:
            wide = copied(self.model).double()
            inputs = [tree_map(in_float64, inputs) for inputs in self.inputs]
            outputs = outputs_of(wide, inputs[0])
        except Exception:
            return
        if all(leaf.dtype == torch.float64 for leaf in outputs if leaf.is_floating_point()):
            self.model, self.inputs, self.tolerance = wide, inputs, 1e-9

    def _narrow(self) -> None:
        """Back to the types, modes and frozen parameters of the original."""
        before = {**dict(self.original.named_parameters()), **dict(self.original.named_buffers())}
        modules = dict(self.original.named_modules())
        self.model = copied(self.model)  # without the history of what it keeps of the last run
        for module_name, module in self.model.named_modules():
            module.training = modules[module_name].training
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is None:
                    continue
                full = f"{module_name}.{name}" if module_name else name
                like = before.get(full, before.get(full.removesuffix("bias") + "weight"))
                if like is not None:
                    tensor.data = tensor.data.to(like.dtype)
                    tensor.grad = None
                    tensor.requires_grad_(like.requires_grad)

    def _kept(self) -> dict[str, dict[int, str]]:
        kept = {}
        for name, module in layers_of(self.model):
            reasons = self.reasons.get(name, ["the dependency graph does not know the layer"] * width(module))
            dead = (~by_output(module.weight.detach(), module).any(1)).nonzero().flatten().tolist()
            if dead:
                kept[name] = {self.channels[name][i]: reasons[i] for i in dead}
        return kept
