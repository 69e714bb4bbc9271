"""Objects that can be written down as a name and its arguments, and built again from them."""

import functools
import inspect
import reprlib
import types
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from torch import Tensor


class Described:
    """Remembers the arguments an object was made with, so that weights can carry the recipe of their network.

    A subclass inherits this by being defined; nothing has to be called. `describe` writes the recipe, `build` follows
    it. Where a constructor hands `**options` on to that of its base, the options and their defaults are remembered too.
    """

    arguments: dict[str, Any] = {}  # noqa: RUF012  of a class that takes none; others get their own
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
        return {name: _plain(value) for name, value in self.arguments.items()}


def describe(thing: Any) -> dict[str, Any]:
    """The recipe of an object: `{"class_path": name, "init_args": {…}}`, of plain values (JSON, YAML)."""
    if is_dataclass(thing) and not isinstance(thing, type):
        arguments = {field.name: _plain(getattr(thing, field.name)) for field in fields(thing) if field.init}
        for name, value in arguments.items():
            if isinstance(value, Tensor):
                raise ValueError(
                    f"{type(thing).__name__}: {name} is a tensor of shape {tuple(value.shape)}, which a recipe cannot "
                    "hold; give numbers"
                )
    else:
        arguments = thing.description()
    return {"class_path": type(thing).__name__, "init_args": arguments}


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
    known = {cls.__name__: cls for cls in subclasses(bases[0]) if not inspect.isabstract(cls)}
    name = recipe["class_path"].rpartition(".")[2]
    if name not in known:
        raise ValueError(f"unknown {bases[0].__name__} {reprlib.repr(name)}; known: {', '.join(sorted(known))}")
    arguments = {key: _build_nested(value, bases[1:]) for key, value in arguments.items()}
    _check_types(known[name], arguments)
    try:
        return known[name](**arguments)
    except ValueError:
        raise
    except Exception as error:  # what else comes of arguments that nobody thought of
        raise ValueError(f"{name} cannot be built from {reprlib.repr(arguments)}: {error}") from error


def _build_nested(value: Any, bases: tuple[type, ...]) -> Any:
    if isinstance(value, list):
        return [_build_nested(item, bases) for item in value]
    if not (isinstance(value, dict) and "class_path" in value):
        return value
    for base in bases:
        if any(cls.__name__ == value["class_path"] for cls in subclasses(base)):
            return build(value, base, *bases)
    raise ValueError(f"unknown class {reprlib.repr(value['class_path'])} in a recipe")


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


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if is_dataclass(value) or isinstance(value, Described):
        return describe(value)
    return value
