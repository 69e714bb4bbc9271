"""A command is one function: its signature says names, types and defaults of the options, its docstring their help."""

import argparse
import copy
import functools
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NoReturn, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

Flag = Annotated[bool, "flag"]
"""The type of an option that is switched on by its name alone: `--color`, not `--color true`."""

# A config may be a stranger's. What it names is imported only from this package, and from what `allow_packages` adds;
# what it writes where any value is taken is not made into an object.
set_parsing_settings(
    import_path_denylist=["*"],
    import_path_allowlist=[__name__.partition(".")[0]],
    validate_subclass_spec_in_any=True,
    instantiate_subclass_spec_in_any=False,
)


def allow_packages(*names: str) -> None:
    """Let configs and options name the classes of more packages, or of modules and what is inside of them."""
    set_parsing_settings(import_path_allowlist=list(names))


class Parser(ArgumentParser):
    """A parser that calls nothing but classes, reads no file but configs, and whose errors are one line.

    Attributes
    ----------
    settings : dict
        the classes whose arguments `add_settings` has added, by their names in a config.
    makers : dict
        the package whose functions may be named too, by the place where they may.
    imported : list of str
        the modules that `--import` has named.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.settings: dict[str, Callable[..., Any]] = {}
        self.makers: dict[str, str] = {}
        self.imported: list[str] = []

    def add_settings(self, cls: type, name: str) -> None:
        """Add the arguments of a class as `--name.argument`; `instantiate` makes the object.

        The parser's own way to do so would take a file for the value of `--name`, and read it.
        """
        title = docstring_parser.parse(cls.__doc__ or "").short_description or name
        self.add_argument_group(title.rstrip("."), name=name).add_class_arguments(cls, name, as_group=False)
        self.settings[name] = cls

    def validate(self, namespace: Namespace, *args: Any, **kwargs: Any) -> None:
        """Raise TypeError unless all values are of their types and only classes are named; called by every parsing."""
        try:
            super().validate(namespace, *args, **{**kwargs, "skip_unset": False})  # null is checked too
        except (TypeError, KeyError):
            super().validate(namespace, *args, **kwargs)  # what is missing, or else wrong, is said before a null
            raise
        for name in self.settings:
            if not isinstance(namespace.get(name, Namespace()), Namespace):
                raise TypeError(f"{name}: must be settings, {name}: {{…}}, got {namespace[name]!r:.100}")
        for place, value in leaves(namespace):
            if inspect.isroutine(value) and not self._may_call(place, value):
                raise TypeError(f"{place}: only classes may be named, got the function {value.__qualname__}")

    def instantiate(self, namespace: Namespace, *args: Any, **kwargs: Any) -> Namespace:
        """Make the objects that are described.

        Raises
        ------
        ValueError
            if a class refuses its arguments.
        """
        try:
            made: Namespace = super().instantiate(namespace, *args, **kwargs)
        except ValueError as error:  # which may tell of every type that was tried
            reasons = re.findall(r"^ +- (?!Not a valid |Expected |Import path )(.*)", str(error), re.MULTILINE)
            kind = re.search(r"^Subtypes: .*?\.([A-Z]\w*)['>\]]", str(error), re.MULTILINE)
            if not (reasons and kind):
                raise
            what = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind[1]).lower()  # SamplingMask is a sampling mask
            raise ValueError(f"{what}: {reasons[0]}") from error
        for name, cls in self.settings.items():
            made[name] = cls(**vars(made[name]))
        return made

    def _may_call(self, place: str, function: Callable[..., Any]) -> bool:
        return place in self.makers and f"{function.__module__}.".startswith(f"{self.makers[place]}.")

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with status 2.

        A long message names the argument in its first line, and then tells of every type that was tried. The type that
        was meant is the first of them: why it was refused is the innermost cause of the exception.
        """
        argument, _, tried = message.partition("\n")
        if tried and ex is not None:
            reason: BaseException = ex
            while reason.__cause__ is not None and not isinstance(reason, argparse.ArgumentError):  # of an inner parser
                reason = reason.__cause__
            message = f"{argument} {' '.join(str(reason).split())}"
        for theirs, ours in _WORDS.items():
            message = re.sub(theirs, ours, message)
        super().error(message, ex)


_WORDS = {
    r"Importing ('.*?') is not allowed, denied by.*": (
        r"\1 may not be named: the classes that --help lists may, and those of modules that you trust and name by "
        "--import MODULE"
    ),
    r"Expected a dot import path string: (.*)": r"no class is called '\1'; --help lists them",
    r"Expected an instantiatable class, but \S*\.(\w+) is abstract": (
        r"must be the class_path of a \1 and its init_args, or of another form that --help tells"
    ),
}
"""What the library says to programmers, and what it means to users."""


def made_once(make: Callable[..., Parser]) -> Callable[..., Parser]:
    """Let a function make each parser once and give copies of it, for a parser changes when it is used.

    A copy takes a tenth of the time, which programs notice that run many commands.
    """
    whole = functools.cache(make)

    @functools.wraps(make)
    def give(*arguments: Any) -> Parser:
        return copy.deepcopy(whole(*arguments))

    return give


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """The single values of parsed settings, and where they are; also what a `class_path` names."""
    if isinstance(value, (Namespace, dict)):
        parts = vars(value) if isinstance(value, Namespace) else value
        module, _, name = str(parts.get("class_path")).rpartition(".")
        yield place, getattr(sys.modules.get(module), name, None)  # what could be named has been imported
        for key, part in parts.items():
            yield from leaves(part, f"{place}.{key}".removeprefix("."))
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from leaves(part, f"{place}.{number}")
    else:
        yield place, value


def run(command: str, function: Callable[..., int | None], argv: list[str], *, own_classes: bool = False) -> int:
    """Call the function of a command with what a command line says.

    Parameters
    ----------
    command : str
        its name, for messages.
    function : callable
        returns the exit status, or None for 0; see `add_options` for its parameters.
    argv : list of str
    own_classes : bool
        whether the command takes `--import`.

    Returns
    -------
    int
        the exit status
    """
    parser = parser_for(command, function)
    if own_classes:
        argv = import_modules(parser, argv)
    return call(function, parser.instantiate(parser.parse_args(argv)))


@made_once
def parser_for(command: str, function: Callable[..., Any]) -> Parser:
    """The parser of a command: its description is the head of the function's docstring."""
    described = docstring_parser.parse(function.__doc__ or "")
    text = [part for part in (described.short_description, described.long_description) if part]
    parser = Parser(prog=f"unrolled {command}", description="\n\n".join(text), allow_abbrev=False)
    add_options(parser, function)
    return parser


def add_options(parser: ArgumentParser, function: Callable[..., Any]) -> None:
    """Add an option for every parameter of a function or class.

    What is positional only (before the `/`) is given without a name: one value, or several if its type is a list. What
    is a `Flag` takes no value. Everything else is `--name value`, of the type that is stated. A name of several words
    has dashes between them, and one that Python keeps for itself ends in an underscore, which is left out.
    """
    hints = get_type_hints(function, include_extras=True)
    help_of = {each.arg_name: each.description for each in docstring_parser.parse(function.__doc__ or "").params}
    by_hand: set[str | int] = set()
    for name, parameter in inspect.signature(function).parameters.items():
        required = parameter.default is parameter.empty
        default = {} if required else {"default": parameter.default}
        if parameter.kind is parameter.POSITIONAL_ONLY:
            several = get_origin(hints[name]) is list
            count = {(True, True): "+", (True, False): "*", (False, False): "?"}.get((several, required))
            kind = get_args(hints[name])[0] if several else hints[name]
            parser.add_argument(name, nargs=count, type=kind, help=help_of.get(name), **default)
        elif hints.get(name) is Flag:
            option = f"--{name.replace('_', '-')}"
            parser.add_argument(option, dest=name, action="store_true", help=help_of.get(name))
        elif "_" in name:
            option = f"--{name.rstrip('_').replace('_', '-')}"
            parser.add_argument(
                option, dest=name, type=hints[name], help=help_of.get(name), required=required, **default
            )
        else:
            continue
        by_hand.add(name)
    parser.add_function_arguments(function, as_group=False, skip=by_hand)


def call(function: Callable[..., int | None], options: Namespace) -> int:
    """Call a function with the options that `add_options` made of its parameters, and return the exit status."""
    given = vars(options).copy()
    parameters = inspect.signature(function).parameters.values()
    positional = [given.pop(each.name) for each in parameters if each.kind is each.POSITIONAL_ONLY]
    return function(*positional, **given) or 0


def import_modules(parser: Parser, argv: list[str]) -> list[str]:
    """Add the option `--import` to a parser, follow it, and return the other arguments.

    It is followed before the others are parsed, for these may name the classes of the modules. The working folder is
    then put at the end of the path, so that no file in it takes the place of an installed module.

    Raises
    ------
    ValueError
        if a module cannot be imported.
    """
    parser.add_argument(
        "--import",
        metavar="MODULE",
        default=argparse.SUPPRESS,
        help="a module of your own, in the working folder or installed, whose classes the weights or options name; may "
        "be given several times",
    )
    first = argparse.ArgumentParser(prog=parser.prog, usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    first.add_argument("--import", dest="modules", action="append", default=[])
    given, others = first.parse_known_args(argv)
    if given.modules and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for module in given.modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # the module may do anything
            raise ValueError(f"import: {module} cannot be imported: {type(error).__name__}: {error}") from error
        allow_packages(module.partition(".")[0])
    parser.imported = given.modules
    return others
