"""The four problems: what is measured of which images, and what is held out to choose by."""

import shutil
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor

from benchmarks.comparison.cases import Case
from unrolled.data import ImageData, RandomCrops
from unrolled.data.crops import crop_sides
from unrolled.data.kspace_slices import MAPS, KSpaceSlices, Volume, open_volumes
from unrolled.data.measured import MeasuredBatches
from unrolled.data.sources import cut
from unrolled.data.stores import ImageStore, to_float
from unrolled.networks import ConjugateGradientStart, LinearStart, Start, UnrolledNetwork
from unrolled.operators import (
    BlockCompressedSensing,
    Blur,
    CartesianMask,
    GaussianNoise,
    LinearOperator,
    Noise,
    PhotonNoise,
    Radon,
)
from unrolled.operators.units import image_scale, over
from unrolled.reconstruction.evaluation import named_images
from unrolled.reconstruction.pipeline import measure, picture
from unrolled.reconstruction.simulated_kspace import simulate_kspace
from unrolled.system.scales import Scale
from unrolled.training.kspace_data import KSpaceData
from unrolled.training.tasks.from_measurements import MeasuredTask, kspace_operator_of, middle_like
from unrolled.training.tasks.reconstruction import ReconstructionTask
from unrolled.training.tasks.task import Task

Paths = dict[str, str]
SEED = 0
"""Of first weights, crops, masks and what is held out, the same for all networks."""

WHITE = 0.08142
"""μ of 3071 Hounsfield units, per mm, as in configs/ct."""


@dataclass
class Problem(ABC):
    """A problem that all networks are trained for, with batches of one size.

    Parameters
    ----------
    title, setting : str
        of the page.
    paths : dict
        of the data.
    batch : int
        images of a step of training.
    pictured : int
        which test image is shown.
    """

    title: str
    setting: str
    paths: Paths
    batch: int
    pictured: int = 0
    start: Callable[[], Start] = LinearStart
    complex_images = False

    @abstractmethod
    def prepare(self) -> None:
        """Make what training reads, once, or see that it is there."""

    @abstractmethod
    def task(self, network: UnrolledNetwork) -> Task:
        """The training of a network, which is validated on what is held out."""

    @abstractmethod
    def held_out(self) -> list[Case]:
        """Training images that nothing is trained on, to tune strengths by."""

    @abstractmethod
    def test(self) -> list[Case]:
        """The test images."""


@dataclass
class OfImages(Problem):
    """A problem whose images are measured by one operator as they are drawn.

    Parameters
    ----------
    make : function of the paths
        the operator.
    noise : Noise, optional
    train : names of paths
        of the training images; those of the test images have the name `tested`.
    tested : str
    hold_out, crop, scale
        as in `ImageData`.
    """

    make: Callable[[Paths], LinearOperator] = lambda paths: BlockCompressedSensing(0.25)
    noise: Noise | None = None
    train: tuple[str, ...] = ("t91", "bsd400")
    tested: str = "set11"
    hold_out: int = 8
    crop: int = 66
    scale: Scale | None = None

    @cached_property
    def operator(self) -> LinearOperator:
        """The operator, fitted to the training images if it can be."""
        made = self.make(self.paths)
        if not made.fitted:
            made.fit_images(self.images[0].spread())
        return made

    @cached_property
    def images(self) -> tuple[ImageStore, list[Tensor]]:
        """Those to train on and those that are held out."""
        multiple, size, crop = self._sizes
        train = [self.paths[name] for name in self.train]
        return ImageData(train, hold_out=self.hold_out, crop=crop, scale=self.scale).load(multiple, SEED, size)

    @property
    def _sizes(self) -> tuple[int, tuple[int, int] | None, tuple[int, int]]:
        """Of what sides have to be multiples, the only size if there is one, and that of crops."""
        made = self.make(self.paths)
        size = None if made.image_shape is None else (made.image_shape[1], made.image_shape[2])
        return made.multiple, size, crop_sides(self.crop if size is None else None, made.multiple, size)

    def prepare(self) -> None:
        self.held_out()
        self.test()

    def task(self, network: UnrolledNetwork) -> Task:
        multiple, size, crop = self._sizes
        training, held_out = self.images
        crops = RandomCrops(training, crop, SEED)
        validation = cut(held_out, multiple, exactly=size)
        return ReconstructionTask(network, self.operator, crops, validation, noise=self.noise, seed=SEED)

    def held_out(self) -> list[Case]:
        return [self._case(f"held out {index}", image, index) for index, image in enumerate(self.images[1])]

    def test(self) -> list[Case]:
        pairs = named_images(self.paths[self.tested], self.scale)
        return [self._case(name, to_float(image.read()), index) for index, (name, image) in enumerate(pairs)]

    def _case(self, name: str, image: Tensor, index: int) -> Case:
        truth = image.clamp(0, 1)[None]
        size = (truth.shape[-2], truth.shape[-1])
        y = measure(truth, None, self.operator, self.noise, index)
        return Case(name, y, self.operator, truth, 1.0, lambda found: picture(found, size))


@dataclass
class OfKSpace(Problem):
    """Simulated k-space of several coils, of which every step draws other columns.

    Maps are estimated once, each from the middle of what its slice's own mask samples.
    """

    noise: float = 0.005
    coils: int = 8
    slices: int = 8
    keys: tuple[str | None, ...] = (None,)
    mask: CartesianMask = field(default_factory=lambda: CartesianMask(4, center=0.08))
    complex_images = True

    @property
    def _folder(self) -> Path:
        return Path(self.paths["out"]) / "kspace"

    def prepare(self) -> None:
        if self._folder.exists():
            return
        partial = self._folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        for split, seed in (("train", 0), ("test", 1)):
            for key in self.keys:
                how: dict[str, Any] = {"coils": self.coils, "noise": self.noise, "slices": self.slices, "key": key}
                simulate_kspace(self.paths[f"complex_{split}"], partial / split, **how, seed=seed, progress=False)
            self._write_maps(partial / split, partial / "maps")
        partial.rename(self._folder)

    def _write_maps(self, volumes: Path, out: Path) -> None:
        samples = self._validated(volumes, None)
        maps = defaultdict(list)
        for index, (volume, number) in sorted(enumerate(samples.slices), key=lambda item: item[1][1]):
            found = samples.sample(index).maps
            assert found is not None, f"slice {number} of {volume.path} has one coil"
            maps[volume.path.name].append(found[0])
        out.mkdir(exist_ok=True)
        for name, each in maps.items():
            with h5py.File(out / name, "w") as file:
                file[MAPS] = torch.stack(each).numpy()

    def _data(self, maps: str | None) -> KSpaceData:
        train = [str(self._folder / "train")]
        return KSpaceData(train, mask=self.mask, maps=maps, validation_slices=self.slices)

    def _validated(self, volumes: Path, maps: Path | None) -> KSpaceSlices:
        """All slices of volumes, each with a mask of its own."""
        data = self._data(None if maps is None else str(maps))
        data.validation_slices = 2**30
        return data.validated(open_volumes([volumes], maps=maps))

    def task(self, network: UnrolledNetwork) -> Task:
        training, held_out = self._loaded
        operator = self._data(None).operator_like(training.sample(0))
        return MeasuredTask(network, operator, MeasuredBatches(training, SEED), held_out)

    @cached_property
    def _loaded(self) -> tuple[KSpaceSlices, KSpaceSlices]:
        return self._data(str(self._folder / "maps")).load(SEED)

    def held_out(self) -> list[Case]:
        return self._cases(self._loaded[1])

    def test(self) -> list[Case]:
        return self._cases(self._validated(self._folder / "test", self._folder / "maps"))

    def _cases(self, samples: KSpaceSlices) -> list[Case]:
        found = []
        for index, (volume, number) in enumerate(samples.slices):
            measured, truth = samples.sample(index), samples.shown(index)
            assert truth is not None
            operator = kspace_operator_of(measured)
            scale = image_scale(measured.y, operator)
            shown = _Shown(scale, truth)
            name = f"{_words(volume)}, slice {number}"
            found.append(Case(name, measured.y / over(scale, measured.y), operator, truth, float(truth.max()), shown))
        return found


class _Shown:
    """The magnitude in the units of the data, of the size of the truth."""

    def __init__(self, scale: Tensor, truth: Tensor):
        self.scale, self.truth = scale, truth

    def __call__(self, found: Tensor) -> Tensor:
        return middle_like(over(self.scale, found) * found, self.truth).abs()


def _words(volume: Volume) -> str:
    return volume.path.stem


def _with_conjugate_gradients() -> Start:
    """As configs/kspace starts."""
    return ConjugateGradientStart(iterations=10, ridge=0.003)


NEEDED = {
    "cs": ("t91", "bsd400", "set11"),
    "mri": ("complex_train", "complex_test"),
    "ct": ("ct_train", "ct_test"),
    "deblur": ("bsd400", "set11", "kernels"),
}
"""The problems, and the data that each needs."""


def problem(name: str, paths: Paths) -> Problem:
    """A problem by its name, on data that lie at these paths."""
    if name == "cs":
        return OfImages(
            "Compressive sensing",
            "25 % of random orthonormal measurements of blocks of 33×33; crops of 66×66, eight a step, of T91 and "
            "BSD400; tested on Set11",
            paths,
            batch=8,
            pictured=2,
        )
    if name == "deblur":
        return OfImages(
            "Deblurring",
            "the fourth motion kernel of Levin and others, 27×27, noise of σ = 2.55/255; crops of 96×96, four a step, "
            "of BSD400; tested on Set11",
            paths,
            batch=4,
            pictured=2,
            make=lambda paths: Blur(f"{paths['kernels']}{{4}}"),
            noise=GaussianNoise(0.01),
            train=("bsd400",),
            crop=96,
        )
    if name == "ct":
        return OfImages(
            "Computed tomography",
            "60 parallel beams over half a turn, 10,000 photons a detector, slices of the lung of 256×256 as "
            "attenuation, one a step; tested on patients that are not trained on; PSNR's peak is 4071 Hounsfield units",
            paths,
            batch=1,
            pictured=4,
            make=lambda paths: Radon(60, 256, 256, pixel_size=1.4, sums="joseph"),
            noise=PhotonNoise(10000, white=WHITE),
            train=("ct_train",),
            tested="ct_test",
            scale="hu",
        )
    if name == "mri":
        return OfKSpace(
            "Magnetic resonance of several coils",
            "k-space of eight coils simulated from complex images of hearts and livers, with noise; every fourth "
            "column on average with the middle 8 %, drawn anew in every step; ESPIRiT's maps; one slice a step; "
            "tested on people that are not trained on; PSNR's peak is the largest value of each slice",
            paths,
            batch=1,
            pictured=3,
            keys=("images_256x192", "images_256x256"),
            start=_with_conjugate_gradients,
        )
    raise ValueError(f"problems: must be among {', '.join(NEEDED)}, got {name!r}")
