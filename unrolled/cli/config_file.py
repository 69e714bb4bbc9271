"""Config files are checked before they are followed: a few lines of YAML can ask for more than any memory."""

import os
import re
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

LARGEST = 100_000
"""Bytes in a config, at most."""

DEEPEST = 30
"""Lists and mappings inside each other, at most."""

NUMBER = re.compile(r"[-+]?[\d_]{21,}")
"""Whole numbers beyond 64 bits: none is a size or a seed, and many are no float either."""

_load = get_loader("yaml")
_Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the former is not built everywhere, and eight times as fast


def guard_yaml() -> None:
    """Let every YAML that is parsed, of configs and of the command line, be checked first."""
    set_loader("yaml", load, (yaml.YAMLError,))


def load(text: str) -> Any:
    """Parse YAML that is not large, not deep and without aliases, by which lists of lists grow without end.

    Raises
    ------
    yaml.YAMLError
        which the parser of the command line turns into its message.
    """
    if not is_text(text):
        raise yaml.YAMLError("settings must be text in UTF-8")
    if len(text) > LARGEST:
        raise yaml.YAMLError(f"a config must have at most {LARGEST:,} characters, got {len(text):,}")
    depth = 0
    for event in yaml.parse(text, _Parser):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            problem = f"lists and mappings may be nested {DEEPEST} deep"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and NUMBER.fullmatch(event.value):
            problem = f"whole numbers may have at most 20 digits, got {len(event.value):,}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            problem = f"aliases (*{event.anchor[:100]}) are not allowed: write the value"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
    try:
        return _load(text)
    except yaml.YAMLError:
        raise
    except Exception as error:  # the library lets others out: of thousands of digits, of an empty !!int
        raise yaml.YAMLError(f"a value cannot be read: {error}") from error


def is_text(value: str) -> bool:
    """Whether a value can be written as UTF-8; names of files need not."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def check_config(path: str) -> str:
    """Return the path of a config; what does not exist is left to the parser of the command line.

    Raises
    ------
    ValueError
        if it is not a regular file, too large, not text, or not a mapping of settings.
    """
    if os.path.lexists(path):
        read_settings(path)
    return path


def read_settings(path: str) -> dict[str, Any]:
    """The settings in a config.

    Raises
    ------
    ValueError
        if it is not a regular file, too large, not text, or not a mapping of settings.
    """
    if not os.path.isfile(path):
        raise ValueError(f"config: {path} is not a regular file")
    if (size := os.path.getsize(path)) > LARGEST:
        raise ValueError(f"config: {path} must have at most {LARGEST:,} bytes, got {size:,}")
    try:
        settings = load(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"config: {path} is not text in UTF-8: {error}") from None
    except yaml.MarkedYAMLError as error:
        what = ", ".join(part for part in (error.context, error.problem) if part)
        where = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ValueError(f"config: {path}{where} cannot be read: {what}") from None
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"config: {path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"config: {path} must hold settings (network: …, operator: …), got {str(settings)[:100]!r}")
    if "config" in settings:
        raise ValueError(f"config: {path} names another config, which is not followed")
    return settings
