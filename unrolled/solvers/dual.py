"""Proximal maps that are found by iteration on their dual, with a certificate of how near they are."""

import math
import warnings
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from unrolled.operators.units import over
from unrolled.solvers.transforms import Transform

LEAST = 10
"""Iterations between two looks at the gap; as many are made from a dual of before, however good it is, so that an
algorithm that asks for one proximal map after another comes to its end exactly."""


class Norm(Protocol):
    """g(x) = h(Wx) of which h is a norm, or a seminorm."""

    transform: Transform

    def norm_of(self, c: Tensor) -> Tensor:
        """h(c), one number per image."""

    def project(self, p: Tensor, step: float) -> Tensor:
        """The nearest coefficients q with Re⟨q, d⟩ <= step·h(d) for all d."""


class Proximal(NamedTuple):
    """What was found for argmin_z ½‖z − v‖² + step·g(z).

    Attributes
    ----------
    image : Tensor
        z.
    dual : Tensor, optional
        p/step with z = v − Wᴴp, for the next one to begin at.
    gap : float
        the largest of the batch: (objective − lower bound of its minimum)/objective, 0 of a closed form.
    """

    image: Tensor
    dual: Tensor | None = None
    gap: float = 0.0


def dual_prox(
    prior: Norm, v: Tensor, step: float, iterations: int, tolerance: float, dual: Tensor | None = None
) -> Proximal:
    """argmin_z ½‖z − v‖² + step·h(Wz) for a norm h, by fast gradient projection on its dual (Beck, Teboulle, 2009).

    The dual is min_p ½‖v − Wᴴp‖² over all p with ⟨p, d⟩ <= step·h(d), and z = v − Wᴴp. For such a p the objective is
    at most step·h(Wz) − Re⟨p, Wz⟩ above its minimum, the duality gap, and z is from the minimiser at most the root of
    twice that. Momentum starts anew where it points uphill (O'Donoghue, Candès, 2015). Each image of a batch is
    treated for itself.

    Parameters
    ----------
    prior : Norm
    v : Tensor, (batch, channel, height, width)
    step : float > 0
    iterations : int >= 1
        at most.
    tolerance : float >= 0
        of the gap relative to the objective, where the iteration ends; it ends always where the gap is rounding.
    dual : Tensor, optional
        p/step to begin at; by default 0, or a p that Wᴴ maps to v as nearly as its bound allows, if that is better: it
        is the solution for a strong prior, whose minimiser is in the kernel of W.
    """
    # In units in which no square is lost; a power of two, so that nothing is rounded.
    largest = float(v.detach().abs().max())
    unit = 2.0 ** math.frexp(largest)[1] if 0 < largest < math.inf else 1.0
    v, step = v / unit, step / unit
    transform = prior.transform

    rate, warm = 1 / transform.norm**2, dual is not None
    current = step * dual if dual is not None else _start(v, prior.project(transform.preimage(v), step), transform)
    point, t = current, torch.ones(len(v), dtype=v.real.dtype, device=v.device)
    for made in range(iterations + 1):
        if made % LEAST == 0 or made == iterations:
            found, gap, left = _certificate(prior, v, step, current, tolerance)
            if made == iterations or (not bool(left.any()) and (made > 0 or not warm)):
                break
            going = left | (warm and made == 0)
        following = prior.project(point + rate * transform(v - transform.adjoint(point)), step)
        uphill = ((point - following).conj() * (following - current)).real.flatten(1).sum(1) > 0
        t = torch.where(uphill.detach(), 1, t)
        t_next = (1 + (1 + 4 * t * t).sqrt()) / 2
        momentum = over((t - 1) / t_next, current)
        following = torch.where(over(going, current), following, current)
        point, current, t = following + momentum * (following - current), following, t_next
    return Proximal(unit * found, current / step, gap)


def certain_prox(prior: Norm, v: Tensor, step: float, iterations: int, tolerance: float) -> Tensor:
    """z of `dual_prox`, in double precision where the device has it, for a strong prior makes much of rounding.

    Warns if the gap ends above the tolerance.
    """
    double = v if v.device.type == "mps" else v.to(torch.promote_types(v.dtype, torch.float64))
    found = dual_prox(prior, double, step, iterations, tolerance)
    if found.gap > tolerance:
        message = gap_message(found.gap, iterations, tolerance)
        warnings.warn(f"{type(prior).__name__}: {message}", stacklevel=3)
    return found.image.to(v.dtype)


def gap_message(gap: float, iterations: int, tolerance: float) -> str:
    """How near the proximal map is, and what helps."""
    return (
        f"after {iterations} iterations the objective of the proximal map may exceed its minimum by {gap:.1e} of its "
        f"value, more than the tolerance {tolerance:.1e}; give the prior more iterations, or use primal_dual, which "
        "needs no such map"
    )


def _start(v: Tensor, p: Tensor, transform: Transform) -> Tensor:
    """The better one of p and 0, for every image."""
    better = (v - transform.adjoint(p)).detach().flatten(1).norm(dim=1) < v.detach().flatten(1).norm(dim=1)
    return torch.where(over(better, p), p, 0)


def _certificate(prior: Norm, v: Tensor, step: float, p: Tensor, tolerance: float) -> tuple[Tensor, float, Tensor]:
    """z, its largest relative gap, and which images are not yet there."""
    transform = prior.transform
    z = v - transform.adjoint(p)
    with torch.no_grad():
        differences = transform(z)
        penalty = step * prior.norm_of(differences)
        gap = (penalty - (p.conj() * differences).real.flatten(1).sum(1)).clamp(min=0)
        objective = (z - v).abs().square().flatten(1).sum(1) / 2 + penalty
        # The pixels of z are rounded, at worst up and down in turn.
        rows, columns = (torch.arange(side, device=z.device) for side in z.shape[-2:])
        size = z.abs() + transform.norm * (p.abs().square().flatten(1).sum(1) / v[0].numel()).sqrt().view(-1, 1, 1, 1)
        jagged = size * (1 - 2 * ((rows[:, None] + columns) % 2))
        moved = (v - z).flatten(1).norm(dim=1) * v.flatten(1).norm(dim=1)
        rounding = torch.finfo(gap.dtype).eps * (step * prior.norm_of(transform(jagged)) + moved)
        gap = torch.where(gap <= rounding, 0, gap / torch.where(objective > 0, objective, 1))
        return z, float(gap.max()), gap > tolerance
