"""Measurements of a batch of images in a file, one entry after the other."""

from pathlib import Path

from torch import Tensor

from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.reconstruction.many import Asked, Measured
from unrolled.reconstruction.noise_level import level_in, level_of
from unrolled.reconstruction.pipeline import device_of
from unrolled.reconstruction.unit_measurements import measurements_to_unit
from unrolled.system.arrays import read_array
from unrolled.system.scales import UNIT, Range, Scale


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

        def measured(network: UnrolledNetwork | None, operator: LinearOperator) -> Measured:
            y, white = measurements_to_unit(self.part(index), operator, device_of(network, operator), scale)
            span = UNIT if scale is None else Range(0.0, float(white), True)
            stated = None if noise_level is None else level_of(noise_level) / float(white)
            level = level_in(y, operator, network, stated)
            told = None if level is None else float(level)
            return Measured(y, size, span, None, magnitude, scale == "max", told)

        return Asked(self.name if self.count == 1 else f"{self.name} {index}", measured)
