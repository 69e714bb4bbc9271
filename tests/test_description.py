import pytest

from unrolled.description import Described, build


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
    tool = build({"class_path": "anywhere.Tool", "init_args": arguments}, Tool)
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
