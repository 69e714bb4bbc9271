"""Dictionaries D, of which sparse codes z explain y = Dz, as operators; and what networks take from them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unrolled.operators import LinearOperator
from unrolled.operators.intake import numbers_of
from unrolled.system.devices import in_double

FINGERPRINT = "_fingerprint"
"""The attribute in which an operator keeps the numbers that tell its dictionary from others."""

PAIRS = 8
"""Of vectors that these are made of."""

ROUNDING = 1e-3
"""By so much of the largest of them the numbers of one dictionary may differ."""


def dictionary_size(operator: LinearOperator) -> tuple[int, int, int] | None:
    """(rows, height, width) of an operator that measures every channel of a code (channel, height, width) by one
    matrix, such as `Dense`; None of any other."""
    if operator.image_shape is None or operator.image_shape[0] != 0 or operator.batch is not None:
        return None
    _, height, width = operator.image_shape
    measured = operator.measurement_shape((1, height, width))
    return (measured[1], height, width) if len(measured) == 2 and measured[0] == 1 else None


@torch.no_grad()
def dictionary_of(operator: LinearOperator) -> Tensor:
    """The matrix of such an operator, (rows, height·width), in double precision."""
    size = dictionary_size(operator)
    assert size is not None
    _, height, width = size
    number, device = numbers_of(operator)
    kind = torch.promote_types(number, torch.complex64) if operator.complex_images else number
    columns = operator(torch.eye(height * width, dtype=kind, device=device).view(-1, 1, height, width))
    return in_double(columns[:, 0].mT)


@torch.no_grad()
def fingerprint_of(operator: LinearOperator) -> tuple[float, ...] | None:
    """Numbers that tell a dictionary from others of its size, in whatever units and precision it is given.

    They are uᵢᴴDvᵢ/‖DV‖ of a few vectors of ±1, which are the same for all. Of what is no dictionary there are none.
    """
    size = dictionary_size(operator)
    if size is None:
        return None
    rows, height, width = size
    random, (number, device) = torch.Generator().manual_seed(0), numbers_of(operator)
    left, right = (2.0 * torch.randint(2, (PAIRS, length), generator=random) - 1 for length in (rows, height * width))
    measured = in_double(operator(right.to(device, number).view(PAIRS, 1, height, width)))[:, 0]
    found = (left.to(measured) * measured).sum(1) / torch.linalg.vector_norm(measured)
    return tuple(torch.view_as_real(found + 0j).flatten().tolist())


def kept_fingerprint(operator: LinearOperator) -> tuple[float, ...] | None:
    """The same, found once and kept with the operator, also while that learns."""
    if FINGERPRINT not in operator.__dict__:
        operator.__dict__[FINGERPRINT] = fingerprint_of(operator)
    kept: tuple[float, ...] | None = operator.__dict__[FINGERPRINT]
    return kept


def same_dictionary(one: Sequence[float] | None, other: Sequence[float] | None) -> bool:
    """Whether two fingerprints may be of one dictionary, up to rounding; where one is missing, nothing says no."""
    if one is None or other is None:
        return True
    differences = [abs(a - b) for a, b in zip(one, other, strict=True)]
    return max(differences) <= ROUNDING * max(map(abs, other))


def analytic_weights(dictionary: Tensor) -> Tensor:
    """The matrix W that minimises ‖WᴴD‖² (Frobenius) under wᵢᴴdᵢ = 1 for every column.

    It falls apart by columns: of wᵢᴴ(DDᴴ)wᵢ under that constraint the minimum is at
    wᵢ = (DDᴴ)⁺dᵢ / dᵢᴴ(DDᴴ)⁺dᵢ. (Liu, Chen, Wang, Yin, "ALISTA", ICLR 2019, equation 16.)

    Parameters
    ----------
    dictionary : Tensor, (rows, columns), real or complex, double precision

    Returns
    -------
    Tensor, like D

    Raises
    ------
    ValueError
        if a column is 0.
    """
    norms = torch.linalg.vector_norm(dictionary, dim=0)
    if not bool((norms > 1e-12 * norms.max()).all()):
        raise ValueError(f"dictionary: no column may be 0, but number {int(norms.argmin())} is")
    # By the singular values of D itself, for those of DDᴴ would have half of the digits.
    u, s, _ = torch.linalg.svd(dictionary, full_matrices=False)
    kept = s > s.max() * max(dictionary.shape) * torch.finfo(s.dtype).eps
    inverse = torch.where(kept, s.square().reciprocal(), 0)
    found = (u * inverse) @ (u.mH @ dictionary)
    return found / (dictionary.conj() * found).sum(0)
