import enum
import json
import re
from abc import ABC
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from unrolled.penalties import L1, Blocks, Filters, Grouped, Grouping, LogSum, Penalty, SparseGroup, Weighted
from unrolled.system.recipes import (
    PROGRAM,
    Described,
    build,
    class_path,
    describe,
    find_class,
    only_a_program_makes,
    subclasses,
    why_not_built,
    writable,
)


class Tool(Described):
    def __init__(self, size: int = 1, weight: float | None = None, name: str = "a", parts: tuple[str, ...] = ()):
        self.size, self.weight, self.parts = size, weight, parts


class Loose(Tool):
    def __init__(self, thing: "NowhereDefined" = None):  # noqa: F821
        self.thing = thing


@pytest.mark.parametrize(
    "arguments",
    [{}, {"size": 3}, {"weight": 1}, {"weight": None}, {"weight": 0.5, "name": "b"}, {"parts": ["x", "y"]}, None],
)
def test_arguments_of_their_types_are_taken(arguments):
    tool = build({"class_path": "Tool", "init_args": arguments}, Tool)
    assert {name: tool.arguments[name] for name in arguments or {}} == (arguments or {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "3"}, "Tool: size must be int, got '3'"),
        ({"size": 3.0}, "size must be int"),
        ({"size": True}, "size must be int"),
        ({"size": None}, "size must be int"),
        ({"weight": "heavy"}, "weight must be float | None"),
        ({"parts": "xy"}, "parts must be tuple"),
        ({"colour": "red"}, "Tool cannot be built from"),
        ({"name": "x" * 10**6, "size": []}, "size must be"),
        ([1], "a recipe must be"),
        ("text", "a recipe must be"),
    ],
)
def test_other_arguments_are_refused_in_few_words(arguments, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")) as caught:
        build({"class_path": "Tool", "init_args": arguments}, Tool)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("recipe", [None, 3, "Tool", [], {}, {"class_path": 3}, {"class_path": "x" * 10**6}])
def test_what_is_no_recipe_is_refused_in_few_words(recipe):
    with pytest.raises(ValueError, match=r"a recipe must be|unknown Tool") as caught:
        build(recipe, Tool)
    assert len(str(caught.value)) < 500


def test_types_that_cannot_be_found_are_not_checked():
    assert build({"class_path": "Loose", "init_args": {"thing": 3}}, Tool).thing == 3


class Material(ABC):  # noqa: B024
    """What nested values are made of; not abstract in fact."""


class Edge(ABC):  # noqa: B024
    pass


@dataclass(frozen=True)
class Steel(Material):
    carbon: float = 0.3


@dataclass(frozen=True)
class Plated(Material):
    inner: Material
    edge: Edge | None = None
    weight: float = field(default=1.0, init=False)


@dataclass(frozen=True)
class Round(Edge):
    radii: tuple[float, ...] = (1.0, 2.0)

    def __post_init__(self):
        object.__setattr__(self, "radii", tuple(self.radii))


class Box(Described):
    def __init__(self, walls: Material | list[Material] | None = None):
        self.walls = walls


@pytest.mark.parametrize(
    "walls",
    [
        None,
        Steel(0.5),
        Plated(Steel(0.7), Round()),
        Plated(Plated(Steel())),
        [Steel(), Plated(Steel(0.1), Round((3.0,))), Steel(0.5)],
    ],
)
def test_nested_objects_and_lists_are_built_again(walls):
    recipe = json.loads(json.dumps(describe(Box(walls))))
    again = build(recipe, Box, Material, Edge)
    assert describe(again) == recipe
    assert again.walls == walls


def test_the_base_itself_is_nested_only_where_that_is_said():
    thing = Plated(Plated(Steel(0.4)))
    assert build(describe(thing), Material, Material) == thing
    with pytest.raises(ValueError, match=r"unknown class '.*Plated' in a recipe"):
        build(describe(thing), Material)
    with pytest.raises(ValueError, match=r"unknown class '.*Round' in a recipe"):
        build(describe(Plated(Steel(), Round())), Material, Material)


def test_what_is_of_another_kind_is_refused_in_nested_places_too():
    for walls in ({"class_path": "Round"}, [{"class_path": "os.system"}], {"class_path": "Box"}):
        with pytest.raises(ValueError, match=r"walls must be|unknown class"):
            build({"class_path": "Box", "init_args": {"walls": walls}}, Box, Material, Edge)


def test_a_large_tensor_as_a_parameter_is_refused():
    with pytest.raises(ValueError, match=r"Steel: carbon is a tensor of shape \(20000,\), which a recipe cannot hold"):
        describe(Box([Steel(torch.ones(20_000))]))


class Colour(enum.Enum):
    RED = 1


class Anything(Tool):
    def __init__(self, thing=None):
        self.thing = thing


VALUES = {
    "array": np.linspace(0, 180, 7),
    "single precision": np.float32([[0.1, np.nan, -np.inf]]),
    "whole numbers": np.array([-(2**62), 3])[::-1],
    "truth": np.array([True, False]),
    "empty": np.zeros((0, 3), np.int16),
    "complex": np.array([1 + 2j, 0.1j], np.complex64),
    "tensor": torch.linspace(0, 1, 6).reshape(2, 3),
    "bfloat16": torch.tensor([0.1, 3], dtype=torch.bfloat16),
    "complex tensor": torch.tensor([[1 - 1j]], dtype=torch.complex128),
    "no axes": torch.tensor(3),
    "number": np.float64(0.1),
    "whole number": np.int64(3),
    "complex number": np.complex64(1 + 2j),
    "infinite": float("inf"),
    "tuple": (3, (0.5, None)),
    "range": range(2, 9, 3),
    "set": {3, 1},
    "frozen set": frozenset({"a"}),
    "type": torch.float16,
    "type of NumPy": np.dtype(">f4"),
    "path": Path("a/b.npy"),
    "nested": {"a": [np.array([1.5]), {"b": (torch.ones(1),)}]},
}


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (np.ndarray, torch.Tensor)):
        as_array = torch.Tensor.numpy if isinstance(a, torch.Tensor) and a.dtype != torch.bfloat16 else lambda x: x
        return type(a) is type(b) and a.dtype == b.dtype and str(as_array(a)) == str(as_array(b)) and a.shape == b.shape
    return a == b and type(getattr(a, "item", lambda: a)()) is type(b)


@pytest.mark.parametrize("name", VALUES)
def test_values_without_a_word_in_json_come_back_as_they_were(name):
    value = VALUES[name]
    recipe = json.loads(json.dumps(writable(describe(Anything(value))), allow_nan=False))
    assert why_not_built(recipe, "it", Anything) is None
    assert same(value, build(recipe, Anything).thing)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (torch.abs, "box.walls, a builtin_function_or_method"),
        (np.zeros(20_000), "box.walls, a ndarray"),
        (torch.zeros(3, requires_grad=True), "box.walls, a Tensor"),
        (torch.nn.Parameter(torch.zeros(3)), "box.walls, a Parameter"),
        (np.array([object()]), "box.walls, a ndarray"),
        (Colour.RED, "box.walls, a Colour"),
        (b"bytes", "box.walls, a bytes"),
        ([3, {"a": torch.nn.ReLU()}], "box.walls.1.a, a ReLU"),
        (np.ones(3), "box.walls: Box: walls must be .*, got array"),
        (Steel(0.1), "box.walls, of the class tests.system.test_recipes.Steel"),
    ],
)
def test_what_is_in_the_way_of_a_recipe_is_named(value, reason):
    recipe = json.loads(json.dumps(writable(describe(Box(value)))))
    assert re.fullmatch(f"(?s){reason}.*", why_not_built(recipe, "box", Box))
    if isinstance(value, Steel):
        assert why_not_built(recipe, "box", Box, Material) is None


def test_constructors_without_names_and_classes_inside_of_functions_are_in_the_way():
    class Inner(Tool):
        pass

    class Listed(Tool):
        def __init__(self, *sizes):
            self.sizes = sizes

    Listed.__qualname__ = "Listed"
    assert "made inside of a function" in why_not_built(describe(Inner()), "tool", Tool)
    assert "not made of named arguments" in why_not_built(describe(Listed(1, 2)), "tool", Tool)


@pytest.mark.parametrize(
    "recipe",
    [
        {"class_path": "numpy.ndarray", "init_args": {"values": [1], "shape": [2], "dtype": "float32"}},
        {"class_path": "numpy.ndarray", "init_args": {"values": ["a"], "shape": [1], "dtype": "U100"}},
        {"class_path": "torch.Tensor", "init_args": {"values": [1], "shape": [1], "dtype": "save"}},
        {"class_path": "torch.Tensor", "init_args": {"values": [1], "shape": [10**12], "dtype": "int8"}},
        {"class_path": "range", "init_args": {"start": "a"}},
        {"class_path": "set", "init_args": {"items": [[]]}},
    ],
)
def test_values_that_cannot_be_made_are_refused(recipe):
    with pytest.raises(ValueError, match="cannot be made of"):
        build({"class_path": "Box", "init_args": {"walls": recipe}}, Box)


@pytest.mark.parametrize(
    "penalty",
    [
        Grouped(L1(), Filters()),
        Grouped(Weighted(LogSum(0.2), 2.0), Blocks((2, 2))),
        SparseGroup(L1(), Grouped(L1(), Filters())),
    ],
    ids=str,
)
def test_penalties_of_penalties_are_built_again(penalty):
    recipe = json.loads(json.dumps(describe(penalty)))
    assert build(recipe, Penalty, Penalty, Grouping) == penalty


def test_what_has_no_recipe_is_marked_and_named():
    thing = writable(describe(Box([Steel(), Plated(torch.abs), {"a": torch.nn.ReLU(), 1: 2}, {"b": [3, None, 0.5]}])))
    json.dumps(thing)
    walls = thing["init_args"]["walls"]
    assert walls[1]["init_args"]["inner"] == {PROGRAM: type(torch.abs).__name__}
    assert walls[2] == {PROGRAM: "dict"}  # as JSON, its number would become text
    assert walls[3] == {"b": [3, None, 0.5]}
    assert only_a_program_makes({"x": {"init_args": {"y": [1, {PROGRAM: "Conv2d"}]}}}, "box") == "box.x.y.1, a Conv2d"
    assert only_a_program_makes(writable(describe(Box([Steel(0.1)]))), "box") is None
    deep = []
    for _ in range(10**5):
        deep = [deep]
    assert only_a_program_makes(deep, "box") is None


def test_classes_of_the_package_are_named_by_their_name_alone():
    assert class_path(L1) == "L1"
    assert class_path(Tool) == f"{__name__}.Tool"
    assert find_class("L1", Penalty) is find_class("unrolled.anywhere.L1", Penalty) is L1
    assert find_class("elsewhere.L1", Penalty) is find_class("Steel", Penalty) is None


@pytest.mark.parametrize("base", [*Described.__subclasses__(), Penalty, Grouping], ids=lambda base: base.__name__)
def test_names_of_the_package_are_those_of_one_class(base):
    names = [cls.__name__ for cls in {*subclasses(base)} if cls.__module__.startswith("unrolled.")]
    assert len(names) == len(set(names))


def test_of_two_classes_of_one_path_neither_is_guessed():
    def define(base):
        class Twin(base):
            pass

        return Twin

    kept = [define(Tool), define(Tool)]
    with pytest.raises(ValueError, match=r"may be any of 2 classes"):
        build({"class_path": class_path(kept[0]), "init_args": {}}, Tool)
