"""Channels that are dead: 0 or constant whatever the input, or read by nobody."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.sparsify.compacting.coupling import start_group
from unrolled.sparsify.compacting.example import Arguments, outputs_of
from unrolled.sparsify.machinery.layout import (
    TRANSPOSED,
    Layer,
    by_input,
    by_output,
    channel_axis,
    inputs_of,
    is_depthwise,
    layers_of,
    width,
)

_CHANNELWISE = (nn.modules.batchnorm._NormBase, nn.PReLU)
REMOVABLE = ("zero", "constant")
"""The verdicts on channels that can go: nothing comes of them, or what can move into biases."""
UNKNOWN = "it is coupled in a way that is not known"

_SCALES = (1.0, -1.0, 1e3, -1e3)
"""Of the noise: of either sign and two sizes, so that no activation hides that a channel is alive."""


class ChannelGroup:
    """Output channels of a layer, and all that is coupled with them: what the dependency graph calls a group.

    Parameters
    ----------
    graph : DependencyGraph
    layer : Module
    channels : list of int, optional
        by default all.
    """

    def __init__(self, graph: Any, layer: Layer, channels: list[int] | None = None):
        self.graph, self.layer = graph, layer
        self.channels = list(range(width(layer))) if channels is None else channels
        prune = graph.get_pruner_of_module(layer).prune_out_channels
        start_group(graph)
        self.group = graph.get_pruning_group(layer, prune, self.channels)

    def members(self) -> Iterator[tuple[nn.Module, bool, bool, list[int], list[int]]]:
        """Modules, whether their inputs and outputs are meant, which ones, and to which channels they belong."""
        for item in self.group:
            inside = self.graph.is_in_channel_pruning_fn(item.dep.handler)
            outside = self.graph.is_out_channel_pruning_fn(item.dep.handler)
            module, own = item.dep.target.module, list(item.idxs)
            if isinstance(module, Layer) and max(own, default=-1) >= (width(module) if outside else inputs_of(module)):
                raise ValueError(f"it counts a channel {max(own)} of {module}")
            yield module, inside, outside, own, list(item.root_idxs)

    def judge(
        self, ranges: Mapping[nn.Module, tuple[Tensor, Tensor]], names: Mapping[nn.Module, str], tied: set[nn.Module]
    ) -> tuple[list[str], dict[str, dict[int, list[float]]]]:
        """For each channel "zero", "constant" (for those who read it), or why it has to stay; and the constants."""
        reasons = ["nothing reads it"] * len(self.channels)
        rank = {"nothing reads it": 0, "zero": 1, "constant": 2}
        constants: dict[str, dict[int, list[float]]] = {}

        def worsen(channel: int, reason: str) -> None:
            if rank.get(reason, 3) > rank.get(reasons[channel], 3):
                reasons[channel] = reason

        for module, inside, outside, own, channels in self.members():
            if any(channel is None for channel in channels):
                return [UNKNOWN] * len(self.channels), {}
            obstacle = self.graph.rearranging.get(module) or _obstacle(module, names, tied)
            if obstacle:
                for channel in channels:
                    worsen(channel, obstacle)
            elif isinstance(module, Layer) and inside and not outside:
                verdicts = self._reading(module, own, ranges.get(module))
                for _, channel, (verdict, value) in sorted(zip(own, channels, verdicts, strict=True)):
                    worsen(channel, verdict)
                    constants.setdefault(names[module], {}).setdefault(channel, []).append(value)
        return reasons, constants

    @staticmethod
    def _reading(module: Layer, own: list[int], bounds: tuple[Tensor, Tensor] | None) -> list[tuple[str, float]]:
        """What a layer gets from some of its inputs, and the number if it is one."""
        reads = by_input(module.weight.detach(), module)[own].any(1)
        if bounds is None:
            return [("it is coupled with channels that are alive" if used else "zero", 0.0) for used in reads.tolist()]
        low, high = (bound[own] for bound in bounds)
        single = high - low <= 1e3 * torch.finfo(high.dtype).eps * high.abs()
        verdicts = []
        for used, constant, smallest, largest in zip(*(x.tolist() for x in (reads, single, low, high)), strict=True):
            if not used or smallest == largest == 0:
                verdicts.append(("zero", 0.0))
            elif not constant:
                verdicts.append(("it is coupled with channels that are alive", 0.0))
            else:
                fine = _bias_can_take(module)
                verdicts.append(("constant" if fine else "it emits a constant that a padded layer reads", largest))
        return verdicts

    def removable(self) -> bool:
        """Whether exactly these channels can go, and every layer keeps some."""
        whole = all(set(gone) == set(self.channels) for module, gone, _ in self.outputs() if module is self.layer)
        return whole and self.graph.check_pruning_group(self._without_repeats())

    def incomplete(self, channels: Sequence[int]) -> list[int]:
        """Those of some channels that cannot go without others: before a pixel shuffle, the parts of one behind it."""
        if not channels:
            return []
        group = ChannelGroup(self.graph, self.layer, list(channels))
        drawn = [gone for module, gone, _ in group.outputs() if module is self.layer]
        if all(set(gone) <= set(channels) for gone in drawn):
            return []
        alone = {channel: ChannelGroup(self.graph, self.layer, [channel]) for channel in channels}
        return [
            channel
            for channel, one in alone.items()
            if any(not set(gone) <= set(channels) for module, gone, _ in one.outputs() if module is self.layer)
        ]

    def prune(self) -> None:
        """Remove the channels from all modules."""
        self._without_repeats().prune(record_history=False)

    def _without_repeats(self) -> Any:
        """The group with each channel once, for several may run into one, as before a pixel shuffle."""
        merged = type(self.group)()
        merged._DG = self.graph
        for item in self.group:
            merged.add_dep(item.dep, list(dict.fromkeys(item.idxs)))
        return merged

    def outputs(self) -> Iterator[tuple[Layer, list[int], list[int]]]:
        """The layers that would lose outputs, which ones, and to which channels they belong."""
        for module, _, outside, own, channels in self.members():
            if outside and isinstance(module, Layer):
                yield module, own, channels

    @torch.no_grad()
    def fold(self, reader: Layer, constants: Mapping[int, list[float]]) -> None:
        """Add to a layer's bias what it gets from channels that are constant."""
        for module, inside, outside, own, channels in self.members():
            if module is reader and inside and not outside:
                numbers = {channel: iter(values) for channel, values in constants.items()}
                pairs = [(index, next(numbers[channel])) for index, channel in sorted(zip(own, channels, strict=True))]
                given = dict(pairs)  # once for each input, even if several channels run into it
                values = list(given.values())
                if not any(values):
                    return
                weight = by_input(reader.weight, reader)[list(given)]
                weight = weight.reshape(len(given), width(reader), -1)
                moved = torch.einsum("iok,i->o", weight, torch.tensor(values, dtype=weight.dtype, device=weight.device))
                reader.bias = nn.Parameter(moved if reader.bias is None else reader.bias + moved)


@torch.no_grad()
def ranges_of(model: nn.Module, inputs: Sequence[Arguments]) -> dict[nn.Module, tuple[Tensor, Tensor]]:
    """Of every layer, the smallest and largest number of each input channel, whatever alive filters emit."""
    noise = _Noise()
    handles = [module.register_forward_hook(noise, with_kwargs=True) for _, module in layers_of(model)]
    for noise.scale in _SCALES:
        for arguments in inputs:
            outputs_of(model, arguments)
    for handle in handles:
        handle.remove()
    return noise.ranges


def tied_modules(model: nn.Module) -> set[nn.Module]:
    """Modules that share a parameter with another one."""
    owners: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append(module)
    return {module for modules in owners.values() if len(modules) > 1 for module in modules}


class _Noise:
    """A hook that notes what a layer is given, and puts noise in place of what it computed, where that depends on it.

    Attributes
    ----------
    ranges : dict
        layer → the smallest and largest number of each input channel so far; of complex ones the magnitude.
    """

    def __init__(self) -> None:
        self.scale = 1.0
        self.ranges: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self.reads: dict[nn.Module, Tensor] = {}

    def __call__(self, module: Layer, inputs: tuple[Tensor, ...], keywords: dict[str, Any], output: Tensor) -> Tensor:
        given = inputs[0] if inputs else next(iter(keywords.values()))
        axis = channel_axis(module)
        rows = given.movedim(axis, 0).reshape(given.shape[axis], -1)
        rows = rows.abs() if rows.is_complex() else rows
        low, high = rows.amin(1), rows.amax(1)
        fed = (low != 0) | (high != 0)
        if module in self.ranges:
            low, high = torch.minimum(low, self.ranges[module][0]), torch.maximum(high, self.ranges[module][1])
        self.ranges[module] = low, high
        shape = [1] * output.ndim
        shape[channel_axis(module)] = -1
        if module not in self.reads:
            self.reads[module] = _reads(module)
        alive = (self.reads[module] & fed[:, None]).any(0).reshape(shape)
        return torch.where(alive, self.scale * torch.randn_like(output), output)


def _reads(module: Layer) -> Tensor:
    """Which output of a layer reads which input, (inputs, outputs)."""
    if is_depthwise(module):
        return by_output(module.weight, module).any(1).diag()
    rows = by_input(module.weight, module)
    if getattr(module, "groups", 1) > 1:
        return by_output(module.weight, module).any(1).expand(len(rows), -1)  # at most
    return rows.reshape(len(rows), width(module), -1).any(2)


def _obstacle(module: nn.Module, names: Mapping[nn.Module, str], tied: set[nn.Module]) -> str | None:
    """Why channels that run through a module have to stay, or None."""
    if module in tied:
        return f"{names[module]} shares its weights"
    if isinstance(module, nn.modules.conv._ConvNd):
        fine = module.groups == 1 or is_depthwise(module)
        return None if fine else f"{names[module]} is a grouped convolution"
    if isinstance(module, (nn.Linear, nn.Parameter, *_CHANNELWISE)):
        return None
    if isinstance(module, nn.Module) and module in names:
        # Torch-Pruning follows those modules that are more than one function of each number.
        mixes = (nn.LayerNorm, nn.GroupNorm, nn.MultiheadAttention, nn.LSTM, nn.Embedding)
        return f"{names[module]} ({type(module).__name__}) mixes channels" if isinstance(module, mixes) else None
    return "it is an output of the model" if type(module).__name__ == "_OutputOp" else None


def _bias_can_take(module: Layer) -> bool:
    """Whether a constant input channel is the same as a bias: not if zeros are put around it."""
    if isinstance(module, nn.Linear):
        return not module.weight.is_complex()
    if isinstance(module, TRANSPOSED) or module.groups > 1 or module.weight.is_complex():
        return False
    return module.padding_mode != "zeros" or not any(module._reversed_padding_repeated_twice)
