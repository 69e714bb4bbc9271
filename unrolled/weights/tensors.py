"""The tensors of modules: collected for a file, hashed, and filled in again."""

import hashlib

import torch
from torch import Tensor, nn


def tensors_of(**modules: nn.Module) -> dict[str, Tensor]:
    """The state of modules, each under its own prefix, copied to the CPU."""
    return {
        f"{prefix}.{key}": tensor.detach().cpu().contiguous().clone()
        for prefix, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


def hash_of(tensors: dict[str, Tensor]) -> str:
    """The SHA-256 of names, types, shapes and numbers."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fill(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load tensors into a model.

    Raises
    ------
    ValueError, RuntimeError
        if names, shapes or types differ from those of the model, or a number is not finite.
    """
    for key, own in model.state_dict().items():
        if key in tensors and not torch.can_cast(tensors[key].dtype, own.dtype):
            raise ValueError(f"{key} must be {own.dtype}, got {tensors[key].dtype}")
    model.load_state_dict(tensors)
    for key, own in model.state_dict().items():
        if not bool(torch.isfinite(own).all()):
            raise ValueError(f"{key} holds NaN or inf")
