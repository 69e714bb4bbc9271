"""unrolled networks [NAME] [--import MODULE]"""

import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import docstring_parser

import unrolled.networks
from unrolled.cli import command_line
from unrolled.networks import UnrolledNetwork
from unrolled.networks.arithmetic import MATRIX, counted_on
from unrolled.operators import Identity
from unrolled.reconstruction.tiles import why_no_tiles
from unrolled.system.files import check_writable, write_json
from unrolled.system.recipes import subclasses

WIDTH = 110
"""Of lines of text, in characters."""


@dataclass(frozen=True)
class Facts:
    """What is true of a network as it is by default.

    Attributes
    ----------
    name : str
        of the class.
    equation, source : str
        the first paragraph of its docstring, and the second.
    parameters : int
        how many numbers are learned.
    multiply_adds : int
        of convolutions and products of matrices for each pixel of an image of one channel.
    counted_on : str
        the operator that this is counted with, whose own arithmetic is in it.
    images : str
        "real", "complex" or "real or complex".
    operators : str
        what it needs of them.
    noise_level, shared : str
        whether it is told the noise level, and whether its phases share their weights: "always", "by default", "if
        asked" or "no".
    tiles, compacts : bool
        whether large images are reconstructed in tiles, and whether maps that are zero can be removed.
    """

    name: str
    equation: str
    source: str
    parameters: int
    multiply_adds: int
    counted_on: str
    images: str
    operators: str
    noise_level: str
    shared: str
    tiles: bool
    compacts: bool


def preset_classes() -> dict[str, type[UnrolledNetwork]]:
    """Every network that has a name, in the order of the alphabet."""
    offered = {name: getattr(unrolled.networks, name) for name in unrolled.networks.presets.__all__}
    known = {
        name: cls
        for name, cls in offered.items()
        if inspect.isclass(cls) and issubclass(cls, UnrolledNetwork) and not inspect.isabstract(cls)
    }
    return dict(sorted(known.items(), key=lambda item: item[0].lower()))


def classes_of(modules: Sequence[str]) -> dict[str, type[UnrolledNetwork]]:
    """The networks of modules of one's own, by their names."""
    places = tuple(f"{module}." for module in modules)
    return {
        cls.__name__: cls
        for cls in subclasses(UnrolledNetwork)
        if f"{cls.__module__}.".startswith(places) and not inspect.isabstract(cls)
    }


def by_default(cls: type[UnrolledNetwork], **options: Any) -> UnrolledNetwork:
    """A network of a class; one that is made for a matrix is made for that by which arithmetic is counted.

    Parameters
    ----------
    cls : type
    **options
        what is not left as it is by default; of them those that the class has.
    """
    known = inspect.signature(cls).parameters
    given: dict[str, Any] = {name: value for name, value in options.items() if name in known}
    for name, value in MATRIX.items():
        if name in known and known[name].default is inspect.Parameter.empty:
            given[name] = value
    needed = [name for name, each in known.items() if each.default is each.empty and name not in given]
    if needed:
        raise ValueError(f"{cls.__name__}: is shown as it is by default, and {' and '.join(needed)} must be given")
    return cls(**given)


def facts_of(cls: type[UnrolledNetwork]) -> Facts:
    """The facts of a network, found out from its class and from one that is made by default."""
    network, options = by_default(cls), inspect.signature(cls).parameters
    equation, source, *_ = [*paragraphs(cls), "", ""]
    words, multiply_adds = counted_on(network)
    own = "complex" if network.complex_images else "real"
    return Facts(
        name=cls.__name__,
        equation=equation,
        source=source,
        parameters=network.parameter_count,
        multiply_adds=multiply_adds,
        counted_on=words,
        images="real or complex" if "complex_images" in options else own,
        operators=" and ".join(network.demands) or "any",
        noise_level=_when("noise_range" in options, network.takes_noise),
        shared=_when("shared" in options, bool(network.arguments.get("shared", network.repeats > 1))),
        tiles=why_no_tiles(network, Identity()) is None,
        compacts=network.compacts,
    )


def paragraphs(cls: type) -> list[str]:
    """Of a class's docstring up to its first section, each in one line."""
    described = docstring_parser.parse(inspect.cleandoc(cls.__doc__ or ""))
    text = "\n\n".join(filter(None, (described.short_description, described.long_description)))
    return [" ".join(part.split()) for part in text.split("\n\n") if part]


def run(argv: list[str]) -> int:
    """Show the networks."""
    parser = command_line.parser_for("networks", show_networks)
    others = command_line.import_modules(parser, argv)

    def show(name: str | None, /, *, json: str | None) -> None:
        _show(preset_classes() | classes_of(parser.imported), name, json)

    return command_line.call(show, parser.instantiate(parser.parse_args(others)))


def show_networks(name: str | None = None, /, *, json: str | None = None) -> None:
    """List the networks that have a name, and those of modules that are imported, or tell all about one.

    Parameters
    ----------
    name : str, optional
        a network whose options are told too.
    json : str, optional
        write the facts to this file.
    """
    _show(preset_classes(), name, json)


def _show(known: dict[str, type[UnrolledNetwork]], name: str | None, json: str | None) -> None:
    dotted = {f"{cls.__module__}.{cls.__name__}": each for each, cls in known.items()}
    name = None if name is None else dotted.get(name, name)
    if name is not None and name not in known:
        raise ValueError(f"unknown network {name!r}; known: {', '.join(known)}; --import takes a module of your own")
    if json is not None:
        check_writable(json)
    found = [facts_of(cls) for each, cls in known.items() if name in (None, each)]
    print(_table(found) if name is None else _page(known[name], found[0]))
    if json is not None:
        write_json(json, {"networks": [asdict(each) for each in found]}, indent=1)


def _table(found: list[Facts]) -> str:
    head = (
        "network",
        "parameters",
        "multiply-adds",
        "images",
        "noise level",
        "shared",
        "tiles",
        "compacts",
        "operators",
    )
    rows = [head]
    for each in found:
        counts = f"{each.parameters:,}", f"{each.multiply_adds:,}"
        switches = each.noise_level, each.shared, _yes(each.tiles), _yes(each.compacts)
        rows.append((each.name, *counts, each.images, *switches, each.operators))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = {1, 2}
    lines = [
        "  ".join(cell.rjust(width) if place in right else cell.ljust(width) for place, (cell, width) in cells).rstrip()
        for cells in (list(enumerate(zip(row, widths, strict=True))) for row in rows)
    ]
    parts = [lines[0]]
    for line, each in zip(lines[1:], found, strict=True):
        parts.append("\n".join(filter(None, (line, _indented(each.equation)))))
    counted = {each.counted_on for each in found}
    parts.append(
        f"\nAs they are by default. Multiply-adds are those of convolutions and matrices for one pixel, counted on "
        f"{' or '.join(sorted(counted))}.\nunrolled networks NAME tells the options of one."
    )
    return "\n".join(parts)


def _page(cls: type[UnrolledNetwork], facts: Facts) -> str:
    lines = [facts.name, *(_indented(text) for text in paragraphs(cls)), ""]
    lines += [
        f"  parameters             {facts.parameters:,}",
        f"  multiply-adds a pixel  {facts.multiply_adds:,} on {facts.counted_on}",
        f"  operators              {facts.operators}",
        f"  images                 {facts.images}",
        f"  is told the noise      {facts.noise_level}",
        f"  shares weights         {facts.shared}",
        f"  tiles                  {_yes(facts.tiles)}",
        f"  compacts               {_yes(facts.compacts)}",
        "\noptions",
    ]
    of_all = _meanings(UnrolledNetwork)
    meaning = {
        name: of_all.get(name, text) if "`UnrolledNetwork`" in text else text for name, text in _meanings(cls).items()
    }
    for option in inspect.signature(cls).parameters.values():
        lines.append(f"  {option.name} = {_default(option.default)}")
        if option.name in meaning:
            lines.append(_indented(meaning[option.name]))
    return "\n".join(lines)


def _meanings(cls: type) -> dict[str, str]:
    """What the docstring says of each parameter."""
    return {
        name.strip(): " ".join((each.description or "").split())
        for each in docstring_parser.parse(inspect.cleandoc(cls.__doc__ or "")).params
        for name in each.arg_name.split(",")
    }


def _default(value: Any) -> str:
    return "(must be given)" if value is inspect.Parameter.empty else repr(value)


def _indented(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="    ", subsequent_indent="    ")


def _when(option: bool, by_default: bool) -> str:
    if option:
        return "by default" if by_default else "if asked"
    return "always" if by_default else "no"


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"
