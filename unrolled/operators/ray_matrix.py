"""Sums along rays as a sparse matrix, kept as small as the symmetry of the scan allows.

Turned by quarters and mirrored, an image shows at one angle the rays that it had at others. So the matrix has one of
those angles, and is applied to the image in all its positions at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.operators.rays import Plane

LARGEST = 2**30
"""No matrix is made that may take more bytes, with its adjoint."""

ENTRIES = 2**17
"""So many entries are looked at at once while it is made."""

ALIKE = 2e-5
"""Angles that differ by less are one, in degrees: single precision does not tell them apart around 180."""

Lines = Callable[[Tensor], tuple[Tensor, Tensor]]


class Scan(NamedTuple):
    """From where an image is seen.

    Parameters
    ----------
    angles : list of float
        of the views, in degrees.
    detectors : Tensor, (detector,), of whole numbers
        counted from the one that the axis falls on.
    lines : callable
        numbers of detectors, of floating point ↦ the angles between their rays and the view, (detector,) or (1,), in
        radians, and the rays' distances from the axis, (detector,), in pixels.
    mirrored : bool
        the rays of the detectors i and −i mirror each other.
    parallel : bool
        half a turn reverses rays.
    """

    angles: list[float]
    detectors: Tensor
    lines: Lines
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


class Bags(NamedTuple):
    """A sparse matrix by rows, as `embedding_bag` takes it: numbers of columns, where rows begin, and values."""

    columns: Tensor
    begins: Tensor
    values: Tensor

    def __matmul__(self, table: Tensor) -> Tensor:
        return F.embedding_bag(
            self.columns, table, self.begins, mode="sum", per_sample_weights=self.values, include_last_offset=True
        )


class RayMatrix:
    """Joseph's sums along the rays of a scan, as a sparse matrix, and its adjoint as another.

    Parameters
    ----------
    matrix : Bags
        pixels of an image ↦ rays of the bases.
    adjoint : Bags
    plane : Plane
        of that image.
    part : tuple of slice
        its rows and columns that are measured; there are zeros around.
    positions : list of Position
        to all of which it is applied.
    rays : Tensor, (angle, detector)
        where each ray is found among (ray, position).
    """

    def __init__(
        self,
        matrix: Bags,
        adjoint: Bags,
        plane: Plane,
        part: tuple[slice, slice],
        positions: list[Position],
        rays: Tensor,
    ):
        self.matrix, self.adjoint, self.plane, self.part = matrix, adjoint, plane, part
        self.positions, self.rays = positions, rays

    def integrate(self, x: Tensor) -> Tensor:
        """(batch, channel, height, width) ↦ (batch, channel, angle, detector)."""
        images = x.new_zeros(len(x) * x.shape[1], self.plane.height, self.plane.width)
        images[:, *self.part] = x.flatten(0, 1)
        table = torch.stack([_laid(images, position) for position in self.positions])
        sums = self.matrix @ table.flatten(2).permute(2, 0, 1).flatten(1).contiguous()  # several times as fast
        sums = sums.view(-1, len(images))[self.rays.flatten()]
        return sums.t().reshape(*x.shape[:2], *self.rays.shape)

    def spread(self, y: Tensor) -> Tensor:
        """The adjoint: (batch, channel, angle, detector) ↦ (batch, channel, height, width)."""
        rows = y.flatten(2).flatten(0, 1).t()
        sums = rows.new_zeros((len(self.matrix.begins) - 1) * len(self.positions), rows.shape[1])
        sums[self.rays.flatten()] = rows  # no two rays have one place
        table = self.adjoint @ sums.view(-1, len(self.positions) * rows.shape[1])
        table = table.view(self.plane.height, self.plane.width, len(self.positions), -1).permute(2, 3, 0, 1)
        images = torch.stack([_back(each, position) for each, position in zip(table, self.positions, strict=True)])
        return images.sum(0)[:, *self.part].unflatten(0, y.shape[:2])


def ray_matrix(scan: Scan, plane: Plane, kind: torch.dtype) -> RayMatrix | None:
    """The matrix of a scan; None if it may be too large (`LARGEST`).

    Parameters
    ----------
    scan : Scan
    plane : Plane
        of the images that are measured.
    kind : dtype
        of the values.
    """
    square, part = _square(plane)
    halved = square is not None and scan.parallel and scan.mirrored
    positions = [Position(False, 0), Position(False, 2)][: 1 + int(halved)]
    folding = Folding(scan.angles, [(number, positions[0]) for number in range(len(scan.angles))])
    if square is not None:
        smaller = fold(scan.angles, scan.mirrored, halved)
        if 2 * len(smaller.bases) <= len(scan.angles):  # otherwise there would be many positions, for few views each
            folding = smaller
            positions = [Position(mirror, turns) for mirror in (False, True)[: 1 + scan.mirrored] for turns in range(4)]
    if square is None or len(positions) == 1:
        square, part = plane, (slice(plane.height), slice(plane.width))
    places = scan.detectors
    if scan.mirrored:
        most = int(places.abs().max())
        places = torch.arange(0 if halved else -most, most + 1)
    most = 2 * len(folding.bases) * len(places) * max(square.height, square.width)
    if 2 * most * (4 + kind.itemsize) > LARGEST:
        return None
    matrix = _matrix(folding.bases, scan.lines(places.double()), square, kind)
    adjoint = _transposed(matrix, square.height * square.width)
    return RayMatrix(matrix, adjoint, square, part, positions, _rays(folding, positions, scan.detectors, places))


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


def _rays(folding: Folding, positions: list[Position], detectors: Tensor, places: Tensor) -> Tensor:
    """Where each ray is found, (angle, detector), among (base, place, position)."""
    halved = len(positions) > 1 and bool((places >= 0).all())
    bases, laid = zip(*folding.views, strict=True)
    base = torch.tensor(bases).unsqueeze(1)
    mirror, quarters = (torch.tensor(numbers).unsqueeze(1) for numbers in zip(*laid, strict=True))
    place = torch.where(mirror, -detectors, detectors)
    if halved:
        quarters, place = torch.where(place < 0, (quarters + 2) % 4, quarters), place.abs()
    numbers = torch.zeros(2, 4, dtype=torch.int64)
    for number, position in enumerate(positions):
        numbers[int(position.mirror), position.quarters] = number
    number_of_position = numbers[mirror.long(), quarters]
    return (base * len(places) + place - places[0]) * len(positions) + number_of_position


def _laid(images: Tensor, position: Position) -> Tensor:
    turned = images.rot90(-position.quarters, (-2, -1))
    return turned.flip(-1) if position.mirror else turned


def _back(images: Tensor, position: Position) -> Tensor:
    return (images.flip(-1) if position.mirror else images).rot90(position.quarters, (-2, -1))


def _matrix(bases: list[float], lines: tuple[Tensor, Tensor], plane: Plane, kind: torch.dtype) -> Bags:
    fan, offset = lines
    angle = (torch.deg2rad(torch.tensor(bases, dtype=torch.float64)).unsqueeze(1) + fan).expand(-1, len(offset))
    columns, counts, values = [], [torch.zeros(1, dtype=torch.int64)], []
    rays, some = angle.reshape(-1), max(1, ENTRIES // (2 * max(plane.height, plane.width)))
    for angles, offsets in zip(rays.split(some), offset.repeat(len(bases)).split(some), strict=True):
        inside, pixel, weight = _crossings(angles, offsets, plane)
        counts.append(inside.sum((1, 2)))
        columns.append(pixel[inside].int())
        values.append(weight[inside].to(kind))
    return Bags(torch.cat(columns), torch.cat(counts).cumsum(0).int(), torch.cat(values))


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


def _transposed(matrix: Bags, columns: int) -> Bags:
    from scipy.sparse import csr_array

    shape = len(matrix.begins) - 1, columns
    parts = (part.numpy() for part in (matrix.values, matrix.columns, matrix.begins))
    turned = csr_array(tuple(parts), shape=shape).tocsc()
    return Bags(*(torch.from_numpy(part) for part in (turned.indices, turned.indptr, turned.data)))
