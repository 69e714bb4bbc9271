"""Denoisers of deepinv as priors: DnCNN, DRUNet and U-Net, of state dictionaries of their own or inside of others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from unrolled.networks import DRUNet, Prior, ResidualCNN, UNet
from unrolled.networks.conditioning import Interval
from unrolled.networks.priors.unet import Boundary
from unrolled.weights.converting.foreign_files import ForeignWeights
from unrolled.weights.converting.key_mapping import listed
from unrolled.weights.converting.priors_of_others import from_deepinv_dncnn, from_deepinv_drunet, from_deepinv_unet


@dataclass(frozen=True)
class Denoiser:
    """A denoiser of a file, not made yet.

    Attributes
    ----------
    make : callable
        (level, ranges) ↦ the prior: it is told the noise level where there are ranges of it, else `level` is its own.
    tensors : dict of Tensor
        its weights, by our names, without a noise level.
    takes_level : bool
        whether it is told a noise level at all.
    """

    make: Callable[[float, list[Interval]], Prior]
    tensors: dict[str, Tensor]
    takes_level: bool = False


def dncnn(weights: ForeignWeights, prefix: str = "") -> Denoiser:
    """DnCNN, as `ResidualCNN`."""
    with read_as("DnCNN", weights, prefix):
        options, tensors = from_deepinv_dncnn(inside(weights, prefix))
        channels = tensors["layers.0.weight"].shape[1]
    return Denoiser(lambda level, ranges: ResidualCNN(**options, channels=channels), tensors)


def drunet(weights: ForeignWeights, prefix: str = "") -> Denoiser:
    """DRUNet with strided and transposed convolutions, as it is by default."""
    with read_as("DRUNet", weights, prefix):
        options, tensors = from_deepinv_drunet(inside(weights, prefix))
        channels = tensors["tail.weight"].shape[0]

    def make(level: float, ranges: list[Interval]) -> Prior:
        return DRUNet(**options, sigma=level, channels=channels, ranges=ranges)

    return Denoiser(make, tensors, takes_level=True)


def unet(weights: ForeignWeights, prefix: str = "", residual: bool = True, circular: bool = False) -> Denoiser:
    """U-Net, with batch norms or without; the file does not tell whether it is residual or circular."""
    with read_as("U-Net", weights, prefix):
        options, tensors = from_deepinv_unet(inside(weights, prefix))
        channels = tensors["last.weight"].shape[0]
    boundary: Boundary = "circular" if circular else "zero"
    return Denoiser(
        lambda level, ranges: UNet(**options, residual=residual, boundary=boundary, channels=channels), tensors
    )


MARKS = {"in_conv.weight": dncnn, "m_head.weight": drunet, "Conv_1x1.weight": unet}
"""A name by which each is known."""


def denoiser_in(weights: ForeignWeights, prefix: str, residual: bool, circular: bool) -> Denoiser:
    """The denoiser whose names begin so, of whatever kind.

    Raises
    ------
    ValueError
        if it is none of those that are known.
    """
    part = inside(weights, prefix)
    for mark, read in MARKS.items():
        if mark in part:
            return unet(weights, prefix, residual, circular) if read is unet else read(weights, prefix)
    raise ValueError(
        f"weights: {weights.name}: {prefix.rstrip('.')} must be a DnCNN, DRUNet or UNet of deepinv, and it has "
        f"{listed(sorted(part))}"
    )


def inside(weights: ForeignWeights, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, without that beginning."""
    return {key.removeprefix(prefix): tensor for key, tensor in weights.tensors.items() if key.startswith(prefix)}


@contextmanager
def read_as(what: str, weights: ForeignWeights, prefix: str = "") -> Iterator[None]:
    """In the block, say of which file and of which part of it an error is.

    Raises
    ------
    ValueError
        for whatever comes of tensors of unexpected shapes, too.
    """
    where = f"weights: {weights.name}{f', {prefix}*' if prefix else ''}"
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).removeprefix('weights: ')}") from error
    except (IndexError, TypeError, KeyError, RuntimeError) as error:
        raise ValueError(f"{where}: the shapes are not those of a {what}: {error}") from error
