"""Sums along rays as a sparse matrix, kept as small as the symmetry of the scan allows.

Turned by quarters and mirrored, an image shows at one angle the rays that it had at others. So the matrix has one of
those angles, and is applied to the image in all its positions at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from unrolled.operators.rays import Plane
from unrolled.operators.sparse_rows import Bags, PaddedRows, bags_of, transposed

LARGEST = 2**30
"""No matrix is made that may take more bytes, with its adjoint."""

ENTRIES = 2**17
"""So many entries are looked at at once while it is made."""

ALIKE = 2e-5
"""Angles that differ by less are one, in degrees: single precision does not tell them apart around 180."""

Lines = Callable[[Tensor], tuple[Tensor, Tensor]]
Seen = Callable[[Tensor, Plane], tuple[Tensor, Tensor]]


class Scan(NamedTuple):
    """From where an image is seen.

    Parameters
    ----------
    angles : list of float
        of the views, in degrees.
    detectors : Tensor, (detector,), of whole numbers
        counted from the one that the axis falls on.
    mirrored : bool
        the rays of the detectors i and −i mirror each other.
    parallel : bool
        half a turn reverses rays.
    """

    angles: list[float]
    detectors: Tensor
    mirrored: bool
    parallel: bool


class Position(NamedTuple):
    """How an image lies: turned clockwise by so many quarters, then mirrored, left for right, or not."""

    mirror: bool
    quarters: int


class Folding(NamedTuple):
    """Views as views of other positions of the image from fewer angles.

    Parameters
    ----------
    bases : list of float
        those angles, in degrees.
    views : list of (int, Position)
        which of them each view takes, and in which position; those of a view are no other one's.
    """

    bases: list[float]
    views: list[tuple[int, Position]]


class FoldedScan:
    """A scan as one of fewer angles, of an image in several positions.

    Attributes
    ----------
    plane : Plane
        of that image; around the part that is measured it is 0.
    positions : list of Position
    bases : list of float
        the angles, in degrees.
    places : Tensor, (place,), of whole numbers
        the detectors, as in `Scan`.

    Parameters
    ----------
    scan : Scan
    plane : Plane
        of the images that are measured.
    """

    def __init__(self, scan: Scan, plane: Plane):
        square, part = _square(plane)
        halved = square is not None and scan.parallel and scan.mirrored
        self.positions = [Position(False, 0), Position(False, 2)][: 1 + int(halved)]
        folding = Folding(scan.angles, [(number, self.positions[0]) for number in range(len(scan.angles))])
        if square is not None:
            smaller = fold(scan.angles, scan.mirrored, halved)
            if 2 * len(smaller.bases) <= len(scan.angles):  # otherwise it is many positions, for few views each
                mirrors = (False, True)[: 1 + int(scan.mirrored)]
                folding, self.positions = smaller, [Position(mirror, turns) for mirror in mirrors for turns in range(4)]
        if square is None or len(self.positions) == 1:
            square, part = plane, (slice(plane.height), slice(plane.width))
        self.plane, self._part, self.bases = square, part, folding.bases
        self.places = scan.detectors
        if scan.mirrored:
            most = int(self.places.abs().max())
            self.places = torch.arange(0 if halved else -most, most + 1)
        self._shape = len(scan.angles), len(scan.detectors)
        self._rays = self._where(folding, scan.detectors, halved).flatten()

    def _where(self, folding: Folding, detectors: Tensor, halved: bool) -> Tensor:
        """Where each ray is found, (angle, detector), among (base, place, position)."""
        bases, laid = zip(*folding.views, strict=True)
        base = torch.tensor(bases).unsqueeze(1)
        mirror, quarters = (torch.tensor(numbers).unsqueeze(1) for numbers in zip(*laid, strict=True))
        place = torch.where(mirror, -detectors, detectors)
        if halved:
            quarters, place = torch.where(place < 0, (quarters + 2) % 4, quarters), place.abs()
        numbers = torch.zeros(2, 4, dtype=torch.int64)
        for number, position in enumerate(self.positions):
            numbers[int(position.mirror), position.quarters] = number
        position_number = numbers[mirror.long(), quarters]
        return (base * len(self.places) + place - self.places[0]) * len(self.positions) + position_number

    def laid(self, x: Tensor) -> Tensor:
        """Images in all positions, (pixel, position and image)."""
        images = x.new_zeros(len(x) * x.shape[1], self.plane.height, self.plane.width)
        images[:, *self._part] = x.flatten(0, 1)
        table = torch.stack([_laid(images, position) for position in self.positions])
        return table.flatten(2).permute(2, 0, 1).flatten(1).contiguous()  # or products take several times as long

    def put_back(self, table: Tensor, batch: int) -> Tensor:
        """The adjoint of `laid`: the sum of the positions, (batch, channel, height, width)."""
        images = table.view(self.plane.height, self.plane.width, len(self.positions), -1).permute(2, 3, 0, 1)
        back = torch.stack([_back(each, position) for each, position in zip(images, self.positions, strict=True)])
        return back.sum(0)[:, *self._part].unflatten(0, (batch, -1))

    def sorted_out(self, table: Tensor, batch: int) -> Tensor:
        """Measurements, (batch, channel, angle, detector), from those of all positions, (ray, position and image)."""
        rays = table.view(table.shape[0] * len(self.positions), -1)[self._rays]
        return rays.t().reshape(batch, -1, *self._shape)

    def sorted_in(self, y: Tensor) -> Tensor:
        """The adjoint of `sorted_out`."""
        rows = y.flatten(2).flatten(0, 1).t()
        rays = rows.new_zeros(len(self.bases) * len(self.places) * len(self.positions), rows.shape[1])
        rays[self._rays] = rows  # no two rays have one place
        return rays.view(-1, len(self.positions) * rows.shape[1])


class RayMatrix(NamedTuple):
    """Joseph's sums along the rays of a scan, as a sparse matrix, and its adjoint as another.

    Parameters
    ----------
    scan : FoldedScan
    matrix : Bags or PaddedRows
        pixels ↦ rays.
    adjoint : Bags or PaddedRows
    """

    scan: FoldedScan
    matrix: Bags | PaddedRows
    adjoint: Bags | PaddedRows

    def padded(self) -> "RayMatrix":
        """The same with matrices for programs."""
        parts = [part.padded() if isinstance(part, Bags) else part for part in (self.matrix, self.adjoint)]
        return RayMatrix(self.scan, *parts)

    def integrate(self, x: Tensor) -> Tensor:
        """(batch, channel, height, width) ↦ (batch, channel, angle, detector)."""
        return self.scan.sorted_out(self.matrix @ self.scan.laid(x), len(x))

    def spread(self, y: Tensor) -> Tensor:
        """(batch, channel, angle, detector) ↦ (batch, channel, height, width)."""
        return self.scan.put_back(self.adjoint @ self.scan.sorted_in(y), len(y))


def make_ray_matrix(scan: Scan, plane: Plane, lines: Lines, kind: torch.dtype) -> RayMatrix | None:
    """The matrix of a scan; None if it may be too large (`LARGEST`).

    Parameters
    ----------
    scan : Scan
    plane : Plane
        of the images that are measured.
    lines : callable
        numbers of detectors, of floating point ↦ the angles between their rays and the view, (detector,) or (1,), in
        radians, and the rays' distances from the axis, (detector,), in pixels.
    kind : dtype
        of the values.
    """
    folded = FoldedScan(scan, plane)
    plane, rays = folded.plane, len(folded.bases) * len(folded.places)
    if 4 * rays * max(plane.height, plane.width) * (4 + kind.itemsize) > LARGEST:
        return None
    fan, offset = lines(folded.places.double())
    angle = (_radians(folded.bases).unsqueeze(1) + fan).expand(-1, len(offset)).reshape(-1)
    some, parts = max(1, ENTRIES // (2 * max(plane.height, plane.width))), []
    for angles, offsets in zip(angle.split(some), offset.repeat(len(folded.bases)).split(some), strict=True):
        inside, pixel, weight = _crossings(angles, offsets, plane)
        parts.append((pixel[inside].int(), inside.sum((1, 2)), weight[inside].to(kind)))
    matrix = bags_of(parts)
    return RayMatrix(folded, matrix, transposed(matrix, plane.height * plane.width))


class BackProjection(NamedTuple):
    """What every pixel collects of filtered projections, as a sparse matrix.

    Parameters
    ----------
    scan : FoldedScan
    matrix : Bags or PaddedRows
        rays ↦ pixels.
    """

    scan: FoldedScan
    matrix: Bags | PaddedRows

    def padded(self) -> "BackProjection":
        """The same with a matrix for programs."""
        return BackProjection(self.scan, self.matrix.padded() if isinstance(self.matrix, Bags) else self.matrix)

    def __call__(self, y: Tensor) -> Tensor:
        """(batch, channel, angle, detector) ↦ (batch, channel, height, width)."""
        return self.scan.put_back(self.matrix @ self.scan.sorted_in(y), len(y))


def back_projection(scan: Scan, plane: Plane, seen: Seen, kind: torch.dtype) -> BackProjection | None:
    """The matrix of back-projection with linear interpolation; None if it may be too large (`LARGEST`).

    Parameters
    ----------
    scan : Scan
    plane : Plane
        of the images that are measured.
    seen : callable
        angles, (angle, 1, 1), in radians, and a plane ↦ on which detector each pixel is seen, (angle, height, width),
        counted as in `Scan`, and its weight, that can be broadcast to it.
    kind : dtype
        of the values.
    """
    folded = FoldedScan(scan, plane)
    plane, places = folded.plane, folded.places
    if 2 * len(folded.bases) * plane.height * plane.width * (4 + kind.itemsize) > LARGEST:
        return None
    angle, parts = _radians(folded.bases)[:, None, None], []
    numbers = torch.arange(len(folded.bases))[:, None, None, None] * len(places)
    some = max(1, ENTRIES // (2 * len(folded.bases) * plane.width))
    for first in range(0, plane.height, some):
        rows = plane._replace(height=min(some, plane.height - first), row=plane.row - first)
        place, weight = seen(angle, rows)
        before = place.floor()
        beyond = place - before
        beside = torch.stack((before, before + 1), -1).long()
        weights = torch.stack((1 - beyond, beyond), -1) * weight.unsqueeze(-1)
        inside = (beside >= places[0]) & (beside <= places[-1]) & (weights > 0)
        ray, weights, inside = ((part.movedim(0, 2)) for part in (numbers + beside - places[0], weights, inside))
        parts.append((ray[inside].int(), inside.sum((2, 3)).flatten(), weights[inside].to(kind)))
    return BackProjection(folded, bags_of(parts))


def fold(angles: list[float], mirrored: bool, halved: bool) -> Folding:
    """Every angle as one between 0° and 90° (45° if mirrored) of another position.

    With x to the right, a view from the angle θ of an image is that from θ − 90° of the image turned clockwise by a
    quarter; and that from −θ of the mirrored image, with the detectors in reverse.

    Parameters
    ----------
    angles : list of float
        in degrees.
    mirrored : bool
        positions may be mirrored.
    halved : bool
        a view takes its position and the one turned by half a turn.
    """
    bases: list[float] = []
    near: dict[int, list[int]] = {}
    views, taken = [], set()
    for angle in angles:
        quarters, rest = divmod(angle, 90.0)
        if rest > 90 - ALIKE:
            quarters, rest = quarters + 1, rest - 90
        mirror = mirrored and rest > 45 + ALIKE
        if mirror:
            quarters, rest = quarters + 1, 90 - rest
        position = Position(mirror, int(quarters) % 4)
        slot = position._replace(quarters=position.quarters % 2) if halved else position
        cell = round(rest / ALIKE)
        free = (
            base
            for key in (cell, cell - 1, cell + 1)
            for base in near.get(key, [])
            if abs(bases[base] - rest) <= ALIKE and (base, slot) not in taken
        )
        if (base := next(free, None)) is None:
            base = len(bases)
            bases.append(rest)
            near.setdefault(cell, []).append(base)
        taken.add((base, slot))
        views.append((base, position))
    return Folding(bases, views)


def _square(plane: Plane) -> tuple[Plane | None, tuple[slice, slice]]:
    """The smallest square with the axis in its middle that holds an image, and the part of it that the image is.

    None if the axis is neither in the middle of a pixel nor at a corner.
    """
    half = max(plane.row, plane.height - 1 - plane.row, plane.column, plane.width - 1 - plane.column)
    top, left, side = half - plane.row, half - plane.column, 2 * half + 1
    whole = all(float(number).is_integer() for number in (top, left, side))
    top, left, side = int(top), int(left), int(side)
    part = slice(top, top + plane.height), slice(left, left + plane.width)
    return plane._replace(height=side, width=side, row=half, column=half) if whole else None, part


def _laid(images: Tensor, position: Position) -> Tensor:
    turned = images.rot90(-position.quarters, (-2, -1))
    return turned.flip(-1) if position.mirror else turned


def _back(images: Tensor, position: Position) -> Tensor:
    return (images.flip(-1) if position.mirror else images).rot90(position.quarters, (-2, -1))


def _radians(degrees: list[float]) -> Tensor:
    return torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))


def _crossings(angle: Tensor, offset: Tensor, plane: Plane) -> tuple[Tensor, Tensor, Tensor]:
    """Where rays cross rows or columns, whichever they cross more of: two pixels beside each crossing.

    Parameters
    ----------
    angle, offset : Tensor, (ray,)

    Returns
    -------
    inside : Tensor, (ray, crossing, 2)
        whether there is such a pixel that is measured.
    pixel : Tensor, likewise
        its number.
    weight : Tensor, likewise
    """
    angle, offset = angle.unsqueeze(1), offset.unsqueeze(1)
    cos, sin = angle.cos(), angle.sin()
    rows = cos.abs() >= sin.abs()
    number = torch.arange(max(plane.height, plane.width), dtype=angle.dtype)
    column = plane.column + (offset - (plane.row - number) * sin) / cos
    row = plane.row - (offset - (number - plane.column) * cos) / sin
    place = torch.where(rows, column, row)
    before = place.floor()
    beyond = place - before
    beside = torch.stack((before, before + 1), -1)
    weight = torch.stack((1 - beyond, beyond), -1) / torch.maximum(cos.abs(), sin.abs()).unsqueeze(-1)
    rows, number = rows.unsqueeze(-1), number.unsqueeze(-1)
    row, column = torch.where(rows, number, beside), torch.where(rows, beside, number)
    inside = (row >= 0) & (row < plane.height) & (column >= 0) & (column < plane.width) & (weight > 0)
    inside &= (row - plane.row).square() + (column - plane.column).square() <= plane.reach**2 + 0.1
    return inside, row * plane.width + column, weight
