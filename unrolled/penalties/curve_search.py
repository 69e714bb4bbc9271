"""Searches along the curve of a penalty: for magnitudes, for η̂, and for the minimisers of the proximal map."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from unrolled.penalties.curve import FINER, Curve
from unrolled.penalties.root_finding import EPS, derivative_of, root, subdivided
from unrolled.system.devices import in_double

_ENTRIES = 2**17  # of the largest intermediate array of a search
_FEW, _WORTH = 8, 64  # so many different steps are worth searches of their own; and one for so many numbers
_FURTHEST = 1e100  # instead of an infinite magnitude
_HUGE = 1e300  # instead of an infinite slope


class CurveSearch:
    """What can be found on a curve, for data of any shape.

    Numbers that have the step and the parameters in common are looked for together, by a `_SharedSearch`; where steps
    or parameters differ too often for that, all are looked for side by side, by a `_ColumnSearch`.

    Parameters
    ----------
    curve : Curve
        with numbers as parameters, or tensors that broadcast with the data.
    """

    def __init__(self, curve: Curve) -> None:
        self.curve = curve

    def locate(self, z: Tensor) -> Tensor:
        """The u at which the curve has the magnitude z, with its gradient."""
        if self.curve.in_magnitudes:
            return z
        with torch.no_grad():
            u = self._found(lambda search, z: search.crossing(0, z, 2 * EPS), z.detach())
        reached = self.curve.at(u)[0]
        if not (z.requires_grad or reached.requires_grad):
            return u
        rate = derivative_of(lambda u: self.curve.at(u)[0], u.detach()).detach()
        return u + ((z - z.detach()) - (reached - reached.detach())) / rate

    def locate_eta(self, eta: Tensor) -> Tensor:
        """The u at which the curve has an η̂, to half of the digits and without gradient."""
        with torch.no_grad():
            return self._found(lambda search, eta: search.crossing(1, eta, 1e-8), eta.detach())

    def parts(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """u; and below the lowest node, where ρ' is a power of z, z's ratio to it and that power (0 if ρ'(0) > 0)."""
        with torch.no_grad():
            low, above = self.curve.nodes(z.device)[:2]
            (z0, eta0), (z1, eta1) = self.curve.at(low), self.curve.at(above)
            power = (((z1 / eta1) / (z0 / eta0)).log() / (z1 / z0).log()).round(decimals=6)
        return self.locate(torch.maximum(z, z0).clamp(max=_FURTHEST)), (z / z0).clamp(max=1), power

    def value(self, z: Tensor) -> Tensor:
        """ρ(z)."""
        u, ratio, power = self.parts(z)
        return self.curve.value(u) * ratio ** (1 + power)

    def slope(self, z: Tensor) -> Tensor:
        """ρ'(z)."""
        u, ratio, power = self.parts(z)
        there, eta = self.curve.at(u)
        return there / eta * ratio**power

    def eta(self, z: Tensor) -> Tensor:
        """η̂(z)."""
        u, ratio, power = self.parts(z)
        return torch.where(z.isnan(), z, self.curve.at(u)[1] * ratio ** (1 - power))

    @torch.no_grad()
    def minimisers(self, magnitude: Tensor, step: Tensor) -> Tensor:
        """The proximal map of magnitudes, but for whether 0 is better to the last digit; without gradient."""
        return self._found(lambda search, v, step: search.minimiser(v, step), magnitude.detach(), step.detach())

    @torch.no_grad()
    def landings(self, step: Tensor) -> Tensor:
        """Where the proximal map lands when it leaves 0, or 0 where it does not jump; without gradient."""
        step = step.detach()
        return self._found(lambda search, _, step: search.landing(step), step, step)

    def _found(self, ask: Callable[..., Tensor], data: Tensor, *numbers: Tensor) -> Tensor:
        """ask(search, data, *numbers) for vectors of data, with numbers (steps) and parameters that belong to them."""
        own = self.curve.tensors
        count = len(numbers)
        data, *together = torch.broadcast_tensors(data, *numbers, *(in_double(each.detach()) for each in own.values()))
        flat, together = data.reshape(-1), [number.reshape(-1) for number in together]
        if not len(flat):
            return data
        if all((number == number[0]).all() for number in together):
            sets, belongs = [number[:1] for number in together], torch.zeros_like(flat, dtype=torch.long)
        else:
            sets, belongs = torch.unique(torch.stack(together), dim=1, return_inverse=True)
        several = len(sets[0]) if together else 1
        if several > max(_FEW, len(flat) // _WORTH):
            return self._in_columns(ask, flat, *together[:count]).reshape(data.shape)
        result = torch.empty_like(flat)
        for k in range(several):
            mine = belongs == k
            curve = self.curve.having({name: values[k] for name, values in zip(own, sets[count:], strict=True)})
            result[mine] = ask(_SharedSearch(curve), flat[mine], *(values[k] for values in sets[:count]))
        return result.reshape(data.shape)

    def _in_columns(self, ask: Callable[..., Tensor], *data: Tensor) -> Tensor:
        """The same side by side, in pieces of which the intermediate arrays are not too large."""
        own = self.curve.tensors
        together = torch.broadcast_tensors(*data, *(in_double(tensor.detach()) for tensor in own.values()))
        length = max(1, _ENTRIES // len(self.curve.nodes(data[0].device)))
        pieces = []
        for piece in zip(*(tensor.reshape(-1).split(length) for tensor in together), strict=True):
            curve = self.curve.having(dict(zip(own, piece[len(data) :], strict=True)))
            pieces.append(ask(_ColumnSearch(curve), *piece[: len(data)]))
        return torch.cat(pieces)


class _VectorSearch(ABC):
    """A search on a curve for vectors of data."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve

    @abstractmethod
    def crossing(self, part: int, target: Tensor, tolerance: float) -> Tensor:
        """The u at which z (part 0) or η̂ (part 1) reaches the target: a vector."""

    @abstractmethod
    def minimiser(self, magnitude: Tensor, step: Tensor) -> Tensor:
        """The proximal map of a vector."""

    @abstractmethod
    def landing(self, step: Tensor) -> Tensor:
        """Where the proximal map lands when it leaves 0, or 0 if it does not jump."""

    def slope_at_zero(self, like: Tensor) -> Tensor:
        """ρ'(0)."""
        return CurveSearch(self.curve).slope(torch.zeros_like(like))

    def _between(
        self, part: int, target: Tensor, tolerance: float, grid: Tensor, reached: Tensor, at: Tensor
    ) -> Tensor:
        """The crossing next to a node of a grid on which z or η̂ is `reached`; of z proportional beyond its end."""
        at = at.clamp(1, len(grid) - 1)
        beyond = grid[-1] * target / reached[-1] if part == 0 else grid[-1]
        u = root(lambda u: 1 - target / self.curve.at(u)[part], grid[at - 1], grid[at], tolerance)
        return torch.where(target > reached[-1], beyond, torch.where(target.isnan(), target, u))

    def _stationary(self, u: Tensor, magnitude: Tensor, step: Tensor | float) -> Tensor:
        """The slope of the objective at u, z(1 + step/η̂) − magnitude."""
        z, eta = self.curve.at(u)
        return z * (1 + step / eta) - magnitude

    def _proportional(self, z: Tensor, magnitude: Tensor, step: Tensor) -> Tensor:
        """z, but outside of the nodes proportional to the magnitude."""
        ends, eta = self.curve.at(self.curve.nodes(z.device)[[0, -1]].reshape(2, *[1] * z.ndim))
        lowest, highest = ends * (1 + step / eta)
        z = torch.where((z < ends[0] * (1 + 1e-9)) & (magnitude < lowest), ends[0] * (magnitude / lowest), z)
        return torch.where(magnitude > highest, ends[1] * (magnitude / highest), z)


class _SharedSearch(_VectorSearch):
    """For data that have the step and the parameters, single numbers, in common: by a table of the curve."""

    def crossing(self, part: int, target: Tensor, tolerance: float) -> Tensor:
        table = self.curve.table(target.device)
        reached = table[part + 1][:, None]
        at = torch.searchsorted(reached[:, 0].contiguous(), target)
        return self._between(part, target, tolerance, table[0], reached, at)

    def minimiser(self, magnitude: Tensor, step: Tensor) -> Tensor:
        u, v, _ = self.curve.once(self._solutions, float(step), step.device)
        threshold = v[0] if u[0] == 0 else step * self.slope_at_zero(step)
        result = torch.where(magnitude > threshold, magnitude, 0 * magnitude)  # NaN and ∞ remain
        alive = (magnitude > threshold) & magnitude.isfinite()
        wanted = magnitude[alive]
        at = torch.searchsorted(v, wanted).clamp(1, len(v) - 1)
        z = self.curve.at(root(lambda u: self._stationary(u, wanted, step), u[at - 1], u[at]))[0]
        result[alive] = self._proportional(z, wanted, step)
        return result

    def landing(self, step: Tensor) -> Tensor:
        return self.curve.once(self._solutions, float(step), step.device)[2]

    def _solutions(self, step: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Where the global minimisers of ½|z − v|² + step·ρ(z) run along the curve.

        They minimise φ(z) − vz with φ(z) = z²/2 + step·ρ(z), so they are where φ touches its convex hull, v the slope.

        Returns
        -------
        u, v : Tensors, (n,)
            rising: between two of them is the minimiser's u for a v between. Where it jumps a v is there twice.
        landing : Tensor, ()
            z to which it jumps from 0, or 0.
        """
        u, z, eta, rho = self.curve.table(device)
        for _ in range(2):  # folds of v(u) may hide between nodes
            v = z * (1 + step / eta)
            known = v.diff().abs() > 1e-12 * v[1:]  # and not a rounding error
            rate = torch.where(known, v.diff() / z.diff(), 1.0)[:, None]
            rows = torch.cat([_suspects(rate)[0], _suspects(-rate)[0]])
            rows = torch.cat([rows, rows + 1]).unique()
            more = self.curve.tabulated(subdivided(u[rows], u[rows + 1], 2 * FINER)[1:-1].reshape(-1))
            u, z, eta, rho = torch.cat([torch.stack([u, z, eta, rho]), more], 1)[:, torch.cat([u, more[0]]).argsort()]
        v = z * (1 + step / eta)
        zero = torch.zeros_like(u[:1])
        start = step * self.slope_at_zero(zero).clamp(max=_HUGE)
        # A fall by less than half of the digits cannot be told from rounding in φ, and costs the objective nothing.
        falls = torch.cat([start, v]).diff() < -1e-8 * v
        if not falls.any():
            return u, v.cummax(0).values, zero[0]
        z, phi = torch.cat([zero, z]), torch.cat([zero, z.square() / 2 + step * rho])
        corners = torch.tensor(_convex_hull(z.tolist(), phi.tolist()), device=u.device)
        fallen = torch.cat([zero, falls.to(u).cumsum(0)])[corners].diff() > 0
        sides = torch.stack([corners[:-1][fallen], corners[1:][fallen]])
        left = sides == 0
        low, corner, high = (u[(sides + shift).clamp(0, len(u) - 1)] for shift in (-2, -1, 0))
        # What the coarser side leaves open moves the point of contact on the finer side, too.
        reach = (high / low).amax(0)
        low, high = torch.minimum(low, corner / reach).clamp(min=u[0]), torch.maximum(high, corner * reach)
        fall = falls.nonzero()[:, 0]  # and each side ends where v falls
        high[0] = torch.minimum(high[0], u[fall[torch.searchsorted(fall, sides[0])]])
        low[1] = torch.maximum(low[1], u[(fall[torch.searchsorted(fall, sides[1]) - 1] - 1).clamp(min=0)])
        rising = _chord(z[sides], phi[sides], v[(sides - 1).clamp(min=0)])
        for _ in range(6):  # each time the surroundings of the points of contact are cut into 32 parts
            inner = subdivided(low, high, 32)
            reached, eta = (torch.where(left, 0.0, part) for part in self.curve.at(inner))
            cost = torch.where(left, 0.0, reached.square() / 2 + step * self.curve.value(inner))
            for _ in range(8):  # Newton's method for the slope, among these points
                at = (cost - rising * reached).argmin(0, keepdim=True)
                touched, its, scale = (part.gather(0, at)[0] for part in (reached, cost, eta))
                rising = _chord(touched, its, touched * (1 + step / scale))
            low, high = inner.gather(0, (at - 2).clamp(min=0))[0], inner.gather(0, (at + 2).clamp(max=32))[0]

        ends = torch.where(left, 0.0, root(lambda u: self._stationary(u, rising, step), low, high))
        stays = ((u[:, None] <= ends[0]) | (u[:, None] >= ends[1])).all(1)
        u, order = torch.cat([u[stays], ends.T.reshape(-1)]).sort(stable=True)
        v = torch.cat([v[stays], rising.repeat_interleave(2)])[order].cummax(0).values
        landing = touched[1, 0] if left[0, 0] else zero[0]
        return u, v, landing


class _ColumnSearch(_VectorSearch):
    """For data with steps or parameters of their own, vectors: all crossings on the nodes, compared."""

    def crossing(self, part: int, target: Tensor, tolerance: float) -> Tensor:
        grid = self.curve.nodes(target.device)
        reached = self.curve.at(grid[:, None])[part]
        return self._between(part, target, tolerance, grid, reached, (reached < target).sum(0))

    def minimiser(self, magnitude: Tensor, step: Tensor) -> Tensor:
        def slope(curve: Curve, u: Tensor, magnitude: Tensor, step: Tensor) -> Tensor:
            z, eta = curve.at(u)
            return z * (1 + step / eta) - magnitude

        def cost(curve: Curve, u: Tensor, magnitude: Tensor, step: Tensor) -> Tensor:
            return (curve.at(u)[0] - magnitude).square() / 2 + step * curve.value(u)

        u, _ = self._least(slope, cost, magnitude, step, highest=magnitude)
        z = self.curve.at(torch.where(u.isinf(), self.curve.nodes(u.device)[0], u))[0]
        return torch.where(magnitude.isfinite(), self._proportional(z, magnitude, step), magnitude)

    def landing(self, step: Tensor) -> Tensor:
        # The minimiser of z/2 + step·ρ(z)/z, 0 if that is best at 0.
        def slope(curve: Curve, u: Tensor, step: Tensor) -> Tensor:
            z, eta = curve.at(u)
            return z / 2 - step * (curve.value(u) / z - z / eta)

        def cost(curve: Curve, u: Tensor, step: Tensor) -> Tensor:
            z = curve.at(u)[0]
            return z / 2 + step * curve.value(u) / z

        u, least = self._least(slope, cost, step)
        jumps = least < step * self.slope_at_zero(step).clamp(max=_HUGE)
        return torch.where(jumps, self.curve.at(torch.where(jumps, u, 1.0))[0], 0.0)

    def _least(
        self,
        slope: Callable[..., Tensor],
        cost: Callable[..., Tensor],
        *data: Tensor,
        highest: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """For each column the u at which the cost is least among those where its slope crosses 0 upwards, and the cost.

        Parameters
        ----------
        slope, cost : callables of (curve, u, *data); slope has the sign of the derivative of the cost in u
        data : Tensors, (n,)
        highest : Tensor, optional
            z beyond which there is no such crossing.

        Returns
        -------
        Tensors, (n,); inf where the slope has no such crossing
        """
        grid = self.curve.nodes(data[0].device)[:, None]
        if highest is not None:  # nothing is to be found beyond
            grid = grid[: int((self.curve.at(grid)[0] < highest.max()).any(1).sum()) + 1]
        where, column = _suspects(slope(self.curve, grid, *data))
        low, high = grid[where, 0], grid[where + 1, 0]
        for last in (False, True):
            inner = subdivided(low, high, FINER)
            part = self.curve.columns(column)
            where, which = _suspects(slope(part, inner, *(number[column] for number in data)), crossings_only=last)
            low, high, column = inner[where, which], inner[where + 1, which], column[which]
        part, local = self.curve.columns(column), [number[column] for number in data]
        u = root(lambda u: slope(part, u, *local), low, high)
        costs = cost(part, u, *local)
        least = torch.full_like(data[0], torch.inf).scatter_reduce(0, column, costs, "amin")
        u = torch.where(costs == least[column], u, torch.inf)
        return torch.full_like(data[0], torch.inf).scatter_reduce(0, column, u, "amin"), least


def _convex_hull(x: list[float], y: list[float]) -> list[int]:
    """The points below which there are no chords, x rising."""
    hull: list[int] = []
    for k in range(len(x)):
        while len(hull) > 1:
            i, j = hull[-2:]
            if (y[j] - y[i]) * (x[k] - x[j]) < (y[k] - y[j]) * (x[j] - x[i]):
                break
            hull.pop()
        hull.append(k)
    return hull


def _chord(x: Tensor, y: Tensor, slopes: Tensor) -> Tensor:
    """The slopes from the points of the first rows to those of the second ones.

    Of points so close, about a kink, that the chord has no digits: the mean of the slopes there.
    """
    return torch.where(x[1] - x[0] > 1e-6 * x[1], (y[1] - y[0]) / (x[1] - x[0]), slopes.mean(0))


def _suspects(slope: Tensor, crossings_only: bool = False) -> tuple[Tensor, ...]:
    """Rows and columns of the stretches between rows that cross 0 upwards, or may do so unseen.

    Between two rows of the same sign there may be two crossings, if |slope| has a minimum there. A parabola through
    its least row and the two beside it cannot reach 0 if that row is further from 0 than from one of them.
    """
    suspect = (slope[:-1] < 0) & (slope[1:] >= 0)
    if not crossings_only:
        size = slope.abs()
        same = ((slope[:-2] < 0) == (slope[1:-1] < 0)) & ((slope[1:-1] < 0) == (slope[2:] < 0))
        least = (size[1:-1] <= size[:-2]) & (size[1:-1] <= size[2:]) & same
        hidden = least & (size[1:-1] < torch.maximum(size[:-2], size[2:]) - size[1:-1])
        suspect[:-1] |= hidden
        suspect[1:] |= hidden
    return suspect.nonzero(as_tuple=True)
