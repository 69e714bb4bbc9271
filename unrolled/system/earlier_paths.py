"""Modules by their paths of earlier versions: they still import, with a DeprecationWarning."""

import importlib
import sys
import types
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

MOVED = {
    "unrolled.activations": "unrolled.classifiers.activations",
    "unrolled.allocation": "unrolled.system.memory",
    "unrolled.classical": "unrolled.solvers.methods",
    "unrolled.data.kspace": "unrolled.data.kspace_files",
    "unrolled.data.phase": "unrolled.data.complex_phase",
    "unrolled.mri": "unrolled.reconstruction.mri",
    "unrolled.operators.fourier": "unrolled.operators.sampled_fourier",
    "unrolled.operators.masks": "unrolled.operators.sampling",
    "unrolled.pictures": "unrolled.figures.pictures",
    "unrolled.priors": "unrolled.solvers.priors",
    "unrolled.robustness": "unrolled.reconstruction.perturbations",
    "unrolled.shrinkage": "unrolled.networks.shrinkage",
    "unrolled.tiles": "unrolled.reconstruction.tiles",
    "unrolled.transforms": "unrolled.solvers.transforms",
    "unrolled.vision": "unrolled.system.vision",
}
"""Of modules that programs imported, where they were and where they are."""


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, _Loader()) if name in MOVED else None


class _Loader(Loader):
    def exec_module(self, module: types.ModuleType) -> None:
        path = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} has moved: import from {path}", DeprecationWarning, stacklevel=2)
        moved = importlib.import_module(path)
        vars(module)["__getattr__"] = lambda name: getattr(moved, name)


def install() -> None:
    """Let the earlier paths be imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
