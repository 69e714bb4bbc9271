"""unrolled data list | check NAME | get NAME | prepare FOLDER … --out FILE"""

from pathlib import Path

from jsonargparse import ArgumentParser

from unrolled.data.known import HOME, KnownData, find_known, known_sets
from unrolled.data.prepare import prepare_images


def parser() -> ArgumentParser:
    """The four subcommands."""
    parser = ArgumentParser(
        prog="unrolled data",
        description=f"Known data sets, and image folders for training. Sets lie in datasets/ or where {HOME} points.",
        allow_abbrev=False,
    )
    commands = parser.add_subcommands()
    commands.add_subcommand("list", ArgumentParser(), help="the known data sets")
    check = ArgumentParser(allow_abbrev=False)
    commands.add_subcommand("check", check, help="whether a data set is there, whole and unaltered")
    get = ArgumentParser(allow_abbrev=False)
    commands.add_subcommand("get", get, help="download a data set, or say how to get it")
    for command in (check, get):
        command.add_argument("name", help="of `unrolled data list`")
        command.add_argument(
            "--folder",
            type=str | None,
            default=None,
            help=f"of the files; by default datasets/<name>, or ${HOME}/<name>",
        )
    write = ArgumentParser(allow_abbrev=False)
    commands.add_subcommand("prepare", write, help="turn folders of images into HDF5, of which training reads crops")
    write.add_argument("folders", nargs="+", help="folders of images, subfolders too")
    write.add_argument("--out", type=str, required=True, help="the file to write, .h5")
    write.add_argument("--color", action="store_true", help="keep red, green and blue; otherwise the luma")
    write.add_argument("--shards", type=int, default=1, help="how many files")
    write.add_argument("--licence", type=str, default="", help="to be written into the file")
    write.add_argument("--force", action="store_true", help="replace what is there")
    write.add_argument("--skip-broken", action="store_true", help="leave out images that cannot be read")
    return parser


def run(argv: list[str]) -> int:
    """Run a subcommand; `check` returns 1 if the set is not whole."""
    options = parser().parse_args(argv)
    if options.subcommand == "list":
        return _list()
    if options.subcommand == "prepare":
        given = {name: value for name, value in options.prepare.items() if name not in ("folders", "out")}
        return _prepare(options.prepare.folders, options.prepare.out, **given)
    given = options[options.subcommand]
    known = find_known(given.name)
    if known is None:
        raise ValueError(f"no known data set {given.name!r}; known: {', '.join(each.name for each in known_sets())}")
    folder = known.folder if given.folder is None else Path(given.folder)
    if options.subcommand == "get":
        known.get(folder)
    return _check(known, folder)


def _list() -> int:
    print(f"{'name':<10} {'task':<15} {'images':<40} {'present':<8} licence")
    for known in known_sets():
        images = ", ".join(f"{split.images} {name}" for name, split in known.splits.items())
        present = "yes" if known.present(known.folder) else "no"
        print(f"{known.name:<10} {known.task:<15} {images:<40} {present:<8} {known.licence.split('. ')[0]}")
    return 0


def _check(known: KnownData, folder: Path) -> int:
    print(f"{known.name}: {known.title}\nlicence: {known.licence}\ncitation: {known.citation}\n")
    copy, states = known.check(folder)
    for name, state in states.items():
        print(f"  {state:<22} {name}")
    bad = [name for name, state in states.items() if not state.startswith("ok")]
    result = (
        f"{len(bad)} of {len(states)} files are missing or altered" if bad else f"all {len(states)} files are there"
    )
    print(f"\n{folder} ({copy.title}): {result}")
    return 1 if bad else 0


def _prepare(folders: list[str], out: str, **options: bool | int | str) -> int:
    files, skipped = prepare_images(folders, out, **options)  # type: ignore[arg-type]
    for reason in skipped:
        print(f"left out: {reason}")
    print(f"written: {', '.join(map(str, files))}")
    return 0
