"""Measurements of a batch of images in a file, one entry after the other."""

from pathlib import Path

from torch import Tensor

from unrolled.data.unit_images import single_to_unit
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator, OperatorDraw
from unrolled.operators.noise_estimation import PICTURES
from unrolled.operators.unit_measurements import measurements_to_unit
from unrolled.reconstruction.many import Asked, Measured
from unrolled.reconstruction.noise_level import level_in, level_of
from unrolled.reconstruction.pipeline import device_of
from unrolled.system.arrays import read_array
from unrolled.system.scales import UNIT, Range, Scale
from unrolled.weights.chosen import operator_for_sides, typical


class MeasurementFile:
    """Measurements of a batch of images in a file, see `unrolled.system.arrays.read_array`.

    Parameters
    ----------
    path : Path
        read here for their number, and again when the first of them is asked for, until the last one was.
    name : str
    """

    def __init__(self, path: Path, name: str):
        self.path, self.name, self.kept = path, name, read_array(path)
        self.count = len(self.kept) if self.kept.ndim else 0
        if self.count < 1:
            raise ValueError(f"measurements: {path} must be of a batch of images, is {tuple(self.kept.shape)}")
        del self.kept

    def part(self, index: int) -> Tensor:
        """The measurements of one image, (1, …)."""
        if not hasattr(self, "kept"):
            self.kept = read_array(self.path)
        part = self.kept[index : index + 1].clone()
        if index == self.count - 1:
            del self.kept
        return part

    def ask(
        self,
        index: int,
        size: tuple[int, int] | None,
        scale: Scale | None,
        magnitude: bool,
        noise_level: float | None = None,
    ) -> Asked:
        """The image of one entry of the batch, to be reconstructed.

        Parameters
        ----------
        index : int
        size, scale
            as in `reconstruct`.
        magnitude : bool
            of complex reconstructions their magnitude.
        noise_level : float, optional
            of the measurements, in their units; by default it is estimated for networks that take it.
        """

        def measured(network: UnrolledNetwork | None, chosen: LinearOperator | OperatorDraw) -> Measured:
            part, place = self.part(index), device_of(network, typical(chosen))
            operator = operator_for_sides(_sides(part, size), index, chosen, place)
            y, white = measurements_to_unit(part, operator, place, scale)
            span = UNIT if scale is None else Range(0.0, float(white), True)
            stated = None if noise_level is None else level_of(noise_level) / float(white)
            level = level_in(y, operator, network, stated)
            told = None if level is None else float(level)
            return Measured(y, operator, size, span, None, magnitude, scale == "max", told)

        return Asked(self.name if self.count == 1 else f"{self.name} {index}", measured)


def ask_picture(
    path: Path,
    name: str,
    size: tuple[int, int] | None,
    scale: Scale | None,
    color: bool,
    noise_level: float | None = None,
) -> Asked:
    """The image of a picture that was measured: blurred, made smaller, noisy or with holes.

    Parameters
    ----------
    path : Path
    name : str
    size, scale, color
        as in `reconstruct`.
    noise_level : float, optional
        of the picture, in which white is 1; by default it is estimated for networks that take it.
    """

    def measured(network: UnrolledNetwork | None, chosen: LinearOperator | OperatorDraw) -> Measured:
        image, span = single_to_unit("measured", path, scale, color)
        place = device_of(network, typical(chosen))
        operator = operator_for_sides(_sides(image, size), 0, chosen, place)
        if not isinstance(operator, PICTURES):
            raise ValueError(
                f"measured: {path} is a picture, which {type(operator).__name__} does not give; name the --operator "
                f"that it was measured by, such as {', '.join(kind.__name__ for kind in PICTURES)}"
            )
        y = image.unsqueeze(0).to(place)
        level = level_in(y, operator, network, None if noise_level is None else level_of(noise_level))
        return Measured(y, operator, size, span, None, True, level=None if level is None else float(level))

    return Asked(name, measured)


def _sides(measured: Tensor, size: tuple[int, int] | None) -> tuple[int, int]:
    """Of an image whose measurements have these sides, where nobody says its own."""
    if size is not None or measured.ndim < 2:
        return size or (1, 1)
    return measured.shape[-2], measured.shape[-1]
