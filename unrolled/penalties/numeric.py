"""Penalties without closed forms: everything they can be asked, found numerically from one curve."""

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from unrolled.penalties.penalty import SeparablePenalty, step_tensor

LOWEST, HIGHEST = 2.0**-50, 2.0**30  # the magnitudes between which numeric penalties are exact
_PER_OCTAVE = 4  # nodes of the curve where the search starts; it looks between them, too
_FINER = 8  # parts into which each zoom cuts a stretch of the curve
_ENTRIES = 2**17  # of the largest intermediate array of a search
_FEW, _WORTH = 8, 64  # so many different steps are worth searches of their own; and one for so many numbers
_FOUND = 32  # results that a penalty remembers
_FURTHEST = 1e100  # instead of an infinite magnitude
_HUGE = 1e300  # instead of an infinite slope
_EPS = torch.finfo(torch.float64).eps


class NumericPenalty(SeparablePenalty):
    """A separable penalty that is known along a curve u ↦ (z, η̂(z), ρ(z)), u > 0.

    A subclass says what z and η̂ are at u, both nondecreasing (`_curve`), and ρ there (`_value_at`); u may be the
    magnitude itself, η, or whatever the penalty is simplest in. All else follows: ρ' = z/η̂, the threshold, the dual,
    and the proximal map, whose equation z(1 + step/η̂) = v may have several solutions. For a step that many numbers have
    in common the best ones are known from the convex hull of z²/2 + step·ρ(z) on a table of the curve, and where they
    jump is found once; for steps (or parameters) that differ from number to number they are all found and compared:
    sign changes on a grid of u, looked at more closely where two may hide between nodes. Then they are refined to the
    last digits. Gradients are those of the implicit function theorem.

    Computed in float64 whatever the type of the input, for magnitudes in [2⁻⁵⁰, 2³⁰] (about 1e-15 to 1e9); by power
    laws below and proportionally above. The proximal map costs about a microsecond per number for one step, and
    between 20 and 600 where steps differ.
    """

    @abstractmethod
    def _curve(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """z and η̂(z) at u, both nondecreasing; z continuous."""

    @abstractmethod
    def _value_at(self, u: Tensor) -> Tensor:
        """ρ(z(u))."""

    def _nodes(self, device: torch.device) -> Tensor:
        """Increasing values of u, close enough together that the curve has no more than a bend between two."""
        return nodes(LOWEST, HIGHEST, device)

    def _table(self, device: torch.device) -> Tensor:
        """u, z, η̂ and ρ, (4, n), on a finer grid, of a penalty whose tensors are single numbers."""
        grid = self._nodes(device)
        inner = subdivided(grid[:-1], grid[1:], _FINER)[:-1]
        return self._tabulated(torch.cat([inner.reshape(-1), grid[-1:]]).unique())

    def _once(self, find: Callable[..., Any], *keys: Any) -> Any:
        """find(*keys), found only once for these keys: the penalty is a value."""
        if self._changeable:
            return find(*keys)
        if "_found" not in self.__dict__:
            object.__setattr__(self, "_found", {})
        found, place = self.__dict__["_found"], (find.__name__, *keys)
        if place not in found:
            if len(found) >= _FOUND:
                found.clear()
            found[place] = find(*keys)
        return found[place]

    def _tabulated(self, u: Tensor) -> Tensor:
        return torch.stack(torch.broadcast_tensors(u, *self._curve(u), self._value_at(u))).detach()

    @property
    def _changeable(self) -> bool:
        """Whether the curve may be another one at the next call: tensors are changed in place when they are learned."""
        return bool(self._tensors()) and "_passing" not in self.__dict__

    def _tensors(self) -> dict[str, Tensor]:
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in own.items() if isinstance(value, Tensor)}

    def _locate(self, z: Tensor) -> Tensor:
        """The u at which the curve has the magnitude z, with its gradient."""
        with torch.no_grad():
            u = self._searched(_crossing_of_z, _crossing_of_z, z.detach())
        reached = self._curve(u)[0]
        if not (z.requires_grad or reached.requires_grad):
            return u
        rate = derivative_of(lambda u: self._curve(u)[0], u.detach()).detach()
        return u + ((z - z.detach()) - (reached - reached.detach())) / rate

    def _parts(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """u; and below the lowest node, where ρ' is a power of z, z's ratio to it and that power (0 if ρ'(0) > 0)."""
        with torch.no_grad():
            low, above = self._nodes(z.device)[:2]
            (z0, eta0), (z1, eta1) = self._curve(low), self._curve(above)
            power = (((z1 / eta1) / (z0 / eta0)).log() / (z1 / z0).log()).round(decimals=6)
        return self._locate(torch.maximum(z, z0).clamp(max=_FURTHEST)), (z / z0).clamp(max=1), power

    def _value(self, z: Tensor) -> Tensor:
        u, ratio, power = self._parts(z)
        return self._value_at(u) * ratio ** (1 + power)

    def _slope(self, z: Tensor) -> Tensor:
        u, ratio, power = self._parts(z)
        there, eta = self._curve(u)
        return there / eta * ratio**power

    def _eta(self, z: Tensor) -> Tensor:
        u, ratio, power = self._parts(z)
        return torch.where(z.isnan(), z, self._curve(u)[1] * ratio ** (1 - power))

    def _curvature(self, z: Tensor) -> Tensor:
        return derivative_of(self._slope, z)

    # The searches decide by their data, at which a compiler gives up: it leaves them to Python.

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def value(self, w: Tensor) -> Tensor:
        return super().value(_float64(w)).to(w.dtype.to_real())

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def derivative(self, w: Tensor) -> Tensor:
        return super().derivative(_float64(w)).to(w.dtype.to_real())

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def eta(self, w: Tensor) -> Tensor:
        return super().eta(_float64(w)).to(w.dtype.to_real())

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def dual(self, eta: Tensor) -> Tensor:
        exact = _float64(eta)
        with torch.no_grad():
            low = self._nodes(exact.device)[:1]
            z, least = self._curve(low)
            power = self._parts(z)[2]
            power = torch.where(power < 1, (1 + power) / (1 - power), 1e9)  # of f below η̂ there, in η
        positive = torch.where((exact > 0) & exact.isfinite(), torch.maximum(exact, least), 1.0)
        with torch.no_grad():
            u = self._searched(_crossing_of_eta, _crossing_of_eta, positive.detach())
            u = torch.where(exact == torch.inf, self._nodes(u.device)[-1], u)
        z = self._curve(u)[0]  # an error of u costs only its square
        supremum = (2 * self._value_at(u) - z.square() / torch.where(exact.isinf(), exact, positive)).clamp(min=0)
        below = torch.where(exact == 0, 1.0, exact / least).clamp(max=1) ** power
        return torch.where(exact.isnan() | (exact == 0), exact, supremum * below).to(eta.dtype)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def prox(self, v: Tensor, step: Tensor | float) -> Tensor:
        return SeparablePenalty.prox(self, _float64(v), step).to(v.dtype)

    def _kept(self, magnitude: Tensor, step: Tensor) -> Tensor:
        with torch.no_grad():
            z = self._searched(_minimiser, _minimiser_of_each, magnitude.detach(), step.detach())
            threshold = self.threshold(step)  # to the last digit
            z = torch.where((magnitude <= threshold) & (threshold > 0), 0.0, z)
            # What does not change with v and the step sees another z, where its gradients are finite.
            still = z.isinf() | (z == 0) if self.exact_zeros else z.isinf()
            there = torch.where(still, 1.0, z)
        if not (torch.is_grad_enabled() and (magnitude + step * self._slope(torch.ones_like(step))).requires_grad):
            return z
        equation = step * self._slope(there) - magnitude
        curvature = self._curvature(there).detach().nan_to_num()  # 0 where η̂ is infinite
        steepness = (1 + step.detach() * curvature).clamp(min=1e-12)
        change = ((equation - equation.detach()) / steepness).nan_to_num()
        return z - torch.where(still, 0.0, change)

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        return self._kept(magnitude, step)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def threshold(self, step: Tensor | float) -> Tensor:
        given = step_tensor(step)
        step = given.double()
        start = self._slope(torch.zeros_like(step)).clamp(max=_HUGE)  # infinite times 0 would be a NaN gradient
        with torch.no_grad():
            z = self._searched(_landing, _landing_of_each, step.detach(), step.detach())
        there = torch.where(z == 0, 1.0, z)
        # The envelope theorem gives the gradients of inf_z z/2 + step·ρ(z)/z at its minimiser.
        return torch.where(z == 0, step * start, there / 2 + step * self._value(there) / there).to(given.dtype)

    def _searched(
        self, shared: Callable[..., Tensor], each: Callable[..., Tensor], data: Tensor, *numbers: Tensor
    ) -> Tensor:
        """A search for each of the data, at numbers (steps) that belong to it.

        shared(penalty, data, *numbers) is called for those which have the numbers and the parameters in common,
        each(penalty, data, *numbers) with vectors for all where these are too many.
        """
        own = self._tensors()
        count = len(numbers)
        data, *together = torch.broadcast_tensors(data, *numbers, *(each.detach().double() for each in own.values()))
        flat, together = data.reshape(-1), [number.reshape(-1) for number in together]
        if not len(flat):
            return data
        if all((number == number[0]).all() for number in together):
            sets, belongs = [number[:1] for number in together], torch.zeros_like(flat, dtype=torch.long)
        else:
            sets, belongs = torch.unique(torch.stack(together), dim=1, return_inverse=True)
        several = len(sets[0]) if together else 1
        if several > max(_FEW, len(flat) // _WORTH):
            return self._in_columns(each, flat, *together[:count]).reshape(data.shape)
        result = torch.empty_like(flat)
        for k in range(several):
            mine = belongs == k
            penalty = self._with({name: values[k] for name, values in zip(own, sets[count:], strict=True)})
            result[mine] = shared(penalty, flat[mine], *(values[k] for values in sets[:count]))
        return result.reshape(data.shape)

    def _in_columns(self, function: Callable[..., Tensor], *data: Tensor) -> Tensor:
        """function(penalty, *data), the data broadcast and cut into short vectors, the penalty's tensors with them."""
        own = self._tensors()
        together = torch.broadcast_tensors(*data, *(tensor.detach().double() for tensor in own.values()))
        length = max(1, _ENTRIES // len(self._nodes(data[0].device)))
        pieces = []
        for piece in zip(*(tensor.reshape(-1).split(length) for tensor in together), strict=True):
            pieces.append(function(self._with(dict(zip(own, piece[len(data) :], strict=True))), *piece[: len(data)]))
        return torch.cat(pieces)

    def _with(self, tensors: dict[str, Tensor]) -> Self:
        if not tensors:
            return self
        penalty = dataclasses.replace(self, **tensors)
        object.__setattr__(penalty, "_passing", True)  # nobody else sees it, and can change its tensors
        return penalty

    def _columns(self, which: Tensor) -> Self:
        """The penalty whose tensors are those of some columns."""
        return self._with({name: value[which] for name, value in self._tensors().items()})

    def _crossing(self, part: int, target: Tensor, tolerance: float) -> Tensor:
        """The u at which z (part 0) or η̂ (part 1) reaches the target: a vector."""
        if all(tensor.ndim == 0 for tensor in self._tensors().values()):
            table = self._once(self._table, target.device)
            grid, reached = table[0], table[part + 1][:, None]
            at = torch.searchsorted(reached[:, 0].contiguous(), target)
        else:
            grid = self._nodes(target.device)
            reached = self._curve(grid[:, None])[part]
            at = (reached < target).sum(0)
        at = at.clamp(1, len(grid) - 1)
        beyond = grid[-1] * target / reached[-1] if part == 0 else grid[-1]
        u = root(lambda u: 1 - target / self._curve(u)[part], grid[at - 1], grid[at], tolerance)
        return torch.where(target > reached[-1], beyond, torch.where(target.isnan(), target, u))

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
        u, z, eta, rho = self._once(self._table, device)
        for _ in range(2):  # folds of v(u) may hide between nodes
            v = z * (1 + step / eta)
            known = v.diff().abs() > 1e-12 * v[1:]  # and not a rounding error
            rate = torch.where(known, v.diff() / z.diff(), 1.0)[:, None]
            rows = torch.cat([_suspects(rate)[0], _suspects(-rate)[0]])
            rows = torch.cat([rows, rows + 1]).unique()
            more = self._tabulated(subdivided(u[rows], u[rows + 1], 2 * _FINER)[1:-1].reshape(-1))
            u, z, eta, rho = torch.cat([torch.stack([u, z, eta, rho]), more], 1)[:, torch.cat([u, more[0]]).argsort()]
        v = z * (1 + step / eta)
        zero = torch.zeros_like(u[:1])
        start = step * self._slope(zero).clamp(max=_HUGE)
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
            reached, eta = (torch.where(left, 0.0, part) for part in self._curve(inner))
            cost = torch.where(left, 0.0, reached.square() / 2 + step * self._value_at(inner))
            for _ in range(8):  # Newton's method for the slope, among these points
                at = (cost - rising * reached).argmin(0, keepdim=True)
                touched, its, scale = (part.gather(0, at)[0] for part in (reached, cost, eta))
                rising = _chord(touched, its, touched * (1 + step / scale))
            low, high = inner.gather(0, (at - 2).clamp(min=0))[0], inner.gather(0, (at + 2).clamp(max=32))[0]

        def missing(u: Tensor) -> Tensor:
            z, eta = self._curve(u)
            return z * (1 + step / eta) - rising

        ends = torch.where(left, 0.0, root(missing, low, high))
        stays = ((u[:, None] <= ends[0]) | (u[:, None] >= ends[1])).all(1)
        u, order = torch.cat([u[stays], ends.T.reshape(-1)]).sort(stable=True)
        v = torch.cat([v[stays], rising.repeat_interleave(2)])[order].cummax(0).values
        landing = touched[1, 0] if left[0, 0] else zero[0]
        return u, v, landing

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
        slope, cost : callables of (penalty, u, *data); slope has the sign of the derivative of the cost in u
        data : Tensors, (n,)
        highest : Tensor, optional
            z beyond which there is no such crossing.

        Returns
        -------
        Tensors, (n,); inf where the slope has no such crossing
        """
        grid = self._nodes(data[0].device)[:, None]
        if highest is not None:  # nothing is to be found beyond
            grid = grid[: int((self._curve(grid)[0] < highest.max()).any(1).sum()) + 1]
        where, column = _suspects(slope(self, grid, *data))
        low, high = grid[where, 0], grid[where + 1, 0]
        for last in (False, True):
            inner = subdivided(low, high, _FINER)
            part = self._columns(column)
            where, which = _suspects(slope(part, inner, *(number[column] for number in data)), crossings_only=last)
            low, high, column = inner[where, which], inner[where + 1, which], column[which]
        part, local = self._columns(column), [number[column] for number in data]
        u = root(lambda u: slope(part, u, *local), low, high)
        costs = cost(part, u, *local)
        least = torch.full_like(data[0], torch.inf).scatter_reduce(0, column, costs, "amin")
        u = torch.where(costs == least[column], u, torch.inf)
        return torch.full_like(data[0], torch.inf).scatter_reduce(0, column, u, "amin"), least


def _crossing_of_z(penalty: NumericPenalty, z: Tensor) -> Tensor:
    return penalty._crossing(0, z, 2 * _EPS)


def _crossing_of_eta(penalty: NumericPenalty, eta: Tensor) -> Tensor:
    return penalty._crossing(1, eta, 1e-8)


def _minimiser(penalty: NumericPenalty, magnitude: Tensor, step: Tensor) -> Tensor:
    """The proximal map of a vector with one step."""
    u, v, _ = penalty._once(penalty._solutions, float(step), step.device)
    threshold = v[0] if u[0] == 0 else step * penalty._slope(torch.zeros_like(step))
    result = torch.where(magnitude > threshold, magnitude, 0 * magnitude)  # NaN and ∞ remain
    alive = (magnitude > threshold) & magnitude.isfinite()
    wanted = magnitude[alive]
    at = torch.searchsorted(v, wanted).clamp(1, len(v) - 1)

    def missing(u: Tensor) -> Tensor:
        z, eta = penalty._curve(u)
        return z * (1 + step / eta) - wanted

    z = penalty._curve(root(missing, u[at - 1], u[at]))[0]
    result[alive] = _proportional(penalty, z, wanted, step)
    return result


def _minimiser_of_each(penalty: NumericPenalty, magnitude: Tensor, step: Tensor) -> Tensor:
    """The proximal map of vectors."""

    def slope(penalty: NumericPenalty, u: Tensor, magnitude: Tensor, step: Tensor) -> Tensor:
        z, eta = penalty._curve(u)
        return z * (1 + step / eta) - magnitude

    def cost(penalty: NumericPenalty, u: Tensor, magnitude: Tensor, step: Tensor) -> Tensor:
        return (penalty._curve(u)[0] - magnitude).square() / 2 + step * penalty._value_at(u)

    u, _ = penalty._least(slope, cost, magnitude, step, highest=magnitude)
    z = penalty._curve(torch.where(u.isinf(), penalty._nodes(u.device)[0], u))[0]
    return torch.where(magnitude.isfinite(), _proportional(penalty, z, magnitude, step), magnitude)


def _proportional(penalty: NumericPenalty, z: Tensor, magnitude: Tensor, step: Tensor) -> Tensor:
    """z, but outside of the nodes proportional to the magnitude."""
    ends, eta = penalty._curve(penalty._nodes(z.device)[[0, -1]].reshape(2, *[1] * z.ndim))
    lowest, highest = ends * (1 + step / eta)
    z = torch.where((z < ends[0] * (1 + 1e-9)) & (magnitude < lowest), ends[0] * (magnitude / lowest), z)
    return torch.where(magnitude > highest, ends[1] * (magnitude / highest), z)


def _landing(penalty: NumericPenalty, data: Tensor, step: Tensor) -> Tensor:
    """Where the proximal map lands when it leaves 0, or 0 if it does not jump; of one step."""
    return penalty._once(penalty._solutions, float(step), step.device)[2].expand(data.shape)


def _landing_of_each(penalty: NumericPenalty, data: Tensor, step: Tensor) -> Tensor:
    """The same for a vector of steps: the minimiser of z/2 + step·ρ(z)/z, 0 if that is best at 0."""

    def slope(penalty: NumericPenalty, u: Tensor, step: Tensor) -> Tensor:
        z, eta = penalty._curve(u)
        return z / 2 - step * (penalty._value_at(u) / z - z / eta)

    def cost(penalty: NumericPenalty, u: Tensor, step: Tensor) -> Tensor:
        z = penalty._curve(u)[0]
        return z / 2 + step * penalty._value_at(u) / z

    u, least = penalty._least(slope, cost, step)
    jumps = least < step * penalty._slope(torch.zeros_like(step)).clamp(max=_HUGE)
    return torch.where(jumps, penalty._curve(torch.where(jumps, u, 1.0))[0], 0.0)


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


def nodes(low: float, high: float, device: torch.device | None = None) -> Tensor:
    """A geometric grid from low to high, powers of 2, in float64."""
    octaves = torch.tensor([low, high], dtype=torch.float64).log2()
    count = int((octaves[1] - octaves[0]).item()) * _PER_OCTAVE
    return 2.0 ** torch.linspace(float(octaves[0]), float(octaves[1]), count + 1, dtype=torch.float64, device=device)


def subdivided(low: Tensor, high: Tensor, parts: int) -> Tensor:
    """Geometric grids from low to high, both > 0: (parts + 1, *shape of low)."""
    fractions = torch.linspace(0, 1, parts + 1, dtype=low.dtype, device=low.device)
    inner = torch.minimum(low * (high / low) ** fractions.reshape(-1, *[1] * low.ndim), high)  # also if they are close
    return torch.cat([low[None], inner[1:-1], high[None]])


def root(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, tolerance: float = 2 * _EPS) -> Tensor:
    """Where a function with values < 0 at low and ≥ 0 at high crosses 0, to a relative tolerance.

    Regula falsi in the variant of Illinois, with a bisection now and then so that it always ends.
    """
    at_low, at_high = function(low), function(high)
    before = at_low > 0
    for count in range(100):
        if (high - low <= 2 * tolerance * high).all():
            break
        if count % 4 == 3:
            middle = (low + high) / 2
        else:  # not closer to an end than the tolerance: so the other end is drawn in when one is at the solution
            secant = low + (high - low) * (at_low / (at_low - at_high))
            margin = torch.minimum(tolerance * high, (high - low) / 2)
            secant = torch.where(secant.isnan(), high, secant)  # 0/0, when it is found
            middle = torch.minimum(torch.maximum(secant, low + margin), high - margin)
        now = function(middle)
        below = now < 0
        # An end that stays for a second time counts half: so none stays for long.
        again = torch.where(below == before, 0.5, 1.0)
        before = below
        at_low, at_high = torch.where(below, now, at_low * again), torch.where(below, at_high * again, now)
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def derivative_of(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """The derivative of an elementwise function, recorded for gradients only if something in it asks for them."""
    record = torch.is_grad_enabled() and (z.requires_grad or function(z).requires_grad)
    with torch.inference_mode(False), torch.enable_grad():
        at = z if z.requires_grad else z.detach().clone().requires_grad_()
        value = function(at)
        slope = (
            torch.autograd.grad(value.sum(), at, create_graph=record, allow_unused=True)[0]
            if value.requires_grad
            else None
        )
    return torch.zeros_like(z) if slope is None else slope


def _float64(w: Tensor) -> Any:
    if w.is_complex():
        return w.to(torch.complex128)
    return w.double() if w.is_floating_point() else w
