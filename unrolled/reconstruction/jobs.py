"""Many images from files to files: what is written where is settled, and refused, before anything is reconstructed."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unrolled.data.images import SUFFIXES
from unrolled.data.volumes import find_volumes
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator, OperatorDraw
from unrolled.reconstruction.many import (
    Asked,
    Reconstruction,
    ask_found,
    reconstruct_each,
    worth_compiling,
)
from unrolled.reconstruction.measurement_entries import MeasurementFile, ask_picture
from unrolled.reconstruction.noise_level import StatedNoise
from unrolled.reconstruction.outputs import ENDINGS, Output, Unwritable, ending_of
from unrolled.reconstruction.result_table import FAILED, WRITTEN, Row, row_of
from unrolled.system.files import as_path, check_writable
from unrolled.system.scales import Scale, as_scale
from unrolled.weights.chosen import typical

MEASUREMENTS = (".npy", ".mat", ".h5", ".hdf5")
"""Files of a folder that are taken for measurements."""


@dataclass
class Source:
    """A file of images or of measurements, or a series.

    Parameters
    ----------
    path, place : Path
        of the input, and of the output without an ending below the folder for outputs.
    name : str
        of the input, below its folder.
    ending : str
        of the output by default.
    asked : list of Asked
    is_complex : bool
        whether the images are.
    affine : array (4, 4), optional
        where a volume is in space.
    error : str
        why it cannot be read.
    """

    path: Path
    place: Path
    name: str
    ending: str
    asked: list[Asked] = field(default_factory=list)
    is_complex: bool = False
    affine: Any = None
    error: str = ""


@dataclass
class Job:
    """A file that is to be written, and what it is made of: all images of a source, one of them, or all of several.

    Parameters
    ----------
    target : Path
    output : Output
    sources : list of Source
    asked : list of Asked
    """

    target: Path
    output: Output
    sources: list[Source]
    asked: list[Asked]

    @property
    def name(self) -> str:
        return self.asked[0].name if len(self.asked) == 1 else self.sources[0].name

    @property
    def error(self) -> str:
        return next((source.error for source in self.sources if source.error), "")


def image_sources(
    path: str | Path,
    key: str | None,
    color: bool,
    scale: Scale | None,
    magnitude: bool | None,
    noise: StatedNoise | None = None,
) -> list[Source]:
    """The images of a file or of a folder, see `unrolled.data.volumes.find_volumes`."""
    sources = []
    for found in find_volumes(path, key, color, scale):
        source = Source(
            found.path, found.place, found.name, found.ending, ask_found(found, magnitude, noise), error=found.error
        )
        if found.volume is not None:
            source.affine = found.volume.affine
            source.is_complex = magnitude is not True and any(image.is_complex for image in found.volume.images)
        sources.append(source)
    return sources


def measurement_sources(
    path: str | Path,
    chosen: LinearOperator | OperatorDraw,
    size: tuple[int, int] | None,
    scale: Scale | None,
    magnitude: bool,
    noise_level: float | None = None,
    color: bool = False,
) -> list[Source]:
    """The measurements of a file, or of all files of a folder, of which some may be pictures."""
    path = as_path("measured", path)
    paths = [path]
    if path.is_dir():
        kinds = (*MEASUREMENTS, *SUFFIXES)
        paths = sorted(
            each for each in path.rglob("*") if each.suffix.lower() in kinds and not each.name.startswith(".")
        )
        if not paths:
            raise ValueError(f"measured: {path} holds no measurements ({', '.join(kinds)})")
    root, sources = path if path.is_dir() else path.parent, []
    for each in paths:
        name = each.relative_to(root)
        shown = each.suffix.lower() in SUFFIXES
        source = Source(each, name.with_suffix(""), str(name), each.suffix.lower() if shown else ".npy")
        try:
            if shown:
                source.asked = [ask_picture(each, str(name), size, scale, color, noise_level)]
            else:
                file = MeasurementFile(each, str(name))
                source.asked = [file.ask(index, size, scale, magnitude, noise_level) for index in range(file.count)]
                source.is_complex = typical(chosen).complex_images and not magnitude
        except (ValueError, OSError) as error:
            source.error = str(error)
        sources.append(source)
    return sources


def plan(
    sources: Sequence[Source],
    inputs: str | Path,
    out: str | Path,
    format: str | None = None,
    bits: int = 0,
    color: bool = False,
    scale: Scale | None = None,
) -> list[Job]:
    """Which files are to be written.

    Parameters
    ----------
    sources : list of Source
    inputs : str or Path
        the file or folder that they were found in.
    out : str or Path
        a file, if its name has one of `ENDINGS`: it holds all images. Otherwise a folder, which gets a file for each
        source, or for each image where a file holds only one; subfolders are those of the input.
    format : str, optional
        the ending of files in a folder; by default that of the input, but PNG of photographs, NIfTI of DICOM and NumPy
        of measurements.
    bits : int
        see `Output`.
    color, scale
        of the images, as in `unrolled.reconstruct`.

    Raises
    ------
    ValueError
        if files of these endings do not hold such images, two would have one name, or they would lie in the folder of
        the inputs.
    """
    out, inputs, scale = as_path("out", out), as_path("images", inputs), as_scale("scale", scale)
    if inputs.is_dir() and inputs.resolve() in (out.resolve(), *out.resolve().parents):
        raise ValueError(
            f"out: {out} lies in {inputs}, where it would be taken for an input next time; choose another place"
        )
    if names_a_file(out):
        if ending_of(out) not in ENDINGS:
            raise ValueError(
                f"out: {out} must end in one of {', '.join(ENDINGS)}, or be a folder that is there or has no dot in "
                "its name"
            )
        if format is not None:
            raise ValueError(f"format: is for files in a folder, and {out} names one by its ending")
        jobs = [_in_one_file(sources, out, Output(ending_of(out), bits))]
    else:
        jobs = [job for source in sources for job in _in_files(source, out, format, bits)]
    made: dict[Path, str] = {}
    for job in jobs:
        for source in job.sources:
            job.output.check(str(source.path), color, source.is_complex, scale)
        if job.target in made:
            raise ValueError(
                f"out: {made[job.target]} and {job.sources[0].path} would both become {job.target}; rename one of them"
            )
        made[job.target] = str(job.sources[0].path)
    return jobs


def names_a_file(out: Path) -> bool:
    """Whether an output is a file, by its ending, and not a folder that is there or whose name has no ending."""
    return bool(out.suffix) and not out.is_dir()


def is_picture(out: Path, format: str | None, bits: int) -> bool:
    """Whether an output of measurements shows them, and does not hold numbers of floating point."""
    ending = ending_of(out) if names_a_file(out) else f".{(format or 'npy').lstrip('.').lower()}"
    return Output(ending, bits).bits != 32


def _in_one_file(sources: Sequence[Source], out: Path, output: Output) -> Job:
    """All images in one file."""
    if broken := next((source for source in sources if source.error), None):
        raise ValueError(broken.error)
    asked = [each for source in sources for each in source.asked]
    if len(asked) > 1 and not output.stacks:
        stacks = ", ".join(ending for ending, each in ENDINGS.items() if each.stacks)
        raise ValueError(f"out: {out} holds one image, and there are {len(asked)}; give a folder, or one of {stacks}")
    shapes = {each.shape for each in asked if each.shape is not None}
    if len(shapes) > 1:
        raise ValueError(
            f"out: images in one file must have one shape, and these have {len(shapes)}, such as "
            f"{' and '.join(map(str, sorted(shapes)[:2]))}; give a folder"
        )
    return Job(out, output, list(sources), asked)


def _in_files(source: Source, out: Path, format: str | None, bits: int) -> Iterator[Job]:
    """The images of a source in one file of a folder, or in one for each."""
    output = Output(source.ending if format is None else f".{format.lstrip('.').lower()}", bits)
    stem = out / source.place
    if output.stacks or len(source.asked) < 2:
        yield Job(stem.with_name(stem.name + output.ending), output, [source], source.asked)
        return
    digits = max(3, len(str(len(source.asked) - 1)))
    for number, asked in enumerate(source.asked):
        yield Job(stem.with_name(f"{stem.name}-{number:0{digits}}{output.ending}"), output, [source], [asked])


def check_targets(jobs: Sequence[Job], out: Path, skip: bool, overwrite: bool) -> list[int]:
    """Which jobs are to be done: without `skip` all of them. Nothing is left behind but folders.

    Parameters
    ----------
    jobs : list of Job
    out : Path
        as it was named: a file that is named may be replaced.
    skip : bool
        leave files as they are that are there.
    overwrite : bool
        replace files that are there, in a folder too.

    Raises
    ------
    ValueError
        if files cannot be written, are inputs, or are there and neither to be left nor to be replaced.
    """
    if skip and overwrite:
        raise ValueError("give --skip-existing or --overwrite, one of them")
    there = {number for number, job in enumerate(jobs) if os.path.lexists(job.target)}
    if there and not (skip or overwrite or names_a_file(out)):
        raise ValueError(
            f"out: {len(there)} of {len(jobs)} files are there already, such as {jobs[min(there)].target}; give "
            "--skip-existing, or --overwrite to replace them"
        )
    inputs = {
        (status.st_dev, status.st_ino): source.path
        for source in {id(source): source for job in jobs for source in job.sources}.values()
        if (status := _status(source.path)) is not None
    }
    checked = set[Path]()
    for number, job in enumerate(jobs):
        if number in there:
            status = _status(job.target)
            if status is not None and (status.st_dev, status.st_ino) in inputs:
                raise ValueError(f"cannot write {job.target}: it is an input")
            if skip:
                continue
        if number in there or job.target.parent not in checked:
            check_writable(job.target)
            checked.add(job.target.parent)
    return [number for number in range(len(jobs)) if not (skip and number in there)]


def _status(path: Path) -> os.stat_result | None:
    with suppress(OSError):
        return path.stat()
    return None


def work(
    jobs: Sequence[Job],
    rows: list[Row],
    network: UnrolledNetwork,
    operator: LinearOperator | OperatorDraw,
    *,
    stopped: Callable[[], int] = lambda: 0,
    progress: bool = False,
    **how: Any,
) -> None:
    """Do jobs: read, reconstruct and write, and note what became of every image. What fails is noted, the rest done.

    Parameters
    ----------
    jobs : list of Job
    rows : list
        a row for each image is added when its file is written, or one for what failed.
    network, operator
    stopped : callable
        asked before every image; once it returns a number that is not 0, the images that were read are finished.
    progress : bool
    **how
        tile, bfloat16 and compile, as in `unrolled.reconstruct`.

    Raises
    ------
    ValueError
        if a file cannot be written, as on a full disk.
    """
    owners, failed, made = deque[int](), set[int](), dict[int, list[Reconstruction]]()

    def asked() -> Iterator[Asked | Reconstruction]:
        for number, job in enumerate(jobs):
            for each in [Reconstruction(job.name, job.error)] if job.error else job.asked:
                if stopped():
                    return
                if number not in failed:  # a file lacks nothing, so one slice that fails is enough
                    owners.append(number)
                    yield each

    if how.get("compile") is None:
        every = (each for job in jobs for each in job.asked)
        how["compile"] = worth_compiling(every, network, operator, how.get("bfloat16", False))
    total = sum(max(1, len(job.asked)) for job in jobs)
    with tqdm(total=total, disable=None if progress else True, unit="image", leave=False) as bar:
        for found in reconstruct_each(asked(), network, operator, **how):
            number = owners.popleft()
            job = jobs[number]
            bar.update()
            if number in failed:
                continue
            slices = made.setdefault(number, [])
            slices.append(found)
            sizes = {each.unit.shape for each in slices if each.unit is not None}
            if not found.error and len(sizes) > 1:
                found.error = f"images in one file must have one shape, got {sorted(map(tuple, sizes))}"
            if not found.error and len(slices) == len(job.asked):
                try:
                    _write(job, slices)
                except Unwritable as error:
                    found.error = str(error)
                else:
                    rows += [row_of(each, job.target, WRITTEN) for each in made.pop(number)]
            if found.error:
                failed.add(number)
                made.pop(number)
                rows.append(row_of(found, job.target, FAILED))


def _write(job: Job, slices: list[Reconstruction]) -> None:
    images = [each.unit for each in slices if each.unit is not None]
    affine = job.sources[0].affine if len(job.sources) == 1 else None
    job.output.write(job.target, images, [each.span for each in slices], affine)
