"""Penalties by their names."""

import ast
import inspect
from dataclasses import fields
from typing import Any

import unrolled.penalties
from unrolled.penalties import Penalty, SeparablePenalty
from unrolled.system.recipes import build


def penalty_classes() -> dict[str, type[Penalty]]:
    """Every penalty that the package offers, by its name, in the order of the alphabet."""
    offered = {name: getattr(unrolled.penalties, name) for name in sorted(unrolled.penalties.__all__, key=str.lower)}
    return {
        name: cls
        for name, cls in offered.items()
        if isinstance(cls, type) and issubclass(cls, Penalty) and not inspect.isabstract(cls)
    }


def drawable_penalties() -> dict[str, SeparablePenalty]:
    """Every penalty of single numbers that can be made without arguments, with its default parameters."""
    found = {}
    for name, cls in penalty_classes().items():
        ready = all(each.default is not each.empty for each in inspect.signature(cls).parameters.values())
        if ready and issubclass(cls, SeparablePenalty):
            found[name] = cls()
    return found


def parse_penalty(text: str) -> Penalty:
    """The penalty that is written as `MCP`, `MCP(gamma=1, b=3)` or `MCP(1, 3)`.

    Nothing is executed: parameters are literals or penalties.

    Raises
    ------
    ValueError
        if the text is not of that form, or the name or its parameters are unknown or refused.
    """
    try:
        recipe = _recipe(ast.parse(text.strip(), mode="eval").body)
        if not isinstance(recipe, dict):
            raise ValueError
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if str(error).startswith("unknown"):
            raise
        raise ValueError(f"not a penalty: {text!r}; write a name, or as in MCP(gamma=1, b=2)") from None
    return build(recipe, Penalty, Penalty)


def _recipe(node: ast.expr) -> Any:
    """A recipe for `unrolled.system.recipes.build`, or a literal."""
    if isinstance(node, ast.Name):
        node = ast.Call(node, [], [])
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    if not isinstance(node.func, ast.Name):
        raise ValueError
    known = penalty_classes()
    if node.func.id not in known:
        raise ValueError(f"unknown penalty {node.func.id!r}; known: {', '.join(known)}")
    names = [field.name for field in fields(known[node.func.id])]
    arguments = dict(zip(names, map(_recipe, node.args), strict=False))
    if len(arguments) < len(node.args) or any(each.arg is None or each.arg in arguments for each in node.keywords):
        raise ValueError
    arguments |= {str(each.arg): _recipe(each.value) for each in node.keywords}
    return {"class_path": node.func.id, "init_args": arguments}


def label(penalty: Penalty) -> str:
    """The penalty as one writes it, with all its parameters, of six digits: `MCP(gamma=1, b=2)`."""
    parameters = {field.name: getattr(penalty, field.name) for field in fields(penalty)}
    written = ", ".join(f"{name}={_written(value)}" for name, value in parameters.items())
    return type(penalty).__name__ + (f"({written})" if written else "")


def _written(value: Any) -> str:
    if isinstance(value, Penalty):
        return label(value)
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
