"""Which parameters of a model are sparsified."""

import difflib
import fnmatch
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from unrolled.penalties import Grouping, Penalty
from unrolled.sparsify.machinery.computed import Computed, computed_of

NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
_NO_WEIGHTS = (*NORMS, nn.Embedding, nn.EmbeddingBag)


@dataclass(eq=False)
class Weight:
    """A parameter that is sparsified, by whatever name it is used.

    Attributes
    ----------
    name : str
        of the parameter in the model, the first one if it is tied.
    parameter : Parameter
    owners : list of (Module, str)
        who uses it, under which attribute: several if it is tied.
    penalty : Penalty
        of the whole tensor; on groups if groups were asked for. A sparsifier sets it.
    """

    name: str
    parameter: nn.Parameter
    owners: list[tuple[nn.Module, str]]
    penalty: Penalty = field(init=False, repr=False)
    extra: dict[str, Tensor] = field(default_factory=dict)
    """Tensors that a strategy keeps for it; saved with the state. What the optimiser learns is not among them."""

    @property
    def module(self) -> nn.Module:
        """The first module that uses it."""
        return self.owners[0][0]

    @property
    def grouping(self) -> Grouping | None:
        """The groups of its penalty; None if that is one of single numbers."""
        return grouping_of(self.penalty)

    @property
    def eta(self) -> Tensor:
        """η̂ of its penalty at its values, one for each number or group, without gradient."""
        return self.penalty.eta(self.parameter.detach())

    def spread(self, numbers: Tensor, outside: float = math.inf) -> Tensor:
        """One number for each entry, of numbers for its entries or its groups; `outside` where there is no group."""
        shape, grouping = self.parameter.shape, self.grouping
        return numbers if numbers.shape == shape or grouping is None else grouping.spread(numbers, shape, outside)


def grouping_of(penalty: Penalty) -> Grouping | None:
    """The groups of a penalty; None if it is one of single numbers."""
    found = getattr(penalty, "grouping", None)
    return found if isinstance(found, Grouping) else None


def select_weights(
    model: nn.Module, include: str | Sequence[str] | None = None, exclude: str | Sequence[str] = ()
) -> list[Weight]:
    """The weights of a model, tied ones once.

    Parameters
    ----------
    model : Module
    include : str or sequence of str, optional
        names or patterns (`layer1.*`, `*conv*`) of modules, whose weights are meant, or of parameters, which are then
        taken whatever they are. By default all weights: trainable parameters with two axes or more, except those of
        norms and embeddings.
    exclude : str or sequence of str
        patterns of what is left out again.

    Raises
    ------
    ValueError
        if there are no weights, a pattern matches nothing, or a parameter is chosen that is frozen, uninitialised, or
        not what its module uses: that of a parametrization, of weight or spectral norm, or below a mask of
        `torch.nn.utils.prune`.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    found = parameters_of(model)
    weights = {name for name, weight in found.items() if _is_weight(weight)}
    if include is None:
        chosen = {name for name in weights if found[name].parameter.requires_grad}
        if not chosen:
            reason = "all of its weights are frozen" if weights else "it has no parameter with two axes or more"
            raise ValueError(f"model: {type(model).__name__} has no weights to sparsify, for {reason}")
    else:
        chosen = matches("include", include, found, weights)
        for name in sorted(chosen):
            if not found[name].parameter.requires_grad:
                raise ValueError(f"include: {name} is frozen (requires_grad is False)")
    chosen -= matches("exclude", exclude, found, weights)
    if not chosen:
        raise ValueError(f"exclude: {exclude!r} leaves no weights to sparsify")
    for name in sorted(chosen):
        _check_shape(found[name])
    for computed in computed_of(model):
        refuse_computed(computed, {id(found[name].parameter) for name in chosen})
    return [weight for name, weight in found.items() if name in chosen]


def refuse_computed(computed: Computed, chosen: set[int]) -> None:
    """Raise a ValueError if parameters, by their ids, are among those that the tensor in use is computed from."""
    if any(id(parameter) in chosen for parameter in computed.sources.values()):
        raise ValueError(
            f"model: {computed}, so that a zero there is not one of the weight in use; undo it by {computed.remedy}, "
            f"or leave it out: exclude={computed.prefix or list(computed.sources)!r}"
        )


def all_weights(model: nn.Module, computed: Sequence[Computed] = ()) -> list[Weight]:
    """Every weight of a model, frozen ones too, tied ones once; without what others are computed from."""
    sources = {id(parameter) for one in computed for parameter in one.sources.values()}
    found = parameters_of(model).values()
    weights = [weight for weight in found if _is_weight(weight) and id(weight.parameter) not in sources]
    check_values(weights)
    return weights


def check_values(weights: Iterable[Weight]) -> None:
    """Raise a ValueError if a parameter has no shape yet, or no numbers."""
    for weight in weights:
        _check_shape(weight)
        if weight.parameter.is_meta:
            raise ValueError(f"model: {weight.name} lies on the device meta, where there are no numbers; load it first")


def _check_shape(weight: Weight) -> None:
    if is_lazy(weight.parameter):
        raise ValueError(f"model: {weight.name} has no shape yet; run the model once before it is sparsified")


def parameters_of(model: nn.Module) -> dict[str, Weight]:
    """Every parameter once, by its first name, in the order of the model."""
    seen: dict[int, Weight] = {}
    for module_name, module in model.named_modules():
        for attribute, parameter in module._parameters.items():
            if parameter is None:
                continue
            name = f"{module_name}.{attribute}" if module_name else attribute
            weight = seen.setdefault(id(parameter), Weight(name, parameter, []))
            weight.owners.append((module, attribute))
    return {weight.name: weight for weight in seen.values()}


def _is_weight(weight: Weight) -> bool:
    return not any(isinstance(module, _NO_WEIGHTS) for module, _ in weight.owners) and _is_matrix(weight.parameter)


def is_computed_weight(computed: Computed, values: Tensor) -> bool:
    """Whether a tensor that is computed would be a weight if it were a parameter."""
    return not isinstance(computed.module, _NO_WEIGHTS) and _is_matrix(values)


def _is_matrix(values: Tensor) -> bool:
    if is_lazy(values):
        return True
    return values.ndim >= 2 and values.numel() > 0 and (values.is_floating_point() or values.is_complex())


def matches(argument: str, patterns: str | Sequence[str], found: dict[str, Weight], weights: set[str]) -> set[str]:
    """The names of parameters that patterns match."""
    chosen: set[str] = set()
    if not isinstance(patterns, str | Iterable):
        raise ValueError(f"{argument}: must be text or several texts, got {patterns!r}")
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if not isinstance(pattern, str):
            raise ValueError(f"{argument}: a pattern must be text, got {pattern!r}")
        direct = {name for name in found if fnmatch.fnmatchcase(name, pattern)}
        inside = {name for name in weights if any(fnmatch.fnmatchcase(part, pattern) for part in _modules_of(name))}
        if not direct | inside:
            known = sorted({part for name in found for part in (name, *_modules_of(name))})
            near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.4)
            hint = f"; near matches: {', '.join(near)}" if near else f"; there is {', '.join(known[:9])}"
            raise ValueError(f"{argument}: {pattern!r} matches no parameter or module{hint}")
        # "layer1.*" should not catch the biases of layer1: where a pattern reaches weights, these are what is meant
        exact = {name for name in direct if name == pattern}
        chosen |= exact | inside | (direct & weights or direct)
    return chosen


def _modules_of(name: str) -> Iterator[str]:
    parts = name.split(".")
    for count in range(1, len(parts)):
        yield ".".join(parts[:count])


def count_zeros(tensors: Sequence[Tensor]) -> int:
    """How many numbers of several tensors are exactly 0: one answer from the device."""
    total = sum(tensor.numel() for tensor in tensors)
    return total - int(torch.stack([tensor.count_nonzero() for tensor in tensors]).sum())
