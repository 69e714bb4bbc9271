"""How the code is laid out: rooms on floors, arrows that only go down, names that say what is meant."""

import ast
import graphlib
import importlib
import sys
import types
from functools import cache
from pathlib import Path

import pytest

import unrolled

PACKAGE = Path(unrolled.__file__).parent
TESTS = Path(__file__).parents[1]

FLOORS = [
    {"system"},
    {"metrics", "penalties", "operators", "data", "classifiers"},
    {"solvers", "sparsify", "figures"},
    {"networks"},
    {"weights"},
    {"training", "reconstruction", "programs"},
    {"cli"},
]
"""From the ground up. A room knows those below it, and none beside it."""

LONG: dict[str, str] = {}
"""Modules of more lines than LONGEST, and why they are one subject."""

LONGEST = 400

MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def is_package(name: str) -> bool:
    return MODULES[name].name == "__init__.py"


def imported(name: str) -> set[str]:
    """The modules of the package that a module imports, wherever in it: names of packages, resolved to submodules."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            module = node.module or ""
            for alias in node.names:
                full = f"{module}.{alias.name}"
                found.add(full if full in MODULES else module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {module for module in found if module in MODULES} - {name}


def room(name: str) -> str:
    """The first part of a module's name below the package."""
    return name.split(".")[1] if "." in name else ""


@cache
def arrows() -> dict[str, set[str]]:
    """What each module imports."""
    return {name: imported(name) for name in MODULES}


def test_every_room_has_a_floor():
    assert {room(name) for name in MODULES} - {""} == set().union(*FLOORS)
    assert {name for name in MODULES if name.count(".") == 1 and not is_package(name)} == {"unrolled.metrics"}


def test_nothing_imports_upward():
    floor = {part: level for level, parts in enumerate(FLOORS) for part in parts}
    for name, others in arrows().items():
        for other in others:
            if room(name) in ("", room(other)):
                continue
            assert room(other), f"{name} imports the package as a whole"
            assert floor[room(other)] < floor[room(name)], f"{name} imports {other}"


@pytest.mark.parametrize("part", sorted(set().union(*FLOORS)))
def test_there_are_no_circles_inside_of_a_room(part):
    inside = {name for name in MODULES if room(name) == part}
    # A package's own file hands names on. Who imports from it inside of the room ties himself to all that it imports.
    graphlib.TopologicalSorter({name: arrows()[name] & inside for name in inside}).prepare()


def test_names_of_files_are_unique():
    files: dict[str, list[str]] = {}
    for name in MODULES:
        if not is_package(name):
            files.setdefault(name.rpartition(".")[2], []).append(name)
    assert {file: names for file, names in files.items() if len(names) > 1} == {}


def test_no_module_has_the_name_of_what_it_defines():
    defined = {
        name: {node.name for node in parsed.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        for name, parsed in ((name, tree(name)) for name in MODULES)
    }
    assert [name for name in MODULES if name.rpartition(".")[2] in defined[name]] == []


def test_no_package_hides_a_module_of_its_own():
    for name in MODULES:
        parent, _, last = name.rpartition(".")
        if parent and is_package(parent):
            importlib.import_module(name)
            assert isinstance(getattr(sys.modules[parent], last), types.ModuleType), f"{parent}.{last} is no module"


def test_modules_are_short_or_say_why():
    lengths = {name: len(MODULES[name].read_text(encoding="utf-8").splitlines()) for name in MODULES}
    assert {name: length for name, length in lengths.items() if length > LONGEST and name not in LONG} == {}
    assert {name for name in LONG if lengths.get(name, 0) <= LONGEST} == set()


def test_every_module_says_what_it_is():
    for name, parsed in ((name, tree(name)) for name in MODULES):
        assert ast.get_docstring(parsed), name


def test_private_names_stay_where_they_are():
    for name, parsed in ((name, tree(name)) for name in MODULES):
        for node in ast.walk(parsed):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unrolled"):
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not private, f"{name} imports {private} from {node.module}"


def test_the_readme_shows_the_house():
    text = (TESTS.parent / "README.md").read_text(encoding="utf-8").split("## How it is laid out", 1)[1]
    names = [line.split()[0].strip("/") for line in text.split("```")[1].splitlines() if line.startswith("  ")]
    shown = [name.removesuffix(".py") for name in names]
    assert set(shown) == set().union(*FLOORS)
    floor = {part: level for level, parts in enumerate(FLOORS) for part in parts}
    assert [floor[part] for part in shown] == sorted((floor[part] for part in shown), reverse=True)


def test_tests_mirror_the_rooms():
    rooms = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_dir() and any(path.glob("*.py"))}
    for path in sorted(TESTS.rglob("test_*.py")):
        folder = path.parent.relative_to(TESTS)
        if folder.parts[:1] not in ((), ("project",), ("benchmarks",)):
            assert folder in rooms, f"{path.relative_to(TESTS)} is a test of no room"
    names = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    untested = {str(name) for name in names if not any((TESTS / name.parent).rglob("test_*.py"))}
    assert untested == set()
