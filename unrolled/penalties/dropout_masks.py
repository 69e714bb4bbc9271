"""The random masks of the adaptive dropout that a penalty amounts to."""

from typing import Literal

import torch
from torch import Tensor

from unrolled.penalties.numbers_given import floating
from unrolled.penalties.penalty import Penalty


def adaptive_dropout_mask(
    penalty: Penalty,
    w: Tensor,
    strength: float | Tensor,
    noise: Literal["bernoulli", "gaussian"] = "bernoulli",
    generator: torch.Generator | None = None,
) -> Tensor:
    """A random mask of mean 1 by which w is multiplied in the adaptive dropout of a penalty.

    On a least-squares problem ‖Xw − y‖² with columns of unit norm, noise of variance strength/η̂(w) adds
    strength·Σ|w|²/η̂ in expectation: the quadratic by which a reweighted step majorises 2·strength·ρ.

    Parameters
    ----------
    penalty : Penalty
    w : Tensor, any shape, real or complex
    strength : float > 0 or Tensor
    noise : "bernoulli" or "gaussian"
        a mask that is 1/α with probability α = η̂/(η̂ + strength), else 0; or one from N(1, strength/η̂). Where η̂ = 0
        such a variance would be infinite, and w is 0 or to be dropped: both masks are 0 there.
    generator : torch.Generator, optional
        on the device of w.

    Returns
    -------
    Tensor, the shape of w, real, without gradient

    Raises
    ------
    ValueError
        if strength is a number that is not > 0, or noise is unknown.
    """
    if noise not in ("bernoulli", "gaussian"):
        raise ValueError(f"noise must be 'bernoulli' or 'gaussian', got {noise!r}")
    w = floating("w", w)
    with torch.no_grad():
        alpha = penalty.keep_probability(w, strength)
        grouping = getattr(penalty, "grouping", None)
        if grouping is not None and alpha.shape == grouping.shape(w.shape):  # entries in no group are kept
            alpha = grouping.spread(alpha, w.shape, outside=1.0)
        alpha = alpha.expand(w.shape)
        dropped = alpha == 0
        safe = torch.where(dropped, 1.0, alpha)
        if noise == "bernoulli":
            draw = torch.rand(w.shape, generator=generator, dtype=alpha.dtype, device=w.device)
            mask = (draw < alpha) / safe
        else:
            draw = torch.randn(w.shape, generator=generator, dtype=alpha.dtype, device=w.device)
            mask = 1 + ((1 - safe) / safe).sqrt() * draw
        return torch.where(dropped, 0.0, mask)
