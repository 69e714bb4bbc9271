"""Dead channels, removed for real."""

import copy
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from unrolled.sparsify.compaction.example import arguments_of
from unrolled.sparsify.machinery.layout import TRANSPOSED, Layer, by_input, by_output

_CHANNELWISE = (nn.modules.batchnorm._NormBase, nn.PReLU)
_REMOVABLE = ("zero", "constant")
_SCALES = (1.0, -1.0, 1e3, -1e3)
"""Of the noise: of either sign and two sizes, so that no activation hides that a channel is alive."""


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
    residual and concatenating networks, through norms, activations, depthwise and transposed convolutions, and from
    a convolution to a dense layer. Filters that always emit the same number are removed where that can move into the
    biases of the layers that read it, which zero padding forbids. A layer keeps at least one channel; inputs and
    outputs of the model stay as they are. `compaction` tells what was removed, and what was not and why.

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
        if torch-pruning is not installed, or the model cannot be run on the example or traced.

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
        self.model = copy.deepcopy(model).eval()
        self.inputs = _example_and_noise(example)
        try:
            _outputs(self.model, self.inputs[0])
        except Exception as error:
            raise ValueError(f"example: the model cannot be run on it: {error}") from error
        self._widen()
        self.reference = [_outputs(self.model, inputs) for inputs in self.inputs]
        self.channels = {name: list(range(_width(module))) for name, module in _layers(self.model)}
        self.refused: dict[tuple[str, str], str] = {}
        self.reasons: dict[str, list[str]] = {}

    def run(self) -> Compaction:
        while removals := self.find():
            found = self.try_out(removals)
            if found is not None:
                self.model, self.channels = found
        self._narrow()
        removed = {}
        for name, module in _layers(self.original):
            gone = sorted(set(range(_width(module))) - set(self.channels[name]))
            if gone:
                removed[name] = gone
        sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in (self.original, self.model)]
        return Compaction(self.model, removed, self._kept(), (sizes[0], sizes[1]))

    def find(self) -> list[_Removal]:
        """What could be removed from the model as it is now."""
        graph = self.graph(self.model)
        ranges = self._ranges()
        names = {module: name for name, module in self.model.named_modules()}
        self.reasons, removals = {}, []
        taken: set[nn.Module] = set()
        for layer in [module for module in graph.module2node if isinstance(module, Layer)]:
            if _is_depthwise(layer):
                continue  # those before it decide
            try:
                group = _Group(graph, layer)
            except Exception as error:
                self.reasons[names[layer]] = [f"the dependency graph fails at it: {error}"] * _width(layer)
                continue
            reasons, constants = group.judge(ranges, names, self.tied)
            channels = []
            for i, kind in enumerate(reasons):
                if (names[layer], kind) in self.refused:
                    reasons[i] = self.refused[names[layer], kind]
                elif kind in _REMOVABLE:
                    channels.append(i)
            if channels and len(channels) == len(reasons):
                reasons[channels.pop()] = "it is the last one"
            for module, own, mine in group.outputs():
                known = self.reasons.setdefault(
                    names[module], ["it is coupled with channels that are alive"] * _width(module)
                )
                for index, channel in zip(own, mine, strict=True):
                    known[index] = reasons[channel]
            # What another removal has changed the numbering of waits for the next round.
            outputs = {module for module, _, mine in group.outputs() if set(mine) & set(channels)}
            if channels and not outputs & taken:
                taken |= outputs
                kind = "constant" if any(reasons[i] == "constant" for i in channels) else "zero"
                chosen = {name: {i: values[i] for i in channels if i in values} for name, values in constants.items()}
                removals.append(_Removal(names[layer], kind, channels, chosen))
        return removals

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
        model, channels = copy.deepcopy(self.model), dict(self.channels)
        try:
            graph = self.graph(model)
            layers = dict(_layers(model))
            names = {module: name for name, module in layers.items()}
            for removal in removals:
                group = _Group(graph, layers[removal.layer], removal.channels)
                if not group.removable():
                    return "it is coupled with channels that are alive"
                for name, constants in removal.constants.items():
                    group.fold(layers[name], constants)
                for module, gone, _ in group.outputs():
                    before = channels[names[module]]
                    channels[names[module]] = [before[i] for i in range(len(before)) if i not in set(gone)]
                group.group.prune(record_history=False)
            outputs = [_outputs(model, inputs) for inputs in self.inputs]
        except Exception as error:  # sizes that the model's own code counts on, or what the graph got wrong
            return f"the model would not run without them ({str(error).splitlines()[0] if str(error) else error!r})"
        same = all(_agree(a, b, self.tolerance) for a, b in zip(self.reference, outputs, strict=True))
        return (model, channels) if same else "the outputs would change"

    def graph(self, model: nn.Module) -> Any:
        """The dependency graph of Torch-Pruning."""
        for parameter in model.parameters():
            parameter.requires_grad_(True)  # it is found by following gradients
        positional, keywords = self.inputs[0]
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            try:
                return self.pruning.DependencyGraph().build_dependency(
                    model,
                    example_inputs=positional,
                    forward_fn=lambda network, _: network(*positional, **keywords),
                    # A step of its own, so that outputs are known as such also where a layer gives them.
                    output_transform=lambda output: [
                        leaf * 1
                        for leaf in tree_leaves(output)
                        if isinstance(leaf, Tensor) and leaf.grad_fn is not None
                    ],
                    verbose=False,
                )
            except Exception as error:
                raise ValueError(f"compact: {type(model).__name__} cannot be traced: {error}") from error

    @torch.no_grad()
    def _ranges(self) -> dict[nn.Module, tuple[Tensor, Tensor]]:
        """Of every layer, the smallest and largest number of each input channel, whatever alive filters emit."""
        noise = _Noise()
        handles = [module.register_forward_hook(noise) for _, module in _layers(self.model)]
        for noise.scale in _SCALES:
            for inputs in self.inputs:
                _outputs(self.model, inputs)
        for handle in handles:
            handle.remove()
        return noise.ranges

    @property
    def tied(self) -> set[nn.Module]:
        """Modules that share a parameter with another one."""
        owners: dict[int, list[nn.Module]] = {}
        for module in self.model.modules():
            for parameter in module._parameters.values():
                if parameter is not None:
                    owners.setdefault(id(parameter), []).append(module)
        return {module for modules in owners.values() if len(modules) > 1 for module in modules}

    def _widen(self) -> None:
        """Work in float64, if the model can."""
        self.tolerance = 1e-5
        try:
            wide = copy.deepcopy(self.model).double()
            inputs = [tree_map(_double, inputs) for inputs in self.inputs]
            outputs = _outputs(wide, inputs[0])
        except Exception:
            return
        if all(leaf.dtype == torch.float64 for leaf in outputs if leaf.is_floating_point()):
            self.model, self.inputs, self.tolerance = wide, inputs, 1e-9

    def _narrow(self) -> None:
        """Back to the types, modes and frozen parameters of the original."""
        before = {**dict(self.original.named_parameters()), **dict(self.original.named_buffers())}
        modules = dict(self.original.named_modules())
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
        for name, module in _layers(self.model):
            reasons = self.reasons.get(name, ["the dependency graph does not know the layer"] * _width(module))
            dead = (~by_output(module.weight.detach(), module).any(1)).nonzero().flatten().tolist()
            if dead:
                kept[name] = {self.channels[name][i]: reasons[i] for i in dead}
        return kept


class _Group:
    """Output channels of a layer, and all that is coupled with them.

    Parameters
    ----------
    graph : DependencyGraph
    layer : Module
    channels : list of int, optional
        by default all.
    """

    def __init__(self, graph: Any, layer: Layer, channels: list[int] | None = None):
        self.graph, self.layer = graph, layer
        self.channels = list(range(_width(layer))) if channels is None else channels
        prune = graph.get_pruner_of_module(layer).prune_out_channels
        self.group = graph.get_pruning_group(layer, prune, self.channels)

    def members(self) -> Iterator[tuple[nn.Module, bool, bool, list[int], list[int]]]:
        """Modules, whether their inputs and outputs are meant, which ones, and to which channels they belong."""
        for item in self.group:
            inside = self.graph.is_in_channel_pruning_fn(item.dep.handler)
            outside = self.graph.is_out_channel_pruning_fn(item.dep.handler)
            yield item.dep.target.module, inside, outside, list(item.idxs), list(item.root_idxs)

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
                return ["it is coupled in a way that is not known"] * len(self.channels), {}
            obstacle = _obstacle(module, names, tied)
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
        return whole and self.graph.check_pruning_group(self.group)

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
                pairs = sorted(zip(own, channels, strict=True))
                numbers = {channel: iter(values) for channel, values in constants.items()}
                values = [next(numbers[channel]) for _, channel in pairs]
                if not any(values):
                    return
                weight = by_input(reader.weight, reader)[[index for index, _ in pairs]]
                weight = weight.reshape(len(pairs), _width(reader), -1)
                moved = torch.einsum("iok,i->o", weight, torch.tensor(values, dtype=weight.dtype, device=weight.device))
                reader.bias = nn.Parameter(moved if reader.bias is None else reader.bias + moved)


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

    def __call__(self, module: Layer, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        rows = inputs[0].movedim(_channel_axis(module), 0).flatten(1)
        rows = rows.abs() if rows.is_complex() else rows
        low, high = rows.amin(1), rows.amax(1)
        fed = (low != 0) | (high != 0)
        if module in self.ranges:
            low, high = torch.minimum(low, self.ranges[module][0]), torch.maximum(high, self.ranges[module][1])
        self.ranges[module] = low, high
        shape = [1] * output.ndim
        shape[_channel_axis(module)] = -1
        if module not in self.reads:
            self.reads[module] = _reads(module)
        alive = (self.reads[module] & fed[:, None]).any(0).reshape(shape)
        return torch.where(alive, self.scale * torch.randn_like(output), output)


def _reads(module: Layer) -> Tensor:
    """Which output of a layer reads which input, (inputs, outputs)."""
    if _is_depthwise(module):
        return by_output(module.weight, module).any(1).diag()
    rows = by_input(module.weight, module)
    if getattr(module, "groups", 1) > 1:
        return by_output(module.weight, module).any(1).expand(len(rows), -1)  # at most
    return rows.reshape(len(rows), _width(module), -1).any(2)


def _obstacle(module: nn.Module, names: Mapping[nn.Module, str], tied: set[nn.Module]) -> str | None:
    """Why channels that run through a module have to stay, or None."""
    if module in tied:
        return f"{names[module]} shares its weights"
    if isinstance(module, nn.modules.conv._ConvNd):
        fine = module.groups == 1 or _is_depthwise(module)
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


def _layers(model: nn.Module) -> list[tuple[str, Layer]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, Layer)]


def _is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == layer.in_channels == layer.out_channels


def _width(layer: Layer) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _channel_axis(layer: Layer) -> int:
    return -1 if isinstance(layer, nn.Linear) else -1 - len(layer.kernel_size)


def _example_and_noise(example: Any) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The example, and noise in place of its floating-point numbers."""

    def noise(leaf: Any) -> Any:
        floating = isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())
        return torch.randn_like(leaf) if floating else leaf

    torch.manual_seed(0)
    arguments = arguments_of(example)
    return [arguments, tree_map(noise, arguments)]


def _double(leaf: Any) -> Any:
    return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


@torch.no_grad()
def _outputs(model: nn.Module, inputs: tuple[tuple[Any, ...], dict[str, Any]], seed: int = 0) -> list[Tensor]:
    positional, keywords = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, inputs)
    torch.manual_seed(seed)
    output = model(*positional, **keywords)
    return [leaf.clone() for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def _agree(wanted: list[Tensor], given: list[Tensor], tolerance: float) -> bool:
    """Whether outputs are the same up to a part of their size."""
    if [leaf.shape for leaf in wanted] != [leaf.shape for leaf in given]:
        return False
    for a, b in zip(wanted, given, strict=True):
        finite = a[a.isfinite()].abs()
        size = float(finite.max()) if finite.numel() else 0.0
        if not torch.allclose(a, b, rtol=0.0, atol=tolerance * size + tolerance**2, equal_nan=True):
            return False
    return True
