"""Which channels of a model hang together: Torch-Pruning's dependency graph, told what reshapes and shuffles do."""

import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from unrolled.sparsify.compacting.example import Arguments


def dependency_graph(pruning: ModuleType, model: nn.Module, inputs: Arguments) -> Any:
    """The dependency graph of Torch-Pruning, with what it does not know itself.

    The library counts the channels before and behind a reshape, and takes more of them for a flattening; at a channel
    shuffle it divides by zero. It takes pixel shuffles for functions of each number, and what cuts or joins the last
    axis for a cut among channels, wherever these are. Here the shapes say what is reshaped, cut and joined, and pixel
    shuffles have their number of channels. Where the library still counts on for ever, that is ended.

    Parameters
    ----------
    pruning : module
        torch_pruning.
    model : Module
        whose parameters all get a gradient, for the graph is found by following them.
    inputs : (tuple, dict)

    Returns
    -------
    DependencyGraph
        besides, its `rearranging` has, for each step that mixes up channels, what that is.

    Raises
    ------
    ValueError
        if the model cannot be traced.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    positional, keywords = inputs
    graph = pruning.DependencyGraph()
    graph.rearranging = {}
    trace = graph._trace

    def traced(*arguments: Any, **options: Any) -> Any:
        nodes = trace(*arguments, **options)
        for node in nodes.values():
            if isinstance(node.module, pruning.ops._ReshapeOp):
                _judge_reshape(pruning, graph, node)
            elif isinstance(node.module, pruning.ops._ConcatOp | pruning.ops._SliceOp | pruning.ops._SplitOp):
                _judge_axis(pruning, node)
        return nodes

    graph._trace = traced
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        try:
            graph.build_dependency(
                model,
                example_inputs=positional,
                forward_fn=lambda network, _: network(*positional, **keywords),
                # A step of its own, so that outputs are known as such also where a layer gives them.
                output_transform=lambda output: [
                    leaf * 1 for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.grad_fn is not None
                ],
                verbose=False,
            )
        except Exception as error:
            raise ValueError(f"compact: {type(model).__name__} cannot be traced: {error}") from error
    for node in graph.module2node.values():
        _judge_shuffle(graph, node)
        _bound(node)
    return graph


def start_group(graph: Any) -> None:
    """To be called before a group is asked for: it begins to count what it comes by."""
    for node in graph.module2node.values():
        node.visits = 0


def _bound(node: Any) -> None:
    """Have a group end with an error that comes by a step ever again, each time with other channels."""
    limit = _VISITS * (len(node.inputs) + len(node.outputs) + 1) * max(1, len(node.dependencies))

    def bounded(is_triggered_by: Callable[[Any], bool]) -> Callable[[Any], bool]:
        def counted(function: Any) -> bool:
            node.visits += 1
            if node.visits > limit:
                raise ValueError("it finds no end of what is coupled there")
            return is_triggered_by(function)

        return counted

    for dependency in node.dependencies:
        dependency.is_triggered_by = bounded(dependency.is_triggered_by)


_VISITS = 16
"""How often a group may come by a step for each step beside it: a concatenation is met by every part of it."""


def _judge_reshape(pruning: ModuleType, graph: Any, node: Any) -> None:
    """Leave to the library what flattens or is flattened, up to the last axis; elsewhere channels keep their numbers,
    or are mixed up."""
    before, after = _shapes(node.grad_fn)
    if before is None or after is None:
        return
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])
    if not end:
        return
    node.type = pruning.ops.OPTYPE.ELEMENTWISE
    middle = len(before) - start - end, len(after) - start - end
    if start == 1 and end > 1 and min(middle) == 1 and max(middle) > 1:  # (batch, channels, height, width) and groups
        graph.rearranging[node.module] = "a reshape takes channels apart or puts them together"


def _judge_axis(pruning: ModuleType, node: Any) -> None:
    """Channels of images keep their numbers where another axis than theirs, the second, is cut or concatenated."""
    before, after = _shapes(node.grad_fn)
    shape, axis = before or after, getattr(node.grad_fn, "_saved_dim", None)
    if shape is None or axis is None or len(shape) < 4:
        return
    if axis >= len(shape):  # counted from the end, as autograd tells it: without a sign
        axis = axis - 2**64 + len(shape)
    if axis != 1:
        node.type = pruning.ops.OPTYPE.ELEMENTWISE


def _judge_shuffle(graph: Any, node: Any) -> None:
    """Tell the graph how channels behind a pixel shuffle belong to those before it."""
    step: Any = node.grad_fn
    name = step.name() if hasattr(step, "name") else ""
    if name.startswith("ChannelShuffle"):
        graph.rearranging[node.module] = "a channel shuffle mixes them"
    elif name.startswith("PixelShuffle"):
        times = step._saved_upscale_factor**2
        _map(graph, node, lambda indices: _fewer(indices, times), lambda indices: _more(indices, times))
    elif name.startswith("PixelUnshuffle"):
        times = step._saved_downscale_factor**2
        _map(graph, node, lambda indices: _more(indices, times), lambda indices: _fewer(indices, times))


_Mapping = Callable[[Sequence[Any]], list[Any]]
"""Numbers of channels on one side ↦ those on the other side, each with the channel that it began with."""


def _map(graph: Any, node: Any, forward: _Mapping, backward: _Mapping) -> None:
    """Count the channels of a step as they are behind it, and map them to and from those before it."""
    ways = [(dependency, backward) for dependency in node.dependencies if dependency.target in node.inputs]
    for source in node.inputs:
        ways += [(dependency, forward) for dependency in source.dependencies if dependency.target is node]
    if any(mapping is not None for dependency, _ in ways for mapping in dependency.index_mapping):
        graph.rearranging[node.module] = "a pixel shuffle and another step rearrange them"
        return
    for dependency, mapping in ways:
        dependency.index_mapping[0] = mapping


def _more(indices: Sequence[Any], times: int) -> list[Any]:
    return [index._replace(idx=index.idx * times + k) for index in indices for k in range(times)]


def _fewer(indices: Sequence[Any], times: int) -> list[Any]:
    return list(dict.fromkeys(index._replace(idx=index.idx // times) for index in indices))


def _shapes(step: Any) -> tuple[list[int] | None, list[int] | None]:
    """Those of what a reshape was given and of what it made, as far as autograd tells."""
    before, after = getattr(step, "_saved_self_sym_sizes", None), getattr(step, "_input_metadata", None)
    return None if before is None else list(before), list(after[0].shape) if after else None


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many numbers two sequences begin with that are the same."""
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count
