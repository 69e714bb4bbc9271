"""How sparse a model is, layer by layer."""

import json
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from unrolled.sparsify.compacting.example import arguments_of, evaluating
from unrolled.sparsify.machinery.computed import Computed, as_before, computed_of, computed_values
from unrolled.sparsify.machinery.layout import by_input, by_output
from unrolled.sparsify.selection import all_weights, is_computed_weight
from unrolled.system.files import replacing


@dataclass(frozen=True)
class LayerSparsity:
    """A weight, or the sum over several.

    Attributes
    ----------
    name : str
    shape : tuple of int
    weights, nonzeros : int
        numbers, and those that are not 0.
    filters, alive_filters : int
        output channels or units, and those with a number that is not 0.
    inputs, alive_inputs : int
        input channels or units, and those that a number other than 0 reads.
    bytes : int
        of all numbers.
    sparse_bytes : int
        of the numbers that are not 0, as compressed sparse rows: the number and its column in 32 bits, and where each
        output's row begins, in 32 bits.
    macs : int or None
        multiplications, each with its addition, of one run on the example.
    nonzero_macs : int or None
        of them, those by numbers that are not 0.
    alive_macs : int or None
        of them, those by filters and for input channels that are alive: a dense layer of the numbers that are left.
    """

    name: str
    shape: tuple[int, ...]
    weights: int
    nonzeros: int
    filters: int
    alive_filters: int
    inputs: int
    alive_inputs: int
    bytes: int
    sparse_bytes: int
    macs: int | None = None
    nonzero_macs: int | None = None
    alive_macs: int | None = None

    @property
    def sparsity(self) -> float:
        """The share of zeros."""
        return 1 - self.nonzeros / max(self.weights, 1)


@dataclass(frozen=True)
class SparsityReport:
    """What `sparsity_report` gives: a table as text, by `json` or `save` for programs.

    Attributes
    ----------
    layers : tuple of LayerSparsity
        each weight once, however many layers share it.
    other_parameters, other_bytes : int
        biases, norms, embeddings.
    other_macs : int or None
        products without a weight, such as those of attention: no zero makes them less.
    """

    layers: tuple[LayerSparsity, ...]
    other_parameters: int
    other_bytes: int
    other_macs: int | None = None

    @property
    def total(self) -> LayerSparsity:
        """The sum over all weights; the multiplications are those of the whole model."""
        sums: dict[str, Any] = {"name": "total", "shape": ()}
        for entry in fields(LayerSparsity)[2:]:
            values = [getattr(layer, entry.name) for layer in self.layers]
            if "macs" in entry.name:
                values.append(self.other_macs)
            sums[entry.name] = None if None in values else sum(values)
        return LayerSparsity(**sums)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "layers": [asdict(layer) for layer in self.layers], "total": asdict(self.total)}

    def json(self) -> str:
        """As JSON text."""
        return json.dumps(self.as_dict(), indent=2)

    def save(self, path: str | Path) -> None:
        """Write the JSON to a file.

        Raises
        ------
        ValueError
            if it cannot be written.
        """
        with replacing(path) as temporary:
            temporary.write_text(self.json() + "\n")

    def __str__(self) -> str:
        total = self.total
        counted = total.macs is not None
        heads = ["layer", "shape", "weights", "nonzero", "zeros", "filters", "inputs", "bytes", "sparse bytes"]
        rows = [[*heads, *(["multiply-adds", "of nonzeros", "of alive"] if counted else [])]]
        rows += [_row(layer) for layer in (*self.layers, total)]
        widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            name, shape, *numbers = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join([name, shape, *(n.strip().rjust(len(n)) for n in numbers)]))
        lines.append(
            f"Besides, {self.other_parameters:,} biases and the like ({self.other_bytes:,} bytes)"
            + (f"; of the multiply-adds {self.other_macs:,} are without weights." if counted else ".")
        )
        lines.append("Sparse bytes: compressed sparse rows, with indices of 32 bits. Zeros are exact.")
        return "\n".join(lines)


def sparsity_report(model: nn.Module, example: Any = None) -> SparsityReport:
    """Weights, zeros, dead filters, bytes and multiply-adds of a model, layer by layer.

    All weights are counted that sparsifiers choose by default, frozen ones too: parameters with two axes or more, but
    those of norms and embeddings. Where a layer uses what is computed from parameters (parametrizations, weight and
    spectral norm, masks of `torch.nn.utils.prune`, hooks), that is counted by its own name, and they are not.

    Parameters
    ----------
    model : Module
        run once in evaluation mode, and left as it is.
    example : Any, optional
        what the model is called with: a tuple has positional arguments, a dict those by keyword, anything else is the
        only argument. Multiply-adds are those of this run, all of the batch. Without it they are left out.

    Raises
    ------
    ValueError
        if the model has no weights, or cannot be run on the example, or a hook has not yet computed a weight.

    Examples
    --------
    >>> layer = nn.Linear(4, 3)
    >>> _ = nn.init.zeros_(layer.weight[1])
    >>> report = sparsity_report(layer, torch.ones(1, 4))
    >>> report.total.alive_filters, report.total.macs, report.total.nonzero_macs
    (2, 12, 8)
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    with torch.no_grad(), evaluating(model):
        computed = computed_of(model)
        used = {one.name: one for one in _in_use(model, computed)}
        counter = None
        if example is not None:
            counter = _count(model, example, used, computed)
        for one in computed:
            if one.name not in used and not isinstance(getattr(one.module, one.attribute, None), Tensor):
                raise ValueError(f"model: {one}, which has not run yet; run the model once before")
    if not used:
        raise ValueError(f"model: {type(model).__name__} has no parameter with two axes or more")
    places = {module: place for place, module in enumerate(model.modules())}
    ordered = sorted(used.values(), key=lambda one: places[one.module])
    layers = [_layer(one, None if counter is None else counter.macs[one.name]) for one in ordered]
    sources = [parameter for one in computed if one.name in used for parameter in one.sources.values()]
    mine = {id(parameter) for parameter in [*sources, *(weight.parameter for weight in all_weights(model, computed))]}
    others = [parameter for parameter in model.parameters() if id(parameter) not in mine]
    return SparsityReport(
        tuple(layers),
        sum(parameter.numel() for parameter in others),
        sum(parameter.numel() * parameter.element_size() for parameter in others),
        None if counter is None else counter.other,
    )


@dataclass(frozen=True, eq=False)
class _Used:
    """A weight as its module uses it: a parameter, or what is computed from some."""

    name: str
    values: Tensor
    module: nn.Module


def _in_use(model: nn.Module, computed: list[Computed]) -> Iterator[_Used]:
    for weight in all_weights(model, computed):
        yield _Used(weight.name, weight.parameter.detach(), weight.module)
    found = computed_values(computed)
    for one in computed:
        if one.name in found and is_computed_weight(one, found[one.name]):
            yield _Used(one.name, found[one.name], one.module)


def _layer(used: _Used, macs: list[int] | None) -> LayerSparsity:
    values = used.values
    filters, inputs = by_output(values, used.module), by_input(values, used.module)
    nonzeros = int(values.count_nonzero())
    return LayerSparsity(
        used.name,
        tuple(values.shape),
        values.numel(),
        nonzeros,
        len(filters),
        int(filters.any(1).sum()),
        len(inputs),
        int(inputs.any(1).sum()),
        values.numel() * values.element_size(),
        nonzeros * (values.element_size() + 4) + 4 * (len(filters) + 1),
        *(macs or ()),
    )


def _alive(used: _Used) -> Tensor:
    """Which numbers of a weight belong to a filter and to an input channel that are alive."""
    values = used.values
    numbers = torch.arange(values.numel(), device=values.device).reshape(values.shape)
    alive = torch.ones(values.numel(), dtype=torch.bool, device=values.device)
    for rows in (by_output, by_input):
        alive[rows(numbers, used.module)[~rows(values, used.module).any(1)].flatten()] = False
    return alive.reshape(values.shape)


def _count(model: nn.Module, example: Any, used: dict[str, _Used], computed: list[Computed]) -> "_Counter":
    """Run the model on the example and count; what is computed is then as it was in the run."""
    positional, keywords = arguments_of(example, model)
    counter = _Counter(used)
    handles = [one.module.register_forward_pre_hook(_Look(counter, one)) for one in computed]
    with as_before(computed), parametrize.cached(), _in_single_products(model), counter:
        try:
            model(*positional, **keywords)
        except Exception as error:
            raise ValueError(f"example: the model cannot be run on it: {error}") from error
        finally:
            for handle in handles:
                handle.remove()
    return counter


class _Look:
    """A hook that shows a counter what a module is about to use, after all hooks that compute it."""

    def __init__(self, counter: "_Counter", computed: Computed):
        self.counter, self.computed = counter, computed

    def __call__(self, module: nn.Module, _: Any) -> None:
        self.counter.counting = False  # what a parametrization multiplies is not done by the weight
        values = getattr(module, self.computed.attribute, None)
        if isinstance(values, Tensor) and is_computed_weight(self.computed, values):
            self.counter.look(_Used(self.computed.name, values.detach(), module))
            self.counter.computed.add(self.computed.name)
        self.counter.counting = True


@contextmanager
def _in_single_products(model: nn.Module) -> Iterator[None]:
    """While it lasts, attention and recurrent layers run as products that can be counted, not in one fused step."""
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with ExitStack() as stack:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if recurrent:
                stack.enter_context(warnings.catch_warnings())  # of settings that this build of torch has not
                warnings.simplefilter("ignore")
                stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Counter(TorchDispatchMode):
    """Counts multiplications, by the weight that takes part: all, those by nonzeros, those by what is alive."""

    def __init__(self, used: dict[str, _Used]):
        super().__init__()
        self.counting = True
        self.used = used
        self.macs: dict[str, list[int]] = {}
        self.other = 0
        self.computed: set[str] = set()
        self._masks: dict[str, list[Tensor]] = {}
        for one in list(used.values()):
            self.look(one)

    def look(self, used: _Used) -> None:
        """Take this for what its name stands for, from here on."""
        self.used[used.name] = used
        self.macs.setdefault(used.name, [0, 0, 0])
        # In the layout that the numbers have in memory, so that whatever view of them is used finds its masks.
        values, alive = used.values, _alive(used)
        self._masks[used.name] = [values != 0, torch.zeros_like(values, dtype=torch.bool).copy_(alive)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None and self.counting:
            macs = formula(*args, **(kwargs or {}), out_val=output) // 2  # it counts additions too
            for operand in args:
                found = self._find(operand) if isinstance(operand, Tensor) else None
                if found is not None:
                    name, shares = found
                    counts = self.macs[name]
                    for i, share in enumerate((operand.numel(), *shares)):
                        counts[i] += macs * share // operand.numel()
                    break
            else:
                self.other += macs
        return output

    def _find(self, operand: Tensor) -> tuple[str, list[int]] | None:
        """The weight that a tensor is a view of, and how many of its numbers are not 0, and alive."""
        for name, used in self.used.items():
            values = used.values
            offset = operand.data_ptr() - values.data_ptr()
            if operand.dtype == values.dtype and 0 <= offset < values.numel() * values.element_size():
                where = operand.size(), operand.stride(), offset // values.element_size()
                return name, [int(mask.as_strided(*where).sum()) for mask in self._masks[name]]
        for name in self.computed:  # a property makes another tensor each time
            values = self.used[name].values
            alike = [
                view for view in (values, values.mT) if view.shape == operand.shape and view.dtype == operand.dtype
            ]
            if any(torch.equal(operand, view) for view in alike):
                return name, [int(mask.sum()) for mask in self._masks[name]]
        return None


def _row(layer: LayerSparsity) -> list[str]:
    cells = [
        layer.name,
        "×".join(str(size) for size in layer.shape),
        f"{layer.weights:,}",
        f"{layer.nonzeros:,}",
        f"{layer.sparsity:.1%}",
        f"{layer.alive_filters}/{layer.filters}",
        f"{layer.alive_inputs}/{layer.inputs}",
        f"{layer.bytes:,}",
        f"{layer.sparse_bytes:,}",
    ]
    counts = (layer.macs, layer.nonzero_macs, layer.alive_macs)
    return cells + [f"{count:,}" for count in counts if count is not None]
