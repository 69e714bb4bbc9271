"""What several tests need."""

import inspect
import os
import re
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import torch
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def concrete_subclasses(base: type) -> list[type]:
    """Every class of the package that can be made and is a subclass of base."""
    found = []
    for child in base.__subclasses__():
        found += concrete_subclasses(child)
        if not inspect.isabstract(child) and child.__module__.startswith("unrolled."):
            found.append(child)
    return sorted(set(found), key=lambda cls: cls.__name__)  # once, also with two bases of the package


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """A smooth random image with an edge, (1, height, width) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    a, b, c, d = torch.rand(4, generator=generator)
    image = 0.5 + 0.2 * torch.sin(9 * a * rows + 9 * b) * torch.cos(9 * c * columns) + 0.25 * (rows * d > columns - 0.3)
    return image.clamp(0, 1).unsqueeze(0)


def write_picture(path, height: int = 40, width: int = 50, seed: int = 0, mode: str = "L"):
    """Write such an image as an 8-bit file."""
    pixels = (picture(height, width, seed)[0].numpy() * 255).round().astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def write_matrix(path, matrix):
    """Write an array as `.npy`, `.mat` or `.h5`, under the name phi where the format has names."""
    if path.suffix == ".npy":
        np.save(path, matrix)
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {"phi": matrix})
    else:
        with h5py.File(path, "w") as file:
            file["phi"] = matrix
    return path


def put(kind: str, path: Path, elsewhere: Path) -> None:
    """Put something that is not a file where a file should be; links lead elsewhere."""
    makers = {
        "link": lambda: path.symlink_to(elsewhere),
        "link to nothing": lambda: path.symlink_to(elsewhere.with_name("missing")),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }
    makers[kind]()


def readme_commands() -> list[str]:
    """The commands that README gives as blocks of shell, each of which a test runs."""
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines() if line]


def untrained_configs(folder: str) -> list[Path]:
    """The configs below a folder of `configs`, without those that README's commands train."""
    root = Path(__file__).parents[1]
    said = " ".join(readme_commands())
    paths = sorted((root / "configs" / folder).rglob("*.yaml"))
    return [path for path in paths if str(path.relative_to(root)) not in said]


MOVES = {"aten::lift_fresh", "aten::_to_copy", "aten::detach", "aten::view"}
"""What happens to a constant of the program on its way to a device."""


class OnMeta(TorchDispatchMode):
    """Fails if anything is computed elsewhere. (That a value is asked for fails by itself on this device.)"""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function._schema.name not in MOVES:
            for each in result if isinstance(result, tuple | list) else (result,):
                assert not isinstance(each, torch.Tensor) or each.is_meta, f"{function} computed on {each.device}"
        return result


def assert_alike(found: Tensor, expected: Tensor, device: torch.device, tolerance: float = 1e-3) -> None:
    """The same on a device as on the CPU, but for rounding of single precision and other orders of sums."""
    assert found.device.type == device.type
    assert found.dtype == expected.dtype
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(found.cpu(), expected, rtol=tolerance, atol=tolerance * scale)


class NeverWaits(TorchDispatchMode):
    """Fails where a host would wait for a device: it asks for a value, or copies to it without saying non_blocking."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, kwargs = function._schema.name, kwargs or {}
        assert name not in ("aten::_local_scalar_dense", "aten::nonzero"), f"{name} asks for a value"
        result = function(*args, **kwargs)
        if name == "aten::_to_copy" and args[0].device != result.device:
            assert kwargs.get("non_blocking"), f"a copy from {args[0].device} to {result.device} is waited for"
        return result
