"""Objects that can be written down as a name and its arguments, and built again from them."""

import functools
import inspect
import reprlib
import sys
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from torch import Tensor

from unrolled.system.plain_values import MAKERS, NOTHING, as_written, read_back
from unrolled.system.scalars import plain_arguments

PACKAGE = __name__.partition(".")[0]

PROGRAM = "made by your program"
"""Stands in a recipe for what no file can hold: functions, modules, large arrays."""


class Described:
    """Remembers the arguments an object was made with, so that weights can carry the recipe of their network.

    A subclass inherits this by being defined; nothing has to be called. `describe` writes the recipe, `build` follows
    it. Where a constructor hands `**options` on to that of its base, the options and their defaults are remembered too.
    """

    arguments: dict[str, Any] = {}  # noqa: RUF012  of a class that takes none; others get their own
    checks_numbers = False
    """Whether the constructor refuses by itself what is no number where it wants one, and says what is allowed."""
    _hands_on = False  # whether the constructor takes `**options`

    def constructed(self) -> None:
        """Called once, when the outermost constructor has returned: for what needs all attributes."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" not in cls.__dict__:
            return
        init = cls.__init__
        signature = inspect.signature(init)
        options = [p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]
        cls._hands_on = bool(options)

        @functools.wraps(init)
        def remember(self: Any, *args: Any, **kwargs: Any) -> None:
            if not _is_foreign(cls):  # what annotations of others mean is theirs to say
                given = signature.bind(self, *args, **kwargs).arguments
                named = plain_arguments(cls.__name__, init, given, refuse=not cls.checks_numbers)
                bound = inspect.BoundArguments(signature, named)
                args, kwargs = bound.args[1:], bound.kwargs
            outermost = type(self).__init__ is remember
            if outermost or type(self)._hands_on:
                bound = signature.bind(self, *args, **kwargs)
                given = {} if outermost else dict(bound.arguments)
                bound.apply_defaults()
                arguments = dict(list(bound.arguments.items())[1:])
                for name in options:
                    arguments |= arguments.pop(name)
                # Of an inner constructor only what nobody gave it is new; the rest is what the outer one decided.
                known = {} if outermost else self.arguments
                fresh = {name: value for name, value in arguments.items() if name not in given}
                object.__setattr__(self, "arguments", fresh | known)
            init(self, *args, **kwargs)
            if outermost:
                self.constructed()

        cls.__init__ = remember  # type: ignore[method-assign]

    def description(self) -> dict[str, Any]:
        """The arguments that make this object again, as plain values."""
        return {name: _plain(value, _is_foreign(type(self))) for name, value in self.arguments.items()}


def describe(thing: Any) -> dict[str, Any]:
    """The recipe of an object: `{"class_path": name, "init_args": {…}}`.

    Its values are plain (JSON, YAML), except for what has no recipe: modules, functions, large arrays; see `writable`.
    Short arrays, sets and the like have recipes of their own, see `plain_values`. Tuples are lists and paths are text
    in recipes of this package, which knows what it takes; of other classes they come back as they were.
    """
    if is_dataclass(thing) and not isinstance(thing, type):
        exact = _is_foreign(type(thing))
        arguments = {field.name: _plain(getattr(thing, field.name), exact) for field in fields(thing) if field.init}
        for name, value in arguments.items():
            if isinstance(value, Tensor):
                raise ValueError(
                    f"{type(thing).__name__}: {name} is a tensor of shape {tuple(value.shape)}, which a recipe cannot "
                    "hold; give numbers, or fewer of them"
                )
    else:
        arguments = thing.description()
    return {"class_path": class_path(type(thing)), "init_args": arguments}


def class_path(cls: type) -> str:
    """How recipes name a class: those of this package by their name alone, others as "module.Name".

    A class of this package may move to another module; its name stays. A class of the program itself, whose module is
    called `__main__` while it runs, has the module that would be imported.
    """
    if cls.__module__.partition(".")[0] == PACKAGE:
        return cls.__qualname__
    module = cls.__module__
    if module == "__main__":
        program = sys.modules["__main__"]
        file = getattr(program, "__file__", None)
        specification = getattr(program, "__spec__", None)
        module = specification.name if specification else Path(file).stem if file else module
    return f"{module}.{cls.__qualname__}"


def find_class(path: Any, base: type) -> type | None:
    """The class that a recipe names among a base and its subclasses; None if no imported one is called so.

    A name alone, or a path into this package, means a class of this package if there is one. Weights of older versions
    name every class by its name alone: then it may be any class of that name, if there is only one.

    Raises
    ------
    ValueError
        if several classes are called so.
    """
    known = list(dict.fromkeys(subclasses(base)))
    package, _, name = str(path).rpartition(".")
    own = [cls for cls in known if cls.__qualname__ == name and cls.__module__.partition(".")[0] == PACKAGE]
    if package.partition(".")[0] in ("", PACKAGE):
        found = own or [cls for cls in known if cls.__name__ == name and not package]
    else:
        found = [cls for cls in known if class_path(cls) == path]
    if len(found) > 1:  # a class that was defined again, as in a notebook, means the one that its module has now
        now = [cls for cls in found if getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is cls]
        found = now if len(now) == 1 and len({*map(class_path, found)}) == 1 else found
    if len(found) > 1:
        several = ", ".join(sorted({*map(class_path, found)}))
        raise ValueError(f"{reprlib.repr(path)} may be any of {len(found)} classes: {several}")
    return found[0] if found else None


def writable(recipe: Any) -> Any:
    """A recipe as a file can hold it: `{PROGRAM: type}` stands for each value that has no recipe."""
    if isinstance(recipe, dict) and all(isinstance(key, str) for key in recipe):
        return {key: writable(value) for key, value in recipe.items()}
    if isinstance(recipe, list):
        return [writable(value) for value in recipe]
    plain = isinstance(recipe, (str, int, float, type(None))) and not isinstance(recipe, Enum)
    return recipe if plain else {PROGRAM: type(recipe).__name__}


def only_a_program_makes(recipe: Any, name: str) -> str | None:
    """A value of a recipe that no file can hold, as "name.argument, a type"; None if there is none."""
    left = [(name, recipe)]  # not by recursion, which a stranger's file could make too deep
    while left:
        place, value = left.pop()
        if isinstance(value, dict):
            if PROGRAM in value:
                return f"{place}, a {value[PROGRAM]}"
            left += [(place if key == "init_args" else f"{place}.{key}", part) for key, part in value.items()]
        elif isinstance(value, list):
            left += [(f"{place}.{index}", part) for index, part in enumerate(value)]
    return None


def why_not_built(recipe: Any, name: str, *bases: type) -> str | None:
    """Why no file can say how to make an object: the argument that is in the way, and what it is; None if nothing is.

    Parameters
    ----------
    recipe : dict
        as `writable` returns it.
    name : str
        of the object.
    *bases : type
        as of `build`.
    """
    if (what := only_a_program_makes(recipe, name)) is not None:
        return what
    for place, path, arguments in _objects(recipe, name):
        if path in MAKERS:
            continue
        try:
            known = [find_class(path, base) for base in (bases[:1] if place == name else bases[1:])]
        except ValueError as error:
            return f"{place}: {error}"
        cls: Any = next((cls for cls in known if cls is not None), None)
        if cls is None:
            return f"{place}, of the class {path}"
        if "<locals>" in path:
            return f"{place}, of the class {path}, which is made inside of a function"
        try:
            inspect.signature(cls).bind_partial(**arguments)
        except TypeError as error:
            return f"{place}, of the class {path}, which is not made of named arguments: {error}"
        for key, value in arguments.items():
            if any(path not in MAKERS for _, path, _ in _objects(value, "")):  # these are looked at for themselves
                continue
            try:
                _check_types(cls, {key: _build_nested(value, bases[1:])})
            except ValueError as error:
                return f"{place}.{key}: {error}"
    return None


def _objects(recipe: Any, place: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every object of a recipe: its place, its class, and its arguments."""
    parts: Any = enumerate(recipe) if isinstance(recipe, list) else recipe.items() if isinstance(recipe, dict) else ()
    if isinstance(recipe, dict) and "class_path" in recipe:
        arguments = recipe.get("init_args") or {}
        yield place, recipe["class_path"], arguments
        parts = arguments.items()
    for key, part in parts:
        yield from _objects(part, f"{place}.{key}")


def build(recipe: Any, *bases: type) -> Any:
    """Build an object from its recipe. Only subclasses of the bases that are already imported can be named.

    A recipe may come from a stranger's file, so nothing is imported by it.

    Parameters
    ----------
    recipe : dict
        as `describe` returns it; nested recipes are built first.
    *bases : type
        the first is what the object itself must be; the others may appear among its arguments, also in lists. Named
        twice, the first may too.

    Raises
    ------
    ValueError
        if the recipe is malformed, names an unknown class or has arguments that the class refuses, or that are not of
        the types it states.
    """
    arguments = recipe.get("init_args") or {} if isinstance(recipe, dict) else None
    if not (isinstance(recipe, dict) and isinstance(recipe.get("class_path"), str) and isinstance(arguments, dict)):
        raise ValueError(f"a recipe must be {{'class_path': …, 'init_args': …}}, got {reprlib.repr(recipe)}")
    cls = find_class(recipe["class_path"], bases[0])
    if cls is None or inspect.isabstract(cls):
        raise ValueError(_unknown(recipe["class_path"], bases[0]))
    arguments = {key: _build_nested(value, bases[1:]) for key, value in arguments.items()}
    _check_types(cls, arguments)
    try:
        return cls(**arguments)
    except ValueError:
        raise
    except Exception as error:  # what else comes of arguments that nobody thought of
        raise ValueError(f"{cls.__name__} cannot be built from {reprlib.repr(arguments)}: {error}") from error


def _unknown(path: str, base: type) -> str:
    known = sorted(class_path(cls) for cls in {*subclasses(base)} if not inspect.isabstract(cls))
    return f"unknown {base.__name__} {reprlib.repr(path)}{_advice(path)}; known: {', '.join(known)}"


def _advice(path: Any) -> str:
    """Which module to import, if a path names one; it is said and not done, for a file may name any module."""
    module = str(path).rpartition(".")[0]
    if module.partition(".")[0] in ("", PACKAGE) or module in sys.modules or len(module) > 100:
        return ""
    return f"; if you trust it, import {module} first, on the command line with --import {module}"


def _build_nested(value: Any, bases: tuple[type, ...]) -> Any:
    if isinstance(value, list):
        return [_build_nested(item, bases) for item in value]
    if isinstance(value, dict) and "class_path" not in value:
        return {key: _build_nested(item, bases) for key, item in value.items()}
    if not isinstance(value, dict):
        return value
    arguments = value.get("init_args")
    if isinstance(value["class_path"], str) and value["class_path"] in MAKERS and isinstance(arguments, dict):
        return read_back(value["class_path"], {key: _build_nested(part, bases) for key, part in arguments.items()})
    for base in bases:
        if find_class(value["class_path"], base) is not None:
            return build(value, base, *bases)
    path = value["class_path"]
    raise ValueError(f"unknown class {reprlib.repr(path)} in a recipe{_advice(path)}")


def _check_types(cls: type, arguments: dict[str, Any]) -> None:
    try:
        hints = get_type_hints(cls.__init__)  # type: ignore[misc]
    except NameError:  # of a type that is only imported for type checkers
        return
    for name, value in arguments.items():
        if name in hints and not _is_of(value, hints[name]):
            kind = getattr(hints[name], "__name__", hints[name])
            raise ValueError(f"{cls.__name__}: {name} must be {kind}, got {reprlib.repr(value)}")


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a plain value has an annotated type; of containers only the outside is looked at."""
    origin = get_origin(kind)
    if kind is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_is_of(value, choice) for choice in get_args(kind))
    if origin is Literal:
        return value in get_args(kind)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    if (origin or kind) in (tuple, list):  # a plain value has no tuples
        return isinstance(value, (tuple, list))
    return not isinstance(origin or kind, type) or isinstance(value, origin or kind)


def subclasses(cls: type) -> list[type]:
    """A class and every one that is made of it, as far as they are imported."""
    children: list[type] = cls.__subclasses__()
    return [cls, *(deeper for child in children for deeper in subclasses(child))]


def _is_foreign(cls: type) -> bool:
    return cls.__module__.partition(".")[0] != PACKAGE


def _plain(value: Any, exact: bool) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if is_dataclass(value) or isinstance(value, Described):
        return describe(value)
    if exact or not isinstance(value, (tuple, Path)):
        written = as_written(value)
        if written is not NOTHING:
            return {**written, "init_args": _plain(written["init_args"], exact)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, exact) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item, exact) for key, item in value.items()}
    return value
