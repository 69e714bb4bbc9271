"""Tensors that a module uses but does not learn: computed from parameters by a parametrization, a mask or a hook."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from unrolled.sparsify.machinery.layout import Layer

_KNOWN_HOOKS = (BasePruningMethod, SpectralNorm, WeightNorm)
"""Hooks of torch that compute a tensor before a module runs, whatever its inputs are."""


@dataclass(frozen=True, eq=False)
class Computed:
    """A tensor that a module uses, and that is computed anew whenever the module runs.

    Attributes
    ----------
    module : Module
    prefix : str
        the name of the module in the model.
    attribute : str
        the name of the tensor in the module.
    sources : dict
        name → parameter that it is computed from, as far as that is known.
    how : str
        by what it is computed.
    remedy : str
        what makes a parameter of it again.
    """

    module: nn.Module
    prefix: str
    attribute: str
    sources: dict[str, nn.Parameter]
    how: str
    remedy: str

    @property
    def name(self) -> str:
        """Of the tensor in the model, where a parameter would have it."""
        return _joined(self.prefix, self.attribute)

    def __str__(self) -> str:
        origin = f" from {' and '.join(self.sources)}" if self.sources else ""
        return f"{self.name} is computed{origin} by {self.how}"


def computed_of(model: nn.Module) -> list[Computed]:
    """The tensors of a model that are computed before a module uses them, in the order of the model.

    They are those of `torch.nn.utils.parametrize` and `torch.nn.utils.prune`, those of the older `weight_norm` and
    `spectral_norm`, and those of other hooks as far as they can be told: a plain tensor with two axes or more whose
    name is a part of that of a parameter beside it, such as `weight` beside `weight_raw`, and the weight of a
    convolution or dense layer that has no parameter or buffer of this name.
    """
    return [one for prefix, module in model.named_modules() for one in _computed_in(prefix, module)]


@torch.no_grad()
def computed_values(computed: Sequence[Computed]) -> dict[str, Tensor]:
    """By name, what these tensors are now; left out are those of hooks that have not run yet.

    To be called in evaluation mode, for a spectral norm iterates in training mode.
    """
    found = {}
    for one in computed:
        with as_before([one]):
            for hook in one.module._forward_pre_hooks.values():
                if isinstance(hook, _KNOWN_HOOKS):
                    hook(one.module, None)
            values = getattr(one.module, one.attribute, None)
        if isinstance(values, Tensor):
            found[one.name] = values.detach()
    return found


@contextmanager
def as_before(computed: Sequence[Computed]) -> Iterator[None]:
    """While it lasts, hooks may leave other tensors in the modules; then those are there that were."""
    before = [(one.module, _plain_tensors(one.module)) for one in computed]
    try:
        yield
    finally:
        for module, tensors in before:
            for attribute in _plain_tensors(module):
                if attribute not in tensors:
                    del module.__dict__[attribute]
            module.__dict__.update(tensors)


def _computed_in(prefix: str, module: nn.Module) -> list[Computed]:
    found: dict[str, Computed] = {}

    def note(attribute: str, sources: dict[str, nn.Parameter], how: str, remedy: str) -> None:
        found[attribute] = Computed(module, prefix, attribute, sources, how, remedy)

    where = f"model.get_submodule({prefix!r})" if prefix else "model"
    if parametrize.is_parametrized(module):
        parametrizations = module.parametrizations
        assert isinstance(parametrizations, nn.ModuleDict)
        for attribute, parts in parametrizations.items():
            path = _joined(prefix, f"parametrizations.{attribute}")
            sources = {f"{path}.{name}": parameter for name, parameter in parts.named_parameters()}
            how = " and ".join(type(part).__name__.strip("_") for part in parts)  # type: ignore[attr-defined]
            remedy = f"torch.nn.utils.parametrize.remove_parametrizations({where}, {attribute!r})"
            note(attribute, sources, f"the parametrization {how}", remedy)
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod):
            attribute, how, remedy = hook._tensor_name, "a mask of torch.nn.utils.prune", "prune.remove"
        elif isinstance(hook, WeightNorm):
            attribute, how, remedy = hook.name, "weight_norm", "remove_weight_norm"
        elif isinstance(hook, SpectralNorm):
            attribute, how, remedy = hook.name, "spectral_norm", "remove_spectral_norm"
        else:
            continue
        ends = ("_g", "_v") if isinstance(hook, WeightNorm) else ("_orig",)
        remedy = f"torch.nn.utils.{remedy}({where}, {attribute!r})"
        note(attribute, _parameters(prefix, module, [attribute + end for end in ends]), how, remedy)
    for attribute in _others(module):
        if attribute not in found:
            own = [name for name in module._parameters if name != "bias"]
            near = [name for name in own if _is_part(attribute, name)] or (own if isinstance(module, Layer) else [])
            remedy = f"taking the hook away and setting {where}.{attribute} to an nn.Parameter"
            note(attribute, _parameters(prefix, module, near), "a hook or by its owner", remedy)
    return [one for one in found.values() if not any(_is_part(other, one.attribute) for other in found)]


def _others(module: nn.Module) -> Iterator[str]:
    """Plain tensors that seem to come from a parameter, and a weight that a layer lacks."""
    for attribute, values in _plain_tensors(module).items():
        if (
            values.is_floating_point()
            and values.ndim > 1
            and any(_is_part(attribute, name) for name in module._parameters)
        ):
            yield attribute
    if isinstance(module, Layer) and "weight" not in {**module._parameters, **module._buffers}:
        yield "weight"


def _plain_tensors(module: nn.Module) -> dict[str, Tensor]:
    """What a module keeps beside its parameters and buffers, without what strategies put there while it runs."""
    own = {name: value for name, value in module.__dict__.items() if isinstance(value, Tensor)}
    return {name: value for name, value in own.items() if name not in module._parameters}


def _parameters(prefix: str, module: nn.Module, names: Sequence[str]) -> dict[str, nn.Parameter]:
    """Of these names, or of those that are computed in turn, the parameters of a module."""
    return {
        _joined(prefix, name): parameter
        for name, parameter in module._parameters.items()
        if parameter is not None and any(name == wanted or _is_part(wanted, name) for wanted in names)
    }


def _is_part(attribute: str, name: str) -> bool:
    """Whether a name is an attribute's with something before or behind it: weight_raw and raw_weight of weight."""
    return name != attribute and f"_{attribute}_" in f"_{name}_"


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
