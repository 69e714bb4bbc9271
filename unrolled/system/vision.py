"""torchvision beside a CPU build of torch.

torchvision's wheels on package indexes are built for CUDA. Beside a CPU build of torch their compiled part does not
load, and the import fails because two operators that it would have defined are missing: "operator torchvision::nms does
not exist", then the same for `qnms`. Both belong to object detection. With only their schemas defined before the
import, data sets, transforms and models work.
"""

import importlib
import sys
from types import ModuleType

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[torch.library.Library] = []  # a schema lives as long as its library object


def import_torchvision(module: str = "torchvision") -> ModuleType:
    """Import torchvision or one of its modules; where needed, define the schemas it misses first.

    Call it where torchvision is used, never at the top of a file: its import takes seconds.

    Parameters
    ----------
    module : str
        such as "torchvision.datasets".
    """
    try:
        return importlib.import_module(module)
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _libraries:
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _libraries.append(library)
    return importlib.import_module(module)
