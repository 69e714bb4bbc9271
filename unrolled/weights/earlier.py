"""Weights and checkpoints of earlier versions, under the names of this one."""

from torch import Tensor, nn

from unrolled.operators import BlockCompressedSensing


def rename_earlier(tensors: dict[str, Tensor], operator: nn.Module, prefix: str = "") -> None:
    """Give tensors of a network and its operator their present names, in place.

    Once the autocorrelation of images was kept by the start of every network; now operators keep it that need it.

    Parameters
    ----------
    tensors : dict
        of the keys "network.…" and "operator.…", both after the prefix.
    operator : LinearOperator
    prefix : str
    """
    autocorrelation = tensors.pop(f"{prefix}network.start.autocorrelation", None)
    if autocorrelation is not None:
        tensors.update({f"{prefix}{name}": autocorrelation for name in autocorrelations(operator)})


def autocorrelations(operator: nn.Module) -> list[str]:
    """The names of the autocorrelations of images in an operator, after "operator."."""
    return [
        ".".join(["operator", *filter(None, [name]), "autocorrelation"])
        for name, part in operator.named_modules()
        if isinstance(part, BlockCompressedSensing)
    ]
