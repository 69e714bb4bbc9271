"""Parts of a model, by patterns of their parameters' names: which are trained, and at which rates."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

from torch import nn

from unrolled.training.options import TrainingOptions


class Frozen:
    """Parameters that stand still while a run lasts, by `train_only` and `freeze`.

    Norms whose parameters stand still keep their running statistics too: they act as they do after training.

    Parameters
    ----------
    model : Module
    options : TrainingOptions

    Raises
    ------
    ValueError
        if a pattern fits no parameter, or nothing is left to train.
    """

    def __init__(self, model: nn.Module, options: TrainingOptions):
        named = dict(model.named_parameters())
        kept = _fitting(named, options.train_only, "train_only") if options.train_only else set(named)
        kept -= _fitting(named, options.freeze, "freeze")
        self.parameters = [parameter for name, parameter in named.items() if name not in kept]
        self.parameters = [parameter for parameter in self.parameters if parameter.requires_grad]
        self._set(False)
        if not any(parameter.requires_grad for parameter in named.values()):
            self._set(True)
            raise ValueError("training: train_only and freeze leave nothing to train")
        still = {id(parameter) for parameter in self.parameters}
        norms = (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._NormBase))
        own = ((norm, {id(parameter) for parameter in norm.parameters()}) for norm in norms)
        self.norms = [norm for norm, parameters in own if parameters and parameters <= still]

    def _set(self, trained: bool) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(trained)

    @contextmanager
    def until_the_end(self) -> Iterator[None]:
        """A block after which nothing is frozen that was not before."""
        try:
            yield
        finally:
            self._set(True)

    def keep(self) -> None:
        """Let norms stand still, which `model.train()` sets moving."""
        for norm in self.norms:
            norm.eval()


def rate_factors(model: nn.Module, rates: Mapping[str, float]) -> dict[int, float]:
    """The factor of the learning rate of each parameter that a pattern fits, by its id; the first pattern counts.

    Raises
    ------
    ValueError
        if a pattern fits no parameter.
    """
    named = dict(model.named_parameters())
    found: dict[int, float] = {}
    for pattern, factor in rates.items():
        for name in _fitting(named, [pattern], "rates"):
            found.setdefault(id(named[name]), factor)
    return found


def _fitting(named: Mapping[str, nn.Parameter], patterns: Sequence[str], option: str) -> set[str]:
    """The names that any of some patterns fits, each of which must fit one."""
    found: set[str] = set()
    for pattern in patterns:
        fitting = {name for name in named if fnmatchcase(name, pattern)}
        if not fitting:
            kinds = list(dict.fromkeys(re.sub(r"\.\d+(?=\.)", ".*", name) for name in named))
            near = difflib.get_close_matches(pattern, kinds, n=8, cutoff=0.3) or kinds[:8]
            more = f" and {len(kinds) - len(near)} more" if len(kinds) > len(near) else ""
            raise ValueError(
                f"training: {option}: {pattern!r:.100} fits no parameter; there are {', '.join(near)}{more}"
            )
        found |= fitting
    return found
