"""unrolled data list | check NAME | get NAME | prepare FOLDER … --out FILE | index SHARDS … --out FILE"""

from collections.abc import Callable
from pathlib import Path

from jsonargparse import set_parsing_settings

from unrolled.cli.command_line import Flag, Parser, call, parser_for
from unrolled.data.known import HOME, KnownData, find_known, known_sets
from unrolled.data.prepare import prepare_images
from unrolled.data.shard_index import write_index
from unrolled.operators import CoilMaps
from unrolled.reconstruction.simulated_kspace import simulate_kspace
from unrolled.reconstruction.volume_maps import write_maps
from unrolled.system.scales import Scale


def run(argv: list[str]) -> int:
    """Run a subcommand."""
    set_parsing_settings(subclasses_enabled=[CoilMaps])
    parser = Parser(
        prog="unrolled data",
        description=f"Known data sets, and image folders for training. Sets lie in datasets/ or where {HOME} points.",
        allow_abbrev=False,
    )
    subcommands = parser.add_subcommands()
    for name, (function, summary) in SUBCOMMANDS.items():
        subcommands.add_subcommand(name, parser_for(f"data {name}", function), help=summary)
    given = parser.instantiate(parser.parse_args(argv))
    return call(SUBCOMMANDS[given.subcommand][0], given[given.subcommand])


def list_sets() -> None:
    """List the known data sets, and whether they are there."""
    print(f"{'name':<10} {'task':<15} {'images':<40} {'present':<8} licence")
    for known in known_sets():
        images = ", ".join(f"{split.images} {name}" for name, split in known.splits.items())
        present = "yes" if known.present(known.folder) else "no"
        print(f"{known.name:<10} {known.task:<15} {images:<40} {present:<8} {known.licence.split('. ')[0]}")


def check(name: str, /, *, folder: str | None = None) -> int:
    """Check whether a data set is there, whole and unaltered; the exit status is 1 if it is not.

    Parameters
    ----------
    name : str
        a name that `unrolled data list` shows.
    folder : str, optional
        where the files are; by default datasets/<name>, or $UNROLLED_DATA/<name>.
    """
    known = _find(name)
    place = known.folder if folder is None else Path(folder)
    print(f"{known.name}: {known.title}\nlicence: {known.licence}\ncitation: {known.citation}\n")
    copy, states = known.check(place)
    for file, state in states.items():
        print(f"  {state:<22} {file}")
    bad = [file for file, state in states.items() if not state.startswith("ok")]
    result = (
        f"{len(bad)} of {len(states)} files are missing or altered" if bad else f"all {len(states)} files are there"
    )
    print(f"\n{place} ({copy.title}): {result}")
    return 1 if bad else 0


def get(name: str, /, *, folder: str | None = None) -> int:
    """Download a data set and check it, or say how to get it by hand.

    Parameters
    ----------
    name : str
        a name that `unrolled data list` shows.
    folder : str, optional
        where the files are; by default datasets/<name>, or $UNROLLED_DATA/<name>.
    """
    known = _find(name)
    known.get(known.folder if folder is None else Path(folder))
    return check(name, folder=folder)


def prepare(
    folders: list[str],
    /,
    *,
    out: str,
    color: Flag = False,
    shards: int = 1,
    licence: str = "",
    force: Flag = False,
    skip_broken: Flag = False,
    scale: Scale | None = None,
) -> None:
    """Turn folders of images into HDF5, of which training reads crops.

    Parameters
    ----------
    folders : list of str
        folders of images, which may lie in subfolders.
    out : str
        the file to write, .h5; or .tar, for shards of image files as they are, with an index (.json) beside them.
    color : bool
        keep red, green and blue instead of the luma.
    shards : int
        over how many files to spread the images.
    licence : str
        what to write into the file as the images' licence.
    force : bool
        replace what is there.
    skip_broken : bool
        leave out images that cannot be read.
    scale : optional
        what white is in the numbers of the files: a number, [BLACK,WHITE], max or a percentile such as 99.5%.
    """
    files, skipped = prepare_images(
        folders, out, color=color, shards=shards, licence=licence, force=force, skip_broken=skip_broken, scale=scale
    )
    for reason in skipped:
        print(f"left out: {reason}")
    print(f"written: {', '.join(map(str, files))}")


def index(files: list[str], /, *, out: str, force: Flag = False) -> None:
    """Write the index of shards, which training reads: tar files in the layout of WebDataset, or prepared HDF5.

    Parameters
    ----------
    files : list of str
        the shards, in the folder of the index or below.
    out : str
        the index to write, .json.
    force : bool
        replace an index that is there.
    """
    write_index(files, out, force=force)
    print(f"written: {out}")


def simulate(
    images: str,
    /,
    *,
    out: str,
    coils: int = 8,
    noise: float = 0.005,
    unit: float = 1e-5,
    slices: int = 8,
    key: str | None = None,
    seed: int = 0,
) -> None:
    """Simulate fully sampled k-space of several coils from images, in the layout of fastMRI.

    Parameters
    ----------
    images : str
        a folder of images or an HDF5 file; complex images keep their phase, others get a smooth random one.
    out : str
        the folder of the volumes.
    coils : int
        how many there are, on a circle around the image.
    noise : float
        standard deviation of the noise in k-space, of images whose largest magnitude is 1.
    unit : float
        the largest magnitude of every image that is written.
    slices : int
        images in a volume.
    key : str, optional
        of the images in HDF5 files.
    seed : int
        of coils, phases and noise.
    """
    paths = simulate_kspace(images, out, coils=coils, noise=noise, unit=unit, slices=slices, key=key, seed=seed)
    print(f"written: {', '.join(map(str, paths))}")


def estimate(
    volumes: list[str],
    /,
    *,
    out: str,
    maps: CoilMaps | None = None,
    key: str = "kspace",
    centered: bool | None = None,
) -> None:
    """Estimate the sensitivities of the coils of volumes of k-space once, for all training by --data.maps.

    Parameters
    ----------
    volumes : list of str
        HDF5 files in the layout of fastMRI, and folders of them.
    out : str
        the folder of the maps, a file for each volume; those that are there already stay.
    maps : CoilMaps, optional
        how: Espirit (the default) or LowResolution; then --maps.center N is the side of the square in the middle of
        k-space that is looked at, which should be one that the masks of training sample.
    key : str
        the name of k-space in the files.
    centered : bool, optional
        whether the frequency 0 is in the middle, or at [0, 0]; by default it is where most of the energy lies.
    """
    paths = write_maps(volumes, out, maps, key=key, centered=centered)
    print(f"written: {', '.join(map(str, paths)) or 'nothing, for all are there already'}")


SUBCOMMANDS: dict[str, tuple[Callable[..., int | None], str]] = {
    "list": (list_sets, "the known data sets"),
    "check": (check, "whether a data set is there, whole and unaltered"),
    "get": (get, "download a data set, or say how to get it"),
    "prepare": (prepare, "turn folders of images into HDF5, of which training reads crops, or into shards"),
    "index": (index, "write the index of shards, which training reads"),
    "simulate-kspace": (simulate, "simulate k-space of several coils from images"),
    "estimate-maps": (estimate, "estimate the coils' sensitivities of volumes of k-space, once for all training"),
}


def _find(name: str) -> KnownData:
    known = find_known(name)
    if known is None:
        raise ValueError(f"no known data set {name!r}; known: {', '.join(each.name for each in known_sets())}")
    return known
