"""`--operator CLASS` of commands that take images of any size: an operator that is given no height follows them."""

import inspect
import re
from collections.abc import Callable

from jsonargparse import set_parsing_settings

from unrolled.cli import command_line
from unrolled.operators import Coils, DrawnOperator, Kernel, LinearOperator, Noise, SamplingMask
from unrolled.system.recipes import find_class

SIDE = 64
"""Pixels that a height and a width have until an image is there."""


def run(command: str, function: Callable[..., int | None], argv: list[str]) -> int:
    """Call the function of a command, as `command_line.run` does, that takes an operator and modules of one's own.

    The function gets an operator without a height as a draw without ranges, which makes it for images of every size.
    """
    set_parsing_settings(subclasses_enabled=[Noise, SamplingMask, Coils, Kernel])
    parser = command_line.parser_for(command, function)
    argv = command_line.import_modules(parser, argv)
    sizes = sizes_to_follow(argv)
    options = parser.instantiate(parser.parse_args([*argv, *(sizes or [])]))
    if sizes is not None:
        options.operator = DrawnOperator(options.operator)
    return command_line.call(function, options)


def sizes_to_follow(argv: list[str]) -> list[str] | None:
    """Options that complete an operator on a command line whose images say how large it is.

    Parameters
    ----------
    argv : list of str

    Returns
    -------
    list of str or None
        a height and a width for an operator that needs them; None if it has a size, is drawn already, or is none.
    """
    given = dict(_options(argv))
    name = given.get("class_path", given.get(""))
    kind = None if name is None else find_class(name, LinearOperator)
    if kind is None or {"height", "width"} & {*given}:
        return None
    known = inspect.signature(kind).parameters
    from_file = re.search(r"\.\w+(\{|$)", given.get("mask", ""))  # which has a size of its own
    needed = "height" in known and (known["height"].default is inspect.Parameter.empty or "mask" in known)
    return [f"--operator.{side}={SIDE}" for side in ("height", "width")] if needed and not from_file else []


def _options(argv: list[str]) -> list[tuple[str, str]]:
    """What is said of the operator: the names of arguments, empty for the class, and their values."""
    found = []
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        if option := re.match(r"--operator(?:\.([^=]*))?(?:=(.*))?$", word, re.DOTALL):
            found.append((option[1] or "", following if option[2] is None else option[2]))
    return found
