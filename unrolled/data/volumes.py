"""What is in a file or in a folder: photographs, sets of images in HDF5, volumes and series of scanners."""

from dataclasses import dataclass
from pathlib import Path

from unrolled.data import dicom, hdf5, images, nifti
from unrolled.data.slices import Volume
from unrolled.data.stores import FileImage, StoredImage
from unrolled.system.files import as_path
from unrolled.system.scales import Scale

PACKED = ".gz"

MEDICAL = {"NIfTI", "DICOM"}
"""Kinds of files that have volumes."""


@dataclass
class Found:
    """A photograph, or images that belong together.

    Parameters
    ----------
    path : Path
        the file, or the folder of a series.
    place : Path
        its name without an ending, below the folder that was looked into.
    ending : str
        of a file that can hold the like: the same, but PNG for photographs and NIfTI for DICOM.
    single : bool
        whether it is one image by itself, not one of a volume.
    volume : Volume, or None
        None if it cannot be read.
    error : str
        why not.
    """

    path: Path
    place: Path
    ending: str
    single: bool
    volume: Volume | None = None
    error: str = ""

    @property
    def name(self) -> str:
        """The name of the file, or of the folder of a series, below the folder that was looked into."""
        return str(self.place if self.path.is_dir() else self.place.parent / self.path.name)

    def name_of(self, image: StoredImage) -> str:
        """That of one of the images."""
        return str((self.place if self.path.is_dir() else self.place.parent) / image.name)


def find_volumes(
    source: str | Path, key: str | None = None, color: bool = False, scale: Scale | None = None
) -> list[Found]:
    """What is in a file, or in a folder and its subfolders, sorted by name; what is broken is there with its error.

    Files are told by their endings, DICOM also by its mark; hidden ones are left out. Slices of DICOM in one folder
    make up a volume, or several if they are of several series.

    Parameters
    ----------
    source : str or Path
    key : str, optional
        of the images in HDF5 files, see `unrolled.data.hdf5.hdf5_images`.
    color, scale
        as in `read_image`.

    Raises
    ------
    ValueError
        if there is no such file or folder, or nothing in it.
    """
    source = as_path("images", source)
    if source.is_dir():
        paths = [
            path
            for path in sorted(source.rglob("*"))
            if not path.name.startswith(".") and not path.is_dir() and kind_of_file(path)
        ]
    elif source.exists() or source.is_symlink():
        paths = [source]
    else:
        raise ValueError(f"images: there is no file or folder {source}")
    if not paths:
        endings = ", ".join((*images.SUFFIXES, *hdf5.SUFFIXES, *nifti.SUFFIXES, *dicom.SUFFIXES))
        raise ValueError(f"images: {source} holds no images ({endings})")
    root = source if source.is_dir() else source.parent
    series: dict[Path, list[Path]] = {}
    found = list[Found]()
    for path in paths:
        if kind_of_file(path) == "DICOM":
            series.setdefault(path.parent, []).append(path)
        else:
            found.append(_file(path, path.relative_to(root), key, color, scale))
    for folder, files in series.items():
        found += _series(root, folder, files, color, scale)
    return sorted(found, key=lambda each: each.place)


def is_medical(source: Path) -> bool:
    """Whether a file is NIfTI or DICOM, or a folder holds such files and no pictures."""
    if not source.is_dir():
        return kind_of_file(source) in MEDICAL
    medical = False
    for path in source.rglob("*"):
        kind = "" if path.name.startswith(".") else kind_of_file(path)
        if kind == "picture":
            return False
        medical = medical or kind in MEDICAL
    return medical


def whole_volumes(source: Path, color: bool = False, scale: Scale | None = None) -> list[Volume]:
    """As `find_volumes`, of which none may be broken.

    Raises
    ------
    ValueError
        if one is.
    """
    volumes = []
    for found in find_volumes(source, None, color, scale):
        if found.volume is None:
            raise ValueError(found.error)
        volumes.append(found.volume)
    return volumes


def kind_of_file(path: Path) -> str:
    """What a file seems to be by its name, and DICOM by its mark; empty if nothing that is read."""
    name, suffix = path.name.lower(), path.suffix.lower()
    if suffix in images.SUFFIXES:
        return "picture"
    if suffix in hdf5.SUFFIXES:
        return "HDF5"
    if name.endswith(nifti.SUFFIXES):
        return "NIfTI"
    return "DICOM" if dicom.is_dicom(path) else ""


def _file(path: Path, place: Path, key: str | None, color: bool, scale: Scale | None) -> Found:
    """A picture, or a file of many images."""
    kind, suffix = kind_of_file(path), path.suffix.lower()
    if kind not in ("HDF5", "NIfTI"):
        return Found(path, place.with_suffix(""), ".png", True, Volume([FileImage(path, color, scale)], path))
    ending = suffix if kind == "HDF5" else nifti.SUFFIXES[suffix == PACKED]
    found = Found(path, place.with_name(place.name[: -len(ending)]), ending, False)
    try:
        if kind == "HDF5":
            found.volume = Volume(hdf5.hdf5_images([path], key, color, scale), path)
        else:
            found.volume = nifti.open_nifti(path, color, scale)
    except (ValueError, OSError) as error:
        found.error = str(error)
    return found


def _series(root: Path, folder: Path, files: list[Path], color: bool, scale: Scale | None) -> list[Found]:
    """The series of a folder; those of several files are called after it. One broken file makes all of it unsure."""
    place = folder.relative_to(root) if folder != root else Path(folder.resolve().name)
    ending = nifti.SUFFIXES[1]
    try:
        volumes = dicom.open_series(files, color, scale)
    except (ValueError, OSError) as error:
        return [Found(folder, place, ending, False, error=str(error))]
    several = sum(volume.path.is_dir() for volume in volumes)
    found, number = list[Found](), 0
    for volume in volumes:
        if volume.path.is_dir():
            number += 1
            own = place.with_name(f"{place.name}-{number}") if several > 1 else place
        else:
            name = volume.path.relative_to(root)
            own = name.with_suffix("") if name.suffix.lower() in dicom.SUFFIXES else name
        found.append(Found(volume.path, own, ending, len(volume.images) == 1, volume))
    return found
