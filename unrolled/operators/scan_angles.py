"""The angles of a scan: as users state them, and what each stands for in filtered back-projection."""

import math
import warnings

import torch
from torch import Tensor

from unrolled.system.arraylike import ArrayLike, as_tensor

MISSING = 4
"""A gap between neighbouring angles of more than so many medians is a wedge that was not measured."""

MANY, HALF_TURN = 8, 2.5
"""So many angles within 2π that reach over nearly π are probably radians."""


def stated_angles(name: str, angles: int | ArrayLike, first_angle: float, span: float | None, turn: float) -> Tensor:
    """Angles in degrees, (angle,), in the default type.

    Parameters
    ----------
    name : str
        of the operator, for messages.
    angles : int, or list of float, Tensor or array (angle,) in [-360, 360]
    first_angle : float in [-360, 360]
        added to all.
    span : float in [-360, 360], not 0, optional
        over which a number of angles is spread; by default a turn.
    turn : float
        after which the same lines are seen again.
    """
    kind = torch.get_default_dtype()
    if not abs(first_angle) <= 360:
        raise ValueError(f"{name}: first_angle must be in [-360, 360] degrees, got {first_angle!r}")
    if span is not None and not (abs(span) <= 360 and span):
        raise ValueError(f"{name}: span must be in [-360, 360] degrees and not 0, got {span!r}")
    if isinstance(angles, int):
        if angles < 1:
            raise ValueError(f"{name}: angles must be >= 1, got {angles!r}")
        span = turn if span is None else span
        return (first_angle + span * torch.arange(angles, dtype=torch.float64) / angles).to(kind)
    if span is not None:
        raise ValueError(f"{name}: span is for a number of angles, and angles are a list; leave it out")
    given = as_tensor(f"{name}: angles", angles).detach()
    if given.ndim != 1 or not given.numel() or given.is_complex() or given.dtype is torch.bool:
        raise ValueError(
            f"{name}: angles must be a number of angles or a list of real ones, got {given.dtype} of the shape "
            f"{tuple(given.shape)}"
        )
    given = given.double()
    wrong = ~(given.abs() <= 360)
    if bool(wrong.any()):
        raise ValueError(f"{name}: angles must be in [-360, 360] degrees, got {float(given[wrong][0])}")
    if len(given) >= MANY and bool(given.abs().max() <= 2 * math.pi) and bool(given.max() - given.min() > HALF_TURN):
        warnings.warn(
            f"{name}: angles are degrees, and lie between {float(given.min()):.4g} and {float(given.max()):.4g}; if "
            "they are radians, give torch.rad2deg of them",
            stacklevel=6,
        )
    return (first_angle + given).to(kind)


def arcs(angles: Tensor, turn: float) -> Tensor:
    """Half of the gaps to both neighbours, modulo a turn, in radians; a missing wedge counts as a median.

    Parameters
    ----------
    angles : Tensor, (angle,), in degrees
    turn : float
        in degrees.
    """
    order, _, gaps = _around(angles, turn)
    median = _median(gaps)
    gaps = torch.where(gaps > MISSING * median, median, gaps)
    return torch.deg2rad(torch.zeros_like(gaps).scatter(0, order, (gaps + gaps.roll(1)) / 2))


def short_scan_weights(angles: Tensor, fan: Tensor) -> Tensor:
    """How much every ray of a scan counts whose angles do not go all around: 1 over all rays of the same line.

    The weights of D. L. Parker, "Optimal short scan convolution reconstruction for fan beam CT", Medical Physics 9
    (1982), for whatever the angles cover beyond half a turn (M. D. Silver, Medical Physics 27, 2000). The angles may
    come in any order and go either way round.

    Parameters
    ----------
    angles : Tensor, (angle,), in degrees
    fan : Tensor, (detector,)
        angles between rays and the central ray, in radians.

    Returns
    -------
    Tensor, (angle, detector)
    """
    first, covered = covered_range(angles)
    covered = torch.deg2rad(covered)
    beta = torch.deg2rad((angles - first) % 360).unsqueeze(1)
    # The line of (β, γ) is also that of (β + π + 2γ, −γ).
    begins = (covered - math.pi - 2 * fan).clamp(min=1e-6)
    ends = (covered - math.pi + 2 * fan).clamp(min=1e-6)
    rising = (math.pi / 2 * (beta / begins).clamp(0, 1)).sin().square()
    falling = (math.pi / 2 * ((covered - beta) / ends).clamp(0, 1)).sin().square()
    return rising * falling


def covered_range(angles: Tensor) -> tuple[Tensor, Tensor]:
    """From where on the angles of a scan cover how much of a turn, in degrees; both are scalars.

    Each angle stands for the middle of what it covers.
    """
    _, places, gaps = _around(angles, 360.0)
    widest, last = gaps.max(0)  # between the last angle of the scan and its first
    each = _median(gaps)
    return places[(last + 1) % len(places)] - each / 2, (360 - widest + each).clamp(max=360.0)


def _around(angles: Tensor, turn: float) -> tuple[Tensor, Tensor, Tensor]:
    """The order of angles within a turn, where they then lie, and the gap after each."""
    order = torch.argsort(angles % turn)
    places = (angles % turn)[order]
    return order, places, torch.cat((places[1:], places[:1] + turn)) - places


def _median(gaps: Tensor) -> Tensor:
    return torch.where(gaps > 1e-4, gaps, torch.nan).nanmedian()  # angles may be there twice
